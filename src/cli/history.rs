//! `postcall history`: lists deliveries that match criteria, the newest first, in pages.

use std::io::Write;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::Value;
use uuid::Uuid;

use super::filter::Filter;
use super::table::{Table, time};
use super::{CliError, Database, Format, ONE_CONNECTION, spreadsheet};
use crate::service::history::{Next, Page, page};
use crate::store::history::HistoryRow;

/// List deliveries, also those that wait or are in flight, the newest first.
///
/// A delivery must match all criteria: `--agent a --state failed --state unknown` lists the deliveries of agent a that
/// are failed or unknown. Times are UTC: 2026-11-24, 2026-11-24T09:30:00Z, or with another offset.
///
/// A search takes at most about a second. By agent, call, state, error kind or time, rows are found at once. With other
/// criteria alone (an action, a status code among the delivered), the search may not reach the end of a long history in
/// that time: then stderr says how far it was searched, and how to go on.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: Database,

    #[command(flatten)]
    filter: Filter,

    /// The largest number of rows in a page.
    #[arg(long, default_value_t = 50, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    limit: usize,

    /// Begin after this delivery: the next page of an earlier listing.
    #[arg(long, value_name = "DELIVERY_ID")]
    after: Option<Uuid>,

    /// How to print them. JSON and CSV contain every column of the view delivery_history.
    ///
    /// In CSV, text that a spreadsheet would run as a formula (it begins with = + - or @) has an
    /// apostrophe before it; `unresolved` is a JSON array in its cell.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.database.open(ONE_CONNECTION).await?;
        let Page { rows, next } = page(&store, &self.filter.into(), self.after, self.limit).await?;
        print(&rows, self.format)?;
        match next {
            Next::After(last) => eprintln!("more: repeat with --after {last}"),
            Next::Until(until) => {
                let (until, after) = (time(until), if self.after.is_some() { " instead of --after" } else { "" });
                eprintln!("searched back to {until}; for what is older, repeat with --until {until}{after}");
            }
            Next::Nothing => {}
        }
        Ok(())
    }
}

/// Prints a page.
pub(super) fn print(rows: &[HistoryRow], format: Format) -> Result<(), CliError> {
    if format == Format::Csv {
        return print_all_columns(rows).map_err(CliError::Output);
    }
    let mut table = Table::new(&["created", "delivery", "agent", "action", "state", "result", "ms", "call sid"]);
    for row in rows {
        table.row(vec![
            time(row.created_at),
            row.delivery_id.to_string(),
            row.agent.clone(),
            row.action.clone(),
            row.state.to_string(),
            row.response_code
                .map(|code| code.to_string())
                .or(row.error_kind.map(|kind| kind.to_string()))
                .unwrap_or_default(),
            row.latency_ms.map(|ms| ms.to_string()).unwrap_or_default(),
            row.call_sid.clone().unwrap_or_default(),
        ]);
    }
    table.print(format, rows)
}

/// Prints CSV with all columns of the view under their names. The header is also printed if there is no row.
fn print_all_columns(rows: &[HistoryRow]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    spreadsheet::write_record(&mut out, &HistoryRow::COLUMNS.map(Value::from))?;
    for row in rows {
        let object = serde_json::to_value(row)?;
        spreadsheet::write_record(&mut out, HistoryRow::COLUMNS.map(|column| &object[column]))?;
    }
    out.flush()
}
