//! Why a delivery waits: what holds it back, of what the database knows and the dispatchers report. Whatever it is, the
//! delivery is sent by itself when nothing of it is left.

use serde::Serialize;

use crate::domain::delivery::{Failure, State};
use crate::domain::duration::{long, long_since};
use crate::domain::host::Host;
use crate::domain::pause::{MOST_PAUSES, NamedTarget, PauseTarget};
use crate::domain::report::HostCondition;
use crate::domain::visible::visible;
use crate::store::history::HistoryRow;
use crate::store::pauses::PauseRecord;
use crate::store::status::{DispatcherStatus, Life};
use crate::store::waiting::Surroundings;
use crate::store::{Store, StoreError};

/// The most reasons of a kind that are told.
const MOST_TOLD: usize = 3;

/// Something that holds a delivery back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Which kind of reason it is, for programs.
    pub kind: &'static str,
    /// What it is, and who or what has to do something about it.
    pub words: String,
    /// The command that ends it, if a command does.
    pub cure: Option<String>,
}

/// What holds a delivery back, what weighs most first; empty if it does not wait, or nothing is known that holds it back.
///
/// # Errors
/// Those of the database.
pub async fn holds(store: &Store, row: &HistoryRow) -> Result<Vec<Hold>, StoreError> {
    if row.state != State::Waiting {
        return Ok(Vec::new());
    }
    let Some(around) = store.surroundings(&row.agent, &row.action, row.delivery_id).await? else {
        return Ok(Vec::new());
    };
    let pauses = store.active_pauses(i64::try_from(MOST_PAUSES).unwrap_or(i64::MAX)).await?;
    Ok(of(&row.agent, &around, &pauses, &store.dispatchers().await?))
}

/// The same, of what was read. Pure.
fn of(agent: &str, around: &Surroundings, pauses: &[PauseRecord], dispatchers: &[DispatcherStatus]) -> Vec<Hold> {
    let host = around.target.as_deref().and_then(Host::of_url);
    let paused = pauses.iter().filter(|pause| is_covered(pause, agent, around.action_id, host.as_ref()));
    let living: Vec<&DispatcherStatus> =
        dispatchers.iter().filter(|dispatcher| matches!(dispatcher.life, Life::Alive { .. })).collect();
    let mut holds: Vec<Hold> = no_dispatcher(&living, dispatchers).into_iter().collect();
    holds.extend(paused.take(MOST_TOLD).map(paused_by));
    if !around.enabled {
        let words = "Its action is disabled: it will be skipped when it has its turn.".to_owned();
        holds.push(Hold { kind: "disabled", words, cure: None });
    }
    holds.extend(host.iter().flat_map(|host| of_host(host, &living)).take(MOST_TOLD));
    holds.extend(places(around, &living));
    holds
}

fn is_covered(pause: &PauseRecord, agent: &str, action_id: i64, host: Option<&Host>) -> bool {
    let target = match (&pause.target, pause.action_id) {
        (NamedTarget::Agent(paused), _) => PauseTarget::Agent(paused.as_str().into()),
        (NamedTarget::Action { .. }, Some(action_id)) => PauseTarget::Action(action_id),
        (NamedTarget::Action { .. }, None) => return false,
        (NamedTarget::Host(paused), _) => match paused.parse() {
            Ok(pattern) => PauseTarget::Host(pattern),
            Err(_) => return false,
        },
    };
    target.covers(agent, action_id, host)
}

fn no_dispatcher(living: &[&DispatcherStatus], all: &[DispatcherStatus]) -> Option<Hold> {
    if !living.is_empty() {
        return None;
    }
    let last = all.iter().find_map(|dispatcher| match dispatcher.life {
        Life::Overdue { since_ms } => {
            Some(format!(" {} has not renewed its lease for {}.", visible(&dispatcher.name), long(since_ms)))
        }
        Life::Stopped { at } => {
            Some(format!(" {} stopped at {}.", visible(&dispatcher.name), at.format("%H:%M:%S UTC")))
        }
        Life::Lost { at } => Some(format!(" {} was lost at {}.", visible(&dispatcher.name), at.format("%H:%M:%S UTC"))),
        Life::Alive { .. } => None,
    });
    let words = format!("No dispatcher runs, so nothing is sent.{}", last.unwrap_or_default());
    Some(Hold { kind: "no_dispatcher", words, cure: Some("postcall run".to_owned()) })
}

fn paused_by(pause: &PauseRecord) -> Hold {
    let (target, begun) = (visible(&pause.target.to_string()).into_owned(), &pause.begun);
    let since = begun.at.format("%Y-%m-%d %H:%M:%S UTC");
    let words = format!("Paused: {target}, since {since}, by {}: {}", visible(&begun.by), visible(&begun.reason));
    let cure = match &pause.target {
        NamedTarget::Action { agent, name } => {
            format!("postcall resume action {} --name {} --reason '…'", quoted(agent), quoted(name))
        }
        NamedTarget::Agent(agent) => format!("postcall resume agent {} --reason '…'", quoted(agent)),
        NamedTarget::Host(host) => format!("postcall resume host {} --reason '…'", quoted(host)),
    };
    Hold { kind: "paused", words, cure: Some(cure) }
}

/// A name as an argument of a shell.
fn quoted(name: &str) -> String {
    let name = visible(name);
    let is_plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.:[]@".contains(letter));
    if is_plain && !name.is_empty() { name.into_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

/// What the dispatchers say of its host.
fn of_host<'d>(host: &'d Host, living: &'d [&DispatcherStatus]) -> impl Iterator<Item = Hold> {
    let name = host.to_string();
    living.iter().filter_map(move |dispatcher| {
        let reported = dispatcher.reported.as_ref()?;
        let seen = reported.report.hosts.iter().find(|seen| seen.host == name)?;
        let by = format!("as dispatcher {} saw it {} ago", dispatcher.dispatcher_id, long(reported.age_ms));
        let (kind, words) = match seen.condition {
            HostCondition::Unreachable { since_ms, last_error_kind, .. } => (
                "unreachable",
                format!(
                    "Its host {} has been unreachable for {} ({}), {by}. It is sent when the host can be reached again.",
                    visible(&name),
                    long_since(since_ms),
                    why(last_error_kind),
                ),
            ),
            HostCondition::Silent { since_ms } => (
                "silent",
                format!(
                    "Its host {} has not answered in time for {}, {by}. It gets few places until it answers: {} of {} are taken.",
                    visible(&name),
                    long_since(since_ms),
                    seen.in_flight,
                    seen.limit,
                ),
            ),
            HostCondition::Answering if seen.in_flight >= seen.limit => (
                "host_busy",
                format!("All {} places of its host {} are taken, {by}.", seen.limit, visible(&name)),
            ),
            HostCondition::Answering => return None,
        };
        Some(Hold { kind, words, cure: None })
    })
}

fn why(kind: Failure) -> &'static str {
    match kind {
        Failure::Dns => "its name could not be looked up",
        Failure::Connect => "no connection could be opened",
        Failure::Tls => "no TLS session could be opened",
        Failure::Render | Failure::Blocked => "nothing was sent to it",
    }
}

/// The places of the dispatchers and of the agent, and what waits before it.
fn places(around: &Surroundings, living: &[&DispatcherStatus]) -> Vec<Hold> {
    let mut holds = Vec::new();
    let reports: Vec<_> = living.iter().filter_map(|one| Some(&one.reported.as_ref()?.report)).collect();
    let all: usize = reports.iter().map(|report| report.concurrency).sum();
    if !reports.is_empty() && reports.iter().all(|report| report.in_flight >= report.concurrency) {
        let words = format!("All {all} places of the dispatchers are taken (`--concurrency`).");
        holds.push(Hold { kind: "places_taken", words, cure: None });
    }
    if around.agent_in_flight > 0 {
        let (requests, are) = if around.agent_in_flight == 1 { ("request", "is") } else { ("requests", "are") };
        let words = format!(
            "{} {requests} of its agent {are} in flight; an agent has a part of a dispatcher's places only \
             (`--concurrency-per-agent`).",
            around.agent_in_flight
        );
        holds.push(Hold { kind: "agent_busy", words, cure: None });
    }
    if around.ahead.counted > 0 {
        let more = if around.ahead.is_more { "More than " } else { "" };
        let wait =
            if around.ahead.counted == 1 { "delivery of its action waits" } else { "deliveries of its action wait" };
        holds.push(Hold {
            kind: "behind_others",
            words: format!("{more}{} {wait} before it.", around.ahead.counted),
            cure: None,
        });
    }
    holds
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::report::{HostReport, Report};
    use crate::store::pauses::Deed;
    use crate::store::status::{Count, Reported};

    const UNREACHABLE: HostCondition =
        HostCondition::Unreachable { since_ms: 180_000, last_error_kind: Failure::Connect, next_probe_in_ms: 9 };

    fn around() -> Surroundings {
        Surroundings {
            action_id: 7,
            enabled: true,
            target: Some("https://crm.example".to_owned()),
            agent_in_flight: 0,
            ahead: Count { counted: 0, is_more: false },
        }
    }

    fn pause(target: NamedTarget, action_id: Option<i64>) -> PauseRecord {
        let text = |text: &str| text.to_owned();
        let begun = Deed { at: DateTime::UNIX_EPOCH, by: text("Ada"), db_user: text("u"), reason: text("maintenance") };
        PauseRecord { pause_id: 1, target, action_id, begun, ended: None }
    }

    fn dispatcher(
        life: Life,
        in_flight: usize,
        host: &str,
        taken: usize,
        condition: HostCondition,
    ) -> DispatcherStatus {
        let host = HostReport { host: host.to_owned(), limit: 2, in_flight: taken, waiting_lanes: 1, condition };
        DispatcherStatus {
            dispatcher_id: 3,
            name: "host:1".to_owned(),
            version: "0".to_owned(),
            started_at: DateTime::UNIX_EPOCH,
            life,
            in_flight: 0,
            reported: Some(Reported { age_ms: 2_000, report: Report::new(16, in_flight, 0, vec![host]) }),
        }
    }

    fn well() -> Vec<DispatcherStatus> {
        vec![dispatcher(ALIVE, 1, "crm.example:443", 1, HostCondition::Answering)]
    }

    const ALIVE: Life = Life::Alive { lease_left_ms: 1 };

    fn kinds(around: &Surroundings, pauses: &[PauseRecord], dispatchers: &[DispatcherStatus]) -> Vec<&'static str> {
        of("a", around, pauses, dispatchers).into_iter().map(|hold| hold.kind).collect()
    }

    #[test]
    fn where_nothing_holds_it_back_nothing_is_said_to() {
        let others = [
            pause(NamedTarget::Agent("b".to_owned()), None),
            pause(NamedTarget::Action { agent: "a".to_owned(), name: "x".to_owned() }, Some(8)),
            pause(NamedTarget::Host("crm.example:8443".to_owned()), None),
        ];
        let mut dispatchers = well();
        dispatchers.push(dispatcher(ALIVE, 15, "other.example:443", 2, UNREACHABLE));
        assert_eq!(kinds(&around(), &others, &dispatchers), Vec::<&str>::new());
    }

    #[test]
    fn each_pause_that_covers_it_is_told_with_who_and_why_and_how_it_ends() {
        for (target, action_id, cure) in [
            (NamedTarget::Agent("a".to_owned()), None, "postcall resume agent a --reason '…'"),
            (
                NamedTarget::Action { agent: "a".to_owned(), name: "it's".to_owned() },
                Some(7),
                "postcall resume action a --name 'it'\\''s' --reason '…'",
            ),
            (NamedTarget::Host("crm.example".to_owned()), None, "postcall resume host crm.example --reason '…'"),
        ] {
            let told = of("a", &around(), &[pause(target.clone(), action_id)], &well());
            let words = format!("Paused: {target}, since 1970-01-01 00:00:00 UTC, by Ada: maintenance");
            assert_eq!(told, [Hold { kind: "paused", words, cure: Some(cure.to_owned()) }]);
        }
    }

    #[test]
    fn without_a_living_dispatcher_that_is_said_first_whatever_a_dead_one_reported() {
        let dead = dispatcher(Life::Stopped { at: DateTime::UNIX_EPOCH }, 16, "crm.example:443", 2, UNREACHABLE);
        let told = of("a", &around(), &[pause(NamedTarget::Agent("a".to_owned()), None)], &[dead]);
        assert_eq!(told.iter().map(|hold| hold.kind).collect::<Vec<_>>(), ["no_dispatcher", "paused"]);
        assert_eq!(told[0].words, "No dispatcher runs, so nothing is sent. host:1 stopped at 00:00:00 UTC.");
        assert_eq!(kinds(&around(), &[], &[]), ["no_dispatcher"]);
    }

    #[test]
    fn its_host_and_no_other_is_said_to_be_in_trouble_by_the_dispatcher_that_saw_it() {
        let told = |taken, condition| {
            let told = of("a", &around(), &[], &[dispatcher(ALIVE, 1, "crm.example:443", taken, condition)]);
            told.into_iter().map(|hold| (hold.kind, hold.words)).collect::<Vec<_>>()
        };
        let unreachable = "Its host crm.example:443 has been unreachable for 3 min 0 s (no connection could be opened), as \
                           dispatcher 3 saw it 2 s ago. It is sent when the host can be reached again.";
        assert_eq!(told(0, UNREACHABLE), [("unreachable", unreachable.to_owned())]);
        let silent = "Its host crm.example:443 has not answered in time for 5 s, as dispatcher 3 saw it 2 s ago. It gets few \
                      places until it answers: 1 of 2 are taken.";
        assert_eq!(told(1, HostCondition::Silent { since_ms: 5_000 }), [("silent", silent.to_owned())]);
        let busy = "All 2 places of its host crm.example:443 are taken, as dispatcher 3 saw it 2 s ago.";
        assert_eq!(told(2, HostCondition::Answering), [("host_busy", busy.to_owned())]);
        assert_eq!(told(1, HostCondition::Answering), []);
    }

    #[test]
    fn a_disabled_action_taken_places_and_what_waits_before_it_are_told() {
        let ahead = Count { counted: 10_000, is_more: true };
        let around = Surroundings { enabled: false, agent_in_flight: 2, ahead, ..around() };
        let full = dispatcher(ALIVE, 16, "crm.example:443", 1, HostCondition::Answering);
        let told = of("a", &around, &[], &[full]);
        let words: Vec<&str> = told.iter().map(|hold| hold.words.as_str()).collect();
        assert_eq!(
            words,
            [
                "Its action is disabled: it will be skipped when it has its turn.",
                "All 16 places of the dispatchers are taken (`--concurrency`).",
                "2 requests of its agent are in flight; an agent has a part of a dispatcher's places only \
                 (`--concurrency-per-agent`).",
                "More than 10000 deliveries of its action wait before it.",
            ]
        );
    }
}
