//! What a delivery's state means, in a sentence, and its steps in time. Pure.

use chrono::{DateTime, Utc};

use crate::console::frame;
use crate::console::words::{Icon, PreciseTime, Tone, long, number, shown};
use crate::domain::delivery::{Failure, ResolutionSource, State, UnknownReason};
use crate::domain::error_kind::ErrorKind;
use crate::service::sending::Sending;
use crate::store::history::{HistoryRow, ReplayLink};

/// A step of a delivery.
pub(in crate::console) struct Step {
    pub(in crate::console) icon: Icon,
    pub(in crate::console) tone: &'static str,
    pub(in crate::console) what: &'static str,
    /// When it was, or how long after the start of the attempt.
    pub(in crate::console) when: When,
    pub(in crate::console) more: String,
    pub(in crate::console) link: Option<String>,
}

/// When a step was.
pub(in crate::console) enum When {
    At(PreciseTime),
    After(String),
}

/// What became of it, and what can be done: two sentences at most.
pub(super) fn outcome(row: &HistoryRow) -> String {
    let code = row.response_code.map_or("a finding".to_owned(), |code| code.to_string());
    let outcome = match row.state {
        State::Waiting => "It waits for its turn.".to_owned(),
        State::Sending => "A dispatcher has claimed it, and its result is not recorded yet.".to_owned(),
        State::Delivered if row.resolved_from == Some(ResolutionSource::Person) => {
            "The receiver took it, as a person found out.".to_owned()
        }
        State::Delivered => format!("The receiver took it and answered {code}."),
        State::Rejected if row.resolved_from == Some(ResolutionSource::Person) => {
            "The receiver had it and refused it, as a person found out.".to_owned()
        }
        State::Rejected => format!("The receiver had it and answered {code}."),
        State::Failed if row.resolved_from == Some(ResolutionSource::Person) => {
            "It never reached the receiver, as a person found out.".to_owned()
        }
        State::Failed => format!("Certainly nothing of it was sent: {}", why(row.error_kind)),
        State::Unknown => format!("It may have reached the receiver, and nobody can know: {}", why(row.error_kind)),
        State::Skipped => "No attempt was made: its action was disabled before it had its turn.".to_owned(),
    };
    match row.state {
        _ if row.replayed_as.is_some() => {
            format!("{outcome} A replay of it was made since: see below what became of that.")
        }
        State::Rejected if row.resolved_from != Some(ResolutionSource::Person) => {
            format!("{outcome} It is not sent again by itself.")
        }
        State::Unknown => format!("{outcome} It is never sent again by itself."),
        _ => outcome,
    }
}

fn why(kind: Option<ErrorKind>) -> &'static str {
    match kind {
        Some(ErrorKind::Failure(failure)) => match failure {
            Failure::Render => "call and templates did not give a valid request.",
            Failure::Blocked => "the policy of the dispatchers does not permit the target.",
            Failure::Dns => "the host's name could not be looked up.",
            Failure::Connect => "no connection to the host could be opened.",
            Failure::Tls => "no TLS session with the host could be opened.",
        },
        Some(ErrorKind::Unknown(reason)) => match reason {
            UnknownReason::Timeout => "there was no answer before the action's timeout.",
            UnknownReason::Reset => "the connection ended before an answer came.",
            UnknownReason::Protocol => "what came back was no HTTP response.",
            UnknownReason::DispatcherLost => "the dispatcher was lost while the request was in flight.",
        },
        None => "the reason is not recorded.",
    }
}

/// The command that helps, if a person can do something about this state. What was replayed is settled by its replay.
pub(super) fn command(row: &HistoryRow, replays: &[ReplayLink]) -> Option<String> {
    match row.state {
        _ if !replays.is_empty() => None,
        State::Unknown => Some(format!("postcall resolve {} --as delivered --reason '…'", row.delivery_id)),
        State::Failed | State::Rejected => Some(format!("postcall replay {} --reason '…'", row.delivery_id)),
        State::Waiting | State::Sending | State::Delivered | State::Skipped => None,
    }
}

/// The steps, in the order in which they happened.
pub(super) fn steps(row: &HistoryRow, replays: &[ReplayLink]) -> Vec<Step> {
    let mut steps = vec![beginning(row)];
    if let Some(claimed_at) = row.claimed_at {
        let by = row.dispatcher.as_deref().map(|name| format!("by {}, ", shown(name))).unwrap_or_default();
        let more = format!("{by}after {} in the queue", milliseconds(row.queue_ms));
        steps.push(at(Icon::ARROW, "plain", "claimed", claimed_at, more));
    }
    steps.extend(after("name looked up", row.dns_ms, ""));
    steps.extend(after("connected", row.connected_ms, ""));
    steps.extend(sent(row));
    let code = row.response_code.map(|code| code.to_string()).unwrap_or_default();
    steps.extend(after("answered", row.head_ms, &code));
    steps.extend(after("attempt ended", row.latency_ms, ""));
    steps.extend(ending(row));
    for replay in replays {
        let more = format!("by {}: {}", shown(&replay.replayed_by), shown(&replay.reason));
        let link = Some(frame::inside(&format!("/deliveries/{}", replay.delivery_id)));
        steps.push(Step { link, ..at(Icon::ARROW, "plain", "replayed", replay.created_at, more) });
    }
    steps
}

/// That the request was sent, or that it may have been.
fn sent(row: &HistoryRow) -> Option<Step> {
    let sending = Sending::of(row)?;
    let what = if sending.is_certain { "sent" } else { "sent, or a part of it" };
    let when = sending.connected_ms.map_or_else(|| "at once".to_owned(), |ms| format!("+{} ms", number(ms.into())));
    let more = sending.connection().to_owned();
    Some(Step { icon: Icon::ARROW, tone: "plain", what, when: When::After(when), more, link: None })
}

fn beginning(row: &HistoryRow) -> Step {
    let Some(original) = row.replay_of else {
        return at(Icon::CLOCK, "plain", "inserted by the platform", row.created_at, String::new());
    };
    let by = row.replayed_by.as_deref().unwrap_or_default();
    let reason = row.replay_reason.as_deref().unwrap_or_default();
    let more = format!("by {}: {}", shown(by), shown(reason));
    let link = Some(frame::inside(&format!("/deliveries/{original}")));
    Step { link, ..at(Icon::CLOCK, "plain", "made as a replay", row.created_at, more) }
}

fn ending(row: &HistoryRow) -> impl Iterator<Item = Step> {
    let recorded = row.finished_at.map(|finished_at| {
        let state = row.recorded_state.unwrap_or(row.state);
        let kind = row.recorded_error_kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
        let mark = crate::console::words::Mark::from(state);
        at(mark.icon, tone(mark.tone), "recorded", finished_at, format!("as {state}{kind}"))
    });
    let resolved = row.resolved_at.map(|resolved_at| {
        let what = match row.resolved_from {
            Some(ResolutionSource::Person) => "resolved by a person",
            Some(ResolutionSource::Claim) | None => "its own result came late",
        };
        let by = row.resolved_by.as_deref().map(|by| format!(" by {}", shown(by))).unwrap_or_default();
        let reason = row.resolution_reason.as_deref().map(|reason| format!(": {}", shown(reason))).unwrap_or_default();
        let mark = crate::console::words::Mark::from(row.state);
        at(mark.icon, tone(mark.tone), what, resolved_at, format!("as {}{by}{reason}", row.state))
    });
    recorded.into_iter().chain(resolved)
}

fn tone(tone: Tone) -> &'static str {
    tone.class()
}

fn at(icon: Icon, tone: &'static str, what: &'static str, time: DateTime<Utc>, more: String) -> Step {
    Step { icon, tone, what, when: When::At(PreciseTime(time)), more, link: None }
}

fn after(what: &'static str, ms: Option<i32>, more: &str) -> Option<Step> {
    let when = When::After(format!("+{} ms", number(ms?.into())));
    Some(Step { icon: Icon::DOT, tone: "plain", what, when, more: more.to_owned(), link: None })
}

fn milliseconds(ms: i64) -> String {
    if ms < 10_000 { format!("{} ms", number(ms)) } else { long(ms) }
}
