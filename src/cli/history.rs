//! `postcall history`: lists deliveries that match criteria, the newest first, in pages.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use uuid::Uuid;

use super::databases::{NamedDatabase, ReadDatabases};
use super::filter::Filter;
use super::following::Follower;
use super::history_of_all;
use super::history_of_all::Extent;
use super::listing::{Listed, Listing};
use super::table::{Table, time};
use super::{CliError, Format, ONE_CONNECTION, unknown};
use crate::service::history::{Next, Page, Whole, page};
use crate::store::Store;
use crate::store::history::{HistoryFilter, HistoryRow};

/// List deliveries, also those that wait or are in flight, the newest first.
///
/// A delivery must match all criteria: `--agent a --state failed --state unknown` lists the deliveries of agent a that
/// are failed or unknown. Times are UTC: 2026-11-24, 2026-11-24T09:30:00Z, or with another offset.
///
/// A search takes at most about a second. By agent, call, state, error kind or time, rows are found at once. With other
/// criteria alone (an action, a status code among the delivered), the search may not reach the end of a long history in
/// that time: then stderr says how far it was searched, and how to go on.
///
/// `--all` prints the whole result, however long: page by page, as it is found, so that it takes little memory. Nothing
/// comes twice and nothing is left out, whatever is inserted and sent meanwhile; what is inserted after the beginning
/// does not come.
///
/// `--follow` prints what comes to an end, as it is recorded, until it is interrupted; with --since, first what has
/// ended since then. What is learnt later about a delivery (a late result, a finding) is not printed. A recording that
/// is committed more than 15 s after its time may be missed; so may one that is committed late at all while more than
/// 20,000 deliveries end within 15 s. A database that goes away is asked again, at first after a second and at last
/// each 30 s, and followed from where it was; stderr says so.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    databases: ReadDatabases,

    #[command(flatten)]
    filter: Filter,

    /// The largest number of rows in a page.
    #[arg(long, default_value_t = 50, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    limit: usize,

    /// Begin after this delivery: the next page of an earlier listing.
    #[arg(long, value_name = "DELIVERY_ID")]
    after: Option<Uuid>,

    /// Print the whole result instead of a page.
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// Print what comes to an end, until interrupted.
    #[arg(long, conflicts_with_all = ["limit", "after", "all", "until"])]
    follow: bool,

    /// How to print them. JSON and CSV contain every column of the view delivery_history. With --follow: table, jsonl or
    /// csv.
    ///
    /// In CSV, text that a spreadsheet would run as a formula (it begins with = + - or @) has an
    /// apostrophe before it; `unresolved` is a JSON array in its cell.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        if self.follow && self.format == Format::Json {
            return Err(CliError::Usage(
                "--follow prints no JSON array, because it would never end: use --format jsonl",
            ));
        }
        let databases = self.databases.all()?;
        let [only] = &databases[..] else { return history_of_all::run(&databases, self.listing()).await };
        let store = only.open_to_read(ONE_CONNECTION).await?;
        let filter = self.filter.resolved(&store).await?;
        let (agent, action) = (filter.agent.clone(), filter.action.clone());
        if self.follow {
            unknown::say(&store, agent.as_deref(), action.as_deref()).await?;
            return follow(only, store, filter, self.format).await;
        }
        if self.all {
            let found = print_whole(&store, filter, self.after, self.format).await?;
            if found == 0 {
                unknown::say(&store, agent.as_deref(), action.as_deref()).await?;
            }
            return Ok(());
        }
        let Page { rows, next } = page(&store, &filter, self.after, self.limit).await?;
        print(&rows, self.format)?;
        if rows.is_empty() {
            unknown::say(&store, agent.as_deref(), action.as_deref()).await?;
        }
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

impl Arguments {
    /// What to list of several databases.
    fn listing(self) -> history_of_all::Wanted {
        let extent = match (self.follow, self.all) {
            (true, _) => Extent::Follow,
            (false, true) => Extent::All,
            (false, false) => Extent::Page(self.limit),
        };
        history_of_all::Wanted { filter: self.filter, after: self.after, extent, format: self.format }
    }
}

/// Returns how many were printed.
async fn print_whole(
    store: &Store,
    filter: HistoryFilter,
    after: Option<Uuid>,
    format: Format,
) -> Result<usize, CliError> {
    let (mut whole, mut listing) = (Whole::new(filter, after), Listing::new(format));
    while let Some(rows) = whole.step(store).await? {
        listing.add(&rows)?;
    }
    listing.end()
}

/// Prints what ends, until the process is interrupted or the reader of the output is gone.
async fn follow(database: &NamedDatabase, store: Store, filter: HistoryFilter, format: Format) -> Result<(), CliError> {
    let since = match filter.since {
        Some(since) => since,
        None => store.now().await?,
    };
    let (mut follower, mut listing) = (Follower::since(since, filter, database, store, false), Listing::new(format));
    listing.add(&follower.first().await?)?;
    loop {
        listing.add(&follower.next().await)?;
    }
}

/// Prints a page.
pub(super) fn print(rows: &[HistoryRow], format: Format) -> Result<(), CliError> {
    if format == Format::Csv {
        return print_all_columns(rows);
    }
    let mut table = Table::new(HistoryRow::HEADER);
    for row in rows {
        table.row(row.cells());
    }
    table.print(format, rows)
}

impl Listed for HistoryRow {
    const HEADER: &'static [&'static str] =
        &["created", "delivery", "agent", "action", "state", "result", "ms", "call sid"];

    fn cells(&self) -> Vec<String> {
        vec![
            time(self.created_at),
            self.delivery_id.to_string(),
            self.agent.clone(),
            self.action.clone(),
            self.state.to_string(),
            self.response_code
                .map(|code| code.to_string())
                .or(self.error_kind.map(|kind| kind.to_string()))
                .unwrap_or_default(),
            self.latency_ms.map(|ms| ms.to_string()).unwrap_or_default(),
            self.call_sid.clone().unwrap_or_default(),
        ]
    }
}

/// Prints CSV with all columns of the view under their names. The header is also printed if there is no row.
fn print_all_columns(rows: &[HistoryRow]) -> Result<(), CliError> {
    let mut listing = Listing::new(Format::Csv);
    listing.add(rows)?;
    listing.end()?;
    Ok(())
}
