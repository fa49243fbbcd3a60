//! The criteria for deliveries that `history` and `replay` share.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use clap::builder::PossibleValuesParser;
use uuid::Uuid;

use crate::domain::delivery::{Failure, State, UnknownReason};
use crate::store::history::HistoryFilter;

/// The name under which other arguments can refer to all criteria together.
pub(super) const GROUP: &str = "Filter";

/// Criteria for deliveries.
///
/// clap makes an argument group with the name of this type: [`GROUP`].
#[derive(Args)]
pub(super) struct Filter {
    /// The call's agent.
    #[arg(long)]
    agent: Option<String>,

    /// The action's name.
    #[arg(long)]
    action: Option<String>,

    /// The state; may be given more than once.
    #[arg(long = "state", value_name = "STATE", value_parser = PossibleValuesParser::new(State::ALL.map(State::as_str)))]
    states: Vec<String>,

    /// The provider's id of the call (callInfo.callSid).
    #[arg(long, value_name = "SID")]
    call_sid: Option<String>,

    /// The call's id in the outbox.
    #[arg(long, value_name = "UUID")]
    call_id: Option<Uuid>,

    /// The error kind.
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(error_kinds()))]
    error_kind: Option<String>,

    /// The HTTP status code.
    #[arg(long, value_name = "CODE")]
    response_code: Option<i16>,

    /// Created at this time or later.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<DateTime<Utc>>,

    /// Created before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<DateTime<Utc>>,
}

impl From<Filter> for HistoryFilter {
    fn from(filter: Filter) -> HistoryFilter {
        HistoryFilter {
            delivery_ids: None,
            agent: filter.agent,
            action: filter.action,
            states: Some(filter.states).filter(|states| !states.is_empty()),
            call_sid: filter.call_sid,
            call_id: filter.call_id,
            error_kind: filter.error_kind,
            response_code: filter.response_code,
            since: filter.since,
            until: filter.until,
        }
    }
}

fn error_kinds() -> impl Iterator<Item = &'static str> {
    Failure::ALL.map(Failure::as_str).into_iter().chain(UnknownReason::ALL.map(UnknownReason::as_str))
}

/// Parses a day (its midnight in UTC) or a time with an offset.
fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = NaiveDate::from_str(text) {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| "expected a day (2026-11-24) or a time with an offset (2026-11-24T09:30:00Z)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::table::time;
    use super::*;

    #[test]
    fn a_day_means_its_midnight_and_a_time_needs_an_offset() {
        assert_eq!(time(parse_time("2026-11-24").unwrap()), "2026-11-24T00:00:00Z");
        assert_eq!(time(parse_time("2026-11-24T09:30:00+05:30").unwrap()), "2026-11-24T04:00:00Z");
        assert!(parse_time("2026-11-24T09:30:00").is_err());
        assert!(parse_time("yesterday").is_err());
    }
}
