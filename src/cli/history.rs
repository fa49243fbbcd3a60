//! `postcall history`: deliveries by what is asked of them, the newest first, in pages.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use uuid::Uuid;

use super::filter::Filter;
use super::table::{Table, time};
use super::{CliError, Database, Format, ONE_CONNECTION};
use crate::store::history::HistoryRow;

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
