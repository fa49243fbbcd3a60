//! What needs somebody: from the status to a list with what to do about each, for the overview of the console and for `postcall status`.
//! Pure, so that each case has a test.

use super::words::{count, long, long_since, number};
use crate::domain::closed_set::closed_set;
use crate::domain::delivery::State;
use crate::domain::report::HostCondition;
use crate::domain::visible::visible;
use crate::store::history::StateCount;
use crate::store::open_deliveries::OpenDeliveries;
use crate::store::partitions::Headroom;
use crate::store::status::{Count, Life, Status};

mod left_open;

pub use left_open::since;

/// Below this age, what waits is only on its way.
const LONG_WAIT_MS: i64 = 60_000;
/// Housekeeping makes partitions one period ahead: a week of the outbox. Less than this means that it does not run.
const LEAST_DAYS: i64 = 3;
/// The most hosts, and the most dispatchers, that are named one by one.
const MOST_NAMED: usize = 5;

closed_set! {
    /// How soon somebody is needed. In the order of urgency.
    pub enum Urgency {
        /// At once: nothing is sent, or something is about to go wrong.
        Urgent = "urgent",
        /// Today: something is not as it should be.
        Look = "look into",
        /// Not at all, but it is good to know.
        Know = "know",
    }
}

/// Something that needs somebody.
#[derive(Debug)]
pub struct Need {
    /// How soon.
    pub urgency: Urgency,
    /// What is the matter.
    pub what: String,
    /// What to do about it.
    pub cure: &'static str,
    /// The command to do it with.
    pub command: Option<&'static str>,
    /// Where the console shows it: address and name.
    pub link: Option<(&'static str, &'static str)>,
}

impl Need {
    /// Whether somebody has to do something about it, and does not only have to know.
    pub fn is_for_somebody(&self) -> bool {
        self.urgency != Urgency::Know
    }
}

/// What needs somebody, the most urgent first. What could not be read is `None`.
pub fn needs(
    status: Option<&Status>,
    last_hour: Option<&[StateCount]>,
    open: Option<&OpenDeliveries>,
    headroom: Option<&[Headroom]>,
) -> Vec<Need> {
    let mut needs = Vec::new();
    if let Some(status) = status {
        dispatchers(status, &mut needs);
        queue(status, &mut needs);
        hosts(status, &mut needs);
        pauses(status, &mut needs);
    }
    match open {
        Some(open) => left_open::tell(open, &mut needs),
        None => failures(last_hour.unwrap_or_default(), &mut needs),
    }
    partitions(headroom.unwrap_or_default(), &mut needs);
    needs.sort_by_key(|need| Urgency::ALL.iter().position(|urgency| *urgency == need.urgency));
    needs
}

fn dispatchers(status: &Status, needs: &mut Vec<Need>) {
    if !status.dispatchers.iter().any(|dispatcher| matches!(dispatcher.life, Life::Alive { .. })) {
        needs.push(Need {
            urgency: Urgency::Urgent,
            what: "No dispatcher runs: nothing is sent.".to_owned(),
            cure: "Start one.",
            command: Some("postcall run"),
            link: None,
        });
    }
    let ended = |life| match life {
        Life::Overdue { since_ms } => Some(format!("has not renewed its lease for {}", long(since_ms))),
        Life::Lost { at } => Some(format!("was lost at {}", at.format("%H:%M:%S UTC"))),
        Life::Alive { .. } | Life::Stopped { .. } => None,
    };
    let lost = status.dispatchers.iter().filter_map(|one| ended(one.life).map(|how| (one.name.as_str(), how)));
    for (name, how) in lost.take(MOST_NAMED) {
        needs.push(Need {
            urgency: Urgency::Look,
            what: format!("Dispatcher {} {how}.", visible(name)),
            cure: "What it had in flight becomes unknown. Find out why it ended: its log, the machine, the network.",
            command: None,
            link: Some(("/deliveries?state=unknown&error_kind=dispatcher_lost", "Its unknown deliveries")),
        });
    }
}

fn queue(status: &Status, needs: &mut Vec<Need>) {
    if let Some(oldest) = status.oldest_waiting.filter(|oldest| oldest.age_ms >= LONG_WAIT_MS) {
        let paused = if status.active_pauses > 0 { " Something is paused, which may be why." } else { "" };
        needs.push(Need {
            urgency: Urgency::Look,
            what: format!("The oldest delivery has waited for {}.{paused}", long(oldest.age_ms)),
            cure: "See below whether dispatchers run, whether their places are full, and whether a host or a pause holds it \
                   back.",
            command: Some("postcall status"),
            link: Some(("/deliveries?state=waiting", "What waits")),
        });
    }
    if status.in_doubt.counted > 0 || status.in_doubt.is_more {
        needs.push(Need {
            urgency: Urgency::Look,
            what: deliveries(
                status.in_doubt,
                "is unknown, and nobody has said what became of it.",
                "are unknown, and nobody has said what became of them.",
            ),
            cure: "Ask the receiver, by the webhook-id, whether it has the message. Then record what you found out.",
            command: Some("postcall resolve DELIVERY_ID --as delivered --reason '…'"),
            link: Some(("/deliveries?state=unknown", "What is unknown")),
        });
    }
}

fn hosts(status: &Status, needs: &mut Vec<Need>) {
    let unwell = status.hosts();
    let unwell = unwell.iter().filter(|(_, host)| host.condition != HostCondition::Answering);
    for (dispatcher, host) in unwell.take(MOST_NAMED) {
        let (how, cure) = match host.condition {
            HostCondition::Unreachable { since_ms, last_error_kind, .. } => (
                format!("has been unreachable for {} ({last_error_kind})", long_since(since_ms)),
                "Its deliveries wait, and go out by themselves when it can be reached. Tell whoever runs it.",
            ),
            HostCondition::Silent { since_ms } => (
                format!("has not answered in time for {}", long_since(since_ms)),
                "It gets few places until it answers. To send it nothing for the time being, pause it.",
            ),
            HostCondition::Answering => continue,
        };
        needs.push(Need {
            urgency: Urgency::Look,
            what: format!("Host {} {how}, as dispatcher {dispatcher} sees it.", visible(&host.host)),
            cure,
            command: Some("postcall pause host NAME --reason '…'"),
            link: Some(("/deliveries?state=unknown&state=failed&since=1h", "What failed or is unknown")),
        });
    }
}

fn pauses(status: &Status, needs: &mut Vec<Need>) {
    if status.active_pauses > 0 {
        let are = if status.active_pauses == 1 { "pause is" } else { "pauses are" };
        needs.push(Need {
            urgency: Urgency::Know,
            what: format!("{} {are} in force: what is paused waits.", number(status.active_pauses)),
            cure: "Resume what need not wait any longer.",
            command: Some("postcall resume …"),
            link: Some(("#pauses", "The pauses")),
        });
    }
}

/// What failed or was rejected in the last hour, for who may not read what became of it since.
fn failures(last_hour: &[StateCount], needs: &mut Vec<Need>) {
    for counted in last_hour {
        let what = |one, many| format!("{} in the last hour.", deliveries(up_to(counted.count), one, many));
        needs.push(match counted.state {
            State::Failed => failed(what("failed", "failed")),
            State::Rejected => rejected(what("was rejected by its receiver", "were rejected by their receivers")),
            _ => continue,
        });
    }
}

fn failed(what: String) -> Need {
    Need {
        urgency: Urgency::Look,
        what,
        cure: "Each says why; when that is mended, send them by a replay.",
        command: Some("postcall replay --open --state failed --since TIME --reason '…' --dry-run"),
        link: Some(("/deliveries?state=failed&open=1&since=1h", "What failed")),
    }
}

fn rejected(what: String) -> Need {
    Need {
        urgency: Urgency::Look,
        what,
        cure: "Whatever was rejected was received and refused. Look at the codes: 4xx is mostly the action, 5xx the receiver.",
        command: None,
        link: Some(("/deliveries?state=rejected&open=1&since=1h", "What was rejected")),
    }
}

fn partitions(headroom: &[Headroom], needs: &mut Vec<Need>) {
    for short in headroom.iter().filter(|headroom| headroom.days() < LEAST_DAYS) {
        let (table, days) = (&short.table, short.days());
        needs.push(Need {
            urgency: Urgency::Urgent,
            what: format!("The table {table} has partitions for {days} more days only."),
            cure: "Nothing fails, but what comes later cannot be dropped as a whole. A dispatcher makes partitions every \
                   hour: its log says what keeps it from that.",
            command: None,
            link: None,
        });
    }
}

const ONE: Count = Count { counted: 1, is_more: false };

/// The most deliveries of a state that are counted for the last hour.
pub const MOST_COUNTED: usize = 10_000;

/// The count of a state, which is one more than [`MOST_COUNTED`] if there are more.
pub fn up_to(found: i64) -> Count {
    let most = i64::try_from(MOST_COUNTED).unwrap_or(i64::MAX);
    Count { counted: found.min(most), is_more: found > most }
}

fn deliveries(how_many: Count, one: &str, many: &str) -> String {
    if how_many == ONE {
        return format!("1 delivery {one}");
    }
    let words = count(how_many);
    let mut letters = words.chars();
    let first: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{} deliveries {many}", letters.as_str())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::report::{HostReport, Report};
    use crate::store::status::{DispatcherStatus, Oldest, Reported};

    const NONE: Count = Count { counted: 0, is_more: false };

    fn calm() -> Status {
        Status {
            at: DateTime::UNIX_EPOCH,
            dispatchers: vec![dispatcher(Life::Alive { lease_left_ms: 1 }, HostCondition::Answering)],
            waiting: NONE,
            oldest_waiting: None,
            in_flight: 0,
            in_doubt: NONE,
            paused: Vec::new(),
            active_pauses: 0,
        }
    }

    fn dispatcher(life: Life, condition: HostCondition) -> DispatcherStatus {
        let host =
            HostReport { host: "crm.example:443".to_owned(), limit: 1, in_flight: 0, waiting_lanes: 0, condition };
        let report = Report::new(1, 0, 0, vec![host]);
        DispatcherStatus {
            dispatcher_id: 1,
            name: "host:1".to_owned(),
            version: "0".to_owned(),
            started_at: DateTime::UNIX_EPOCH,
            life,
            in_flight: 0,
            reported: Some(Reported { age_ms: 0, report }),
        }
    }

    fn told(status: &Status, last_hour: &[StateCount], headroom: &[Headroom]) -> Vec<String> {
        told_of(needs(Some(status), Some(last_hour), None, Some(headroom)))
    }

    fn told_of(needs: Vec<Need>) -> Vec<String> {
        needs.into_iter().map(|need| format!("{}: {}", need.urgency, need.what)).collect()
    }

    fn headroom(days: i64) -> Headroom {
        let seconds = days as f64 * 86_400.0;
        Headroom { table: "outbox".to_owned(), until: Some(DateTime::UNIX_EPOCH), seconds }
    }

    #[test]
    fn where_all_is_well_nobody_is_needed() {
        let delivered = StateCount { state: State::Delivered, count: 5 };
        assert_eq!(told(&calm(), &[delivered], &[headroom(10)]), Vec::<String>::new());
    }

    #[test]
    fn each_trouble_is_told_the_most_urgent_first() {
        let at = DateTime::UNIX_EPOCH;
        let mut status = calm();
        status.dispatchers = vec![
            dispatcher(Life::Lost { at }, HostCondition::Answering),
            dispatcher(Life::Overdue { since_ms: 61_000 }, HostCondition::Answering),
        ];
        status.oldest_waiting = Some(Oldest { created_at: at, age_ms: 120_000 });
        status.in_doubt = Count { counted: 1, is_more: false };
        status.active_pauses = 2;
        let last_hour =
            [StateCount { state: State::Failed, count: 10_001 }, StateCount { state: State::Rejected, count: 1 }];
        assert_eq!(
            told(&status, &last_hour, &[headroom(0)]),
            [
                "urgent: No dispatcher runs: nothing is sent.",
                "urgent: The table outbox has partitions for 0 more days only.",
                "look into: Dispatcher host:1 was lost at 00:00:00 UTC.",
                "look into: Dispatcher host:1 has not renewed its lease for 1 min 1 s.",
                "look into: The oldest delivery has waited for 2 min 0 s. Something is paused, which may be why.",
                "look into: 1 delivery is unknown, and nobody has said what became of it.",
                "look into: More than 10,000 deliveries failed in the last hour.",
                "look into: 1 delivery was rejected by its receiver in the last hour.",
                "know: 2 pauses are in force: what is paused waits.",
            ]
        );
    }

    #[test]
    fn a_host_that_does_not_answer_is_told_with_its_condition() {
        let mut status = calm();
        let alive = Life::Alive { lease_left_ms: 1 };
        status.dispatchers = vec![dispatcher(alive, HostCondition::Silent { since_ms: 5_000 })];
        assert_eq!(
            told(&status, &[], &[]),
            ["look into: Host crm.example:443 has not answered in time for 5 s, as dispatcher 1 sees it."]
        );
    }
}
