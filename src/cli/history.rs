//! `postcall history`: deliveries by what is asked of them, the newest first, in pages.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use uuid::Uuid;

use super::table::{Table, time};
use super::{CliError, Database, Format, ONE_CONNECTION};
use crate::domain::delivery::State;
use crate::store::history::{HistoryFilter, HistoryRow};

/// List deliveries, waiting and in flight ones included, the newest first.
///
/// Criteria add up: `--agent a --state failed --state unknown` lists what agent a's calls came to
/// nothing. Times are UTC: 2026-11-24, 2026-11-24T09:30:00Z, or with another offset.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: Database,

    #[command(flatten)]
    filter: Filter,

    /// Rows in a page.
    #[arg(long, default_value_t = 50, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    limit: usize,

    /// Begin after this delivery: the next page of an earlier listing.
    #[arg(long, value_name = "DELIVERY_ID")]
    after: Option<Uuid>,

    /// How to print them. JSON and CSV carry every column of the view delivery_history.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// What may be asked of a delivery.
#[derive(Args)]
struct Filter {
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
    #[arg(long, value_name = "KIND",
          value_parser = ["render", "blocked", "dns", "connect", "tls", "timeout", "reset", "protocol", "dispatcher_lost"])]
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

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.database.open(ONE_CONNECTION).await?;
        // One more than a page tells whether there is another.
        let mut rows = store.history(&self.filter.into(), self.after, self.limit + 1).await?;
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        print(&rows, self.format)?;
        if let Some(last) = rows.last().filter(|_| more) {
            eprintln!("more: repeat with --after {}", last.delivery_id);
        }
        Ok(())
    }
}

impl From<Filter> for HistoryFilter {
    fn from(filter: Filter) -> HistoryFilter {
        HistoryFilter {
            delivery_id: None,
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

/// Prints a page.
pub(super) fn print(rows: &[HistoryRow], format: Format) -> Result<(), CliError> {
    if format == Format::Csv {
        return print_all_columns(rows);
    }
    let mut table = Table::new(&["created", "delivery", "agent", "action", "state", "result", "ms", "call sid"]);
    for row in rows {
        table.row(vec![
            time(row.created_at),
            row.delivery_id.to_string(),
            row.agent.clone(),
            row.action.clone(),
            row.state.clone(),
            row.response_code.map(|code| code.to_string()).or(row.error_kind.clone()).unwrap_or_default(),
            row.latency_ms.map(|ms| ms.to_string()).unwrap_or_default(),
            row.call_sid.clone().unwrap_or_default(),
        ]);
    }
    table.print(format, rows)
}

/// CSV: the columns of the view by their own names; a list is joined by spaces.
fn print_all_columns(rows: &[HistoryRow]) -> Result<(), CliError> {
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    for row in rows {
        let object = serde_json::to_value(row).map_err(std::io::Error::from)?;
        let Some(object) = object.as_object() else { continue };
        if std::ptr::eq(row, &rows[0]) {
            writer.write_record(object.keys()).map_err(std::io::Error::from)?;
        }
        writer.write_record(object.values().map(cell)).map_err(std::io::Error::from)?;
    }
    writer.flush()?;
    Ok(())
}

fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A day (its midnight, UTC) or a time with an offset.
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
    use super::*;

    #[test]
    fn a_day_means_its_midnight_and_a_time_needs_an_offset() {
        assert_eq!(time(parse_time("2026-11-24").unwrap()), "2026-11-24T00:00:00Z");
        assert_eq!(time(parse_time("2026-11-24T09:30:00+05:30").unwrap()), "2026-11-24T04:00:00Z");
        assert!(parse_time("2026-11-24T09:30:00").is_err());
        assert!(parse_time("yesterday").is_err());
    }
}
