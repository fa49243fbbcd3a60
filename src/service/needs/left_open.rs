//! What is told of open deliveries: those that somebody can do something about, and those that nobody can send again.

use super::{Need, ONE, Urgency, failed, rejected};
use crate::service::words::{at_least, long, number};
use crate::store::open_deliveries::OpenDeliveries;
use crate::store::status::Count;

/// What became open within this time is told by what failed or was rejected in the last hour.
const NEWLY_OPEN_MS: i64 = 3_600_000;
/// Where the console shows what is open.
const LINK: Option<(&str, &str)> = Some(("/deliveries?open=1", "What is open"));

/// What nobody has looked after for longer than the last hour. What is only unknown is told by itself, and what nobody can send again is
/// told apart.
pub(super) fn tell(open: &OpenDeliveries, needs: &mut Vec<Need>) {
    beyond_replay(open, needs);
    lately(open, needs);
    let Some(oldest) = open.oldest.filter(|oldest| oldest.age_ms >= NEWLY_OPEN_MS) else { return };
    let within_reach = open.within_reach();
    if within_reach.counted == open.unknown && !within_reach.is_more {
        return;
    }
    // If all that were counted are beyond replay, the oldest is one of the others.
    let within_reach = Count { counted: within_reach.counted.max(1), ..within_reach };
    let (are, were) = if within_reach == ONE { ("delivery is", "It was") } else { ("deliveries are", "They were") };
    needs.push(Need {
        urgency: Urgency::Look,
        what: format!(
            "{} {are} open, {}. {were} rejected, failed or unknown, and no later delivery of the message was delivered.",
            at_least(within_reach),
            since(open, oldest.age_ms)
        ),
        cure: "See what each says. When that is mended, send them by a replay; of what is unknown, ask the receiver first. What is \
               neither delivered by a replay nor found to be delivered stays open as long as history is kept.",
        command: Some("postcall replay --open --since TIME --reason '…' --dry-run"),
        link: LINK,
    });
}

/// What failed or was rejected in the last hour, without what a replay has delivered since.
fn lately(open: &OpenDeliveries, needs: &mut Vec<Need>) {
    let what = |counted: i64, one: &str, many: &str| match counted {
        1 => format!("1 delivery {one} in the last hour, and no replay has delivered it."),
        _ => {
            let counted = Count { counted, is_more: open.count.is_more };
            format!("{} deliveries {many} in the last hour, and no replay has delivered them.", at_least(counted))
        }
    };
    if open.rejected_lately > 0 {
        needs.push(rejected(what(
            open.rejected_lately,
            "was rejected by its receiver",
            "were rejected by their receivers",
        )));
    }
    if open.failed_lately > 0 {
        needs.push(failed(what(open.failed_lately, "failed", "failed")));
    }
}

/// What nobody has to do anything about, because nobody can.
fn beyond_replay(open: &OpenDeliveries, needs: &mut Vec<Need>) {
    let what = match open.beyond_replay {
        0 => return,
        1 => "1 open delivery has lost its call".to_owned(),
        many => format!("{} open deliveries have lost their calls", number(many)),
    };
    needs.push(Need {
        urgency: Urgency::Know,
        what: format!("{what}: call removed; nothing can be sent again."),
        cure: "Nothing is to be done. They failed or were rejected, and their calls were removed since, when they were as old as calls are \
               kept for. They are listed as open as long as history is kept.",
        command: None,
        link: LINK,
    });
}

/// Since when the oldest open delivery is there that somebody can do something about.
pub fn since(open: &OpenDeliveries, age_ms: i64) -> String {
    let age = long(age_ms);
    if open.may_be_older { format!("the oldest for {age} or longer") } else { format!("the oldest for {age}") }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::service::needs::needs;
    use crate::store::status::Oldest;

    fn told_of(needs: Vec<Need>) -> Vec<String> {
        needs.into_iter().map(|need| format!("{}: {}", need.urgency, need.what)).collect()
    }

    fn open(counted: i64, unknown: i64, age_ms: i64) -> OpenDeliveries {
        OpenDeliveries {
            count: Count { counted, is_more: counted == 1_000 },
            unknown,
            beyond_replay: 0,
            failed_lately: 0,
            rejected_lately: 0,
            oldest: Some(Oldest { created_at: DateTime::UNIX_EPOCH, age_ms }),
            may_be_older: false,
        }
    }

    #[test]
    fn what_has_been_open_for_longer_than_the_last_hour_needs_somebody() {
        const HOUR: i64 = 3_600_000;
        let told = |open: OpenDeliveries| told_of(needs(None, None, Some(&open), None));
        let why = "rejected, failed or unknown, and no later delivery of the message was delivered.";
        assert_eq!(
            told(open(1, 0, 2 * HOUR)),
            [format!("look into: 1 delivery is open, the oldest for 2 h 0 min. It was {why}")]
        );
        let many = format!("look into: 1,000 or more deliveries are open, the oldest for 30 d 0 h. They were {why}");
        assert_eq!(told(open(1_000, 0, 720 * HOUR)), [many.as_str()]);
        let healed = OpenDeliveries { may_be_older: true, ..open(1_000, 1_000, 720 * HOUR) };
        assert_eq!(told(healed), [many.replace("0 h.", "0 h or longer.")]);
        // These are told by what happened in the last hour, and by what is unknown.
        assert_eq!(told(open(3, 0, HOUR - 1)), Vec::<String>::new());
        assert_eq!(told(open(3, 3, 2 * HOUR)), Vec::<String>::new());
    }

    #[test]
    fn of_the_last_hour_only_what_no_replay_has_delivered_needs_somebody() {
        use crate::domain::delivery::State;
        use crate::store::history::StateCount;
        let last_hour =
            [StateCount { state: State::Failed, count: 5 }, StateCount { state: State::Rejected, count: 5 }];
        let told = |open: OpenDeliveries| told_of(needs(None, Some(&last_hour), Some(&open), None));
        assert_eq!(told(open(0, 0, 0)), Vec::<String>::new());
        assert_eq!(
            told(OpenDeliveries { failed_lately: 1, rejected_lately: 3, ..open(4, 0, 0) }),
            [
                "look into: 3 deliveries were rejected by their receivers in the last hour, and no replay has delivered them.",
                "look into: 1 delivery failed in the last hour, and no replay has delivered it.",
            ]
        );
        assert_eq!(
            told(OpenDeliveries { failed_lately: 1_000, ..open(1_000, 0, 0) }),
            ["look into: 1,000 or more deliveries failed in the last hour, and no replay has delivered them."]
        );
    }

    #[test]
    fn what_nobody_can_send_again_is_told_apart_and_needs_nobody() {
        const HOUR: i64 = 3_600_000;
        let tell = |open: OpenDeliveries| needs(None, None, Some(&open), None);
        let lost = "open deliveries have lost their calls: call removed; nothing can be sent again.";
        let all = tell(OpenDeliveries { beyond_replay: 3, oldest: None, ..open(3, 0, 0) });
        assert!(!all.iter().any(Need::is_for_somebody));
        assert_eq!(told_of(all), [format!("know: 3 {lost}")]);
        // What is unknown beside it is told by itself.
        let unknown = tell(OpenDeliveries { beyond_replay: 2, ..open(3, 1, 2 * HOUR) });
        assert_eq!(told_of(unknown), [format!("know: 2 {lost}")]);
        let why = "It was rejected, failed or unknown, and no later delivery of the message was delivered.";
        let one = format!("look into: 1 delivery is open, the oldest for 2 h 0 min. {why}");
        let some = tell(OpenDeliveries { beyond_replay: 2, ..open(3, 0, 2 * HOUR) });
        assert_eq!(told_of(some), [one.as_str(), &format!("know: 2 {lost}")]);
        // An older one than all that were counted.
        let older = tell(OpenDeliveries { beyond_replay: 1_000, ..open(1_000, 0, 2 * HOUR) });
        assert!(told_of(older)[0].starts_with("look into: 1 or more deliveries are open, the oldest for 2 h"));
    }
}
