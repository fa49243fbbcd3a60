//! `postcall history` over several databases: their rows in one listing, each with the name of its database. The ids of deliveries
//! grow with time in all databases, so the newest come first whichever they are in.

use std::collections::VecDeque;

use serde::Serialize;
use uuid::Uuid;

use super::databases::NamedDatabase;
use super::filter::Filter;
use super::history::FOLLOW_EVERY;
use super::listing::{Listed, Listing};
use super::table::time;
use super::{CliError, Format, ONE_CONNECTION};
use crate::domain::chain::chain;
use crate::service::export::Record;
use crate::service::history::{Following, Next, Page, STEP, Whole, page};
use crate::service::merged::merged;
use crate::store::Store;
use crate::store::history::{HistoryFilter, HistoryRow};

/// What is to be listed.
pub(super) struct Wanted {
    pub(super) filter: Filter,
    pub(super) after: Option<Uuid>,
    pub(super) extent: Extent,
    pub(super) format: Format,
}

/// How much of it.
pub(super) enum Extent {
    /// So many rows at most.
    Page(usize),
    /// The whole result.
    All,
    /// What comes to an end, until interrupted.
    Follow,
}

/// A delivery, and where it is.
#[derive(Serialize)]
struct Located {
    database: String,
    #[serde(flatten)]
    row: HistoryRow,
}

impl Record for Located {
    const COLUMNS: &'static [&'static str] = &COLUMNS;
}

const COLUMNS: [&str; HistoryRow::COLUMNS.len() + 1] = after_first("database", HistoryRow::COLUMNS);

const fn after_first<const N: usize, const M: usize>(
    first: &'static str,
    rest: [&'static str; N],
) -> [&'static str; M] {
    let mut all = [first; M];
    let mut at = 0;
    while at < N {
        all[at + 1] = rest[at];
        at += 1;
    }
    all
}

impl Listed for Located {
    const HEADER: &'static [&'static str] =
        &["database", "created", "delivery", "agent", "action", "state", "result", "ms", "call sid"];

    fn cells(&self) -> Vec<String> {
        std::iter::once(self.database.clone()).chain(self.row.cells()).collect()
    }
}

/// An open database.
struct Source {
    name: String,
    store: Store,
    filter: HistoryFilter,
}

impl Source {
    fn located(&self, row: HistoryRow) -> Located {
        Located { database: self.name.clone(), row }
    }
}

/// Lists what is wanted of all of these databases that answer.
///
/// # Errors
/// Returns an error if one of them did not answer, after the others were listed.
pub(super) async fn run(databases: &[NamedDatabase], wanted: Wanted) -> Result<(), CliError> {
    let (mut sources, mut failed) = (Vec::new(), 0);
    for database in databases {
        match open(database, wanted.filter.clone()).await {
            Ok(source) => sources.push(source),
            Err(error) => {
                eprintln!("postcall: {}: {}", database.name, error.for_people());
                failed += 1;
            }
        }
    }
    match wanted.extent {
        Extent::Page(limit) => print_page(&sources, wanted.after, limit, wanted.format).await?,
        Extent::All => print_whole(&sources, wanted.after, wanted.format).await?,
        Extent::Follow => follow(&sources, wanted.format).await?,
    }
    match failed {
        0 => Ok(()),
        _ => Err(CliError::Problem(format!("{failed} of {} databases are not in this listing", databases.len()))),
    }
}

async fn open(database: &NamedDatabase, filter: Filter) -> Result<Source, CliError> {
    let store = database.open_to_read(ONE_CONNECTION).await?;
    let filter = filter.resolved(&store).await?;
    Ok(Source { name: database.name.clone(), store, filter })
}

async fn print_page(sources: &[Source], after: Option<Uuid>, limit: usize, format: Format) -> Result<(), CliError> {
    let mut pages = Vec::new();
    for source in sources {
        let Page { rows, next } = page(&source.store, &source.filter, after, limit).await?;
        pages.push((source, rows, next));
    }
    let (rows, next) = merged(pages, limit);
    let rows: Vec<Located> = rows.into_iter().map(|(source, row)| source.located(row)).collect();
    let mut listing = Listing::new(format);
    listing.add(&rows)?;
    listing.end()?;
    match next {
        Next::Nothing => {}
        Next::After(last) => eprintln!("more: repeat with --after {last}"),
        Next::Until(until) => {
            let until = time(until);
            eprintln!("searched back to {until}; for what is older, repeat with --until {until}");
        }
    }
    Ok(())
}

/// A source with the rows of it that are next.
struct Stream<'s> {
    source: &'s Source,
    whole: Whole,
    next: VecDeque<HistoryRow>,
    is_over: bool,
}

impl Stream<'_> {
    /// The id of its next row, if it has one.
    async fn head(&mut self) -> Result<Option<Uuid>, CliError> {
        while self.next.is_empty() && !self.is_over {
            match self.whole.step(&self.source.store).await? {
                Some(rows) => self.next.extend(rows),
                None => self.is_over = true,
            }
        }
        Ok(self.next.front().map(|row| row.delivery_id))
    }
}

async fn print_whole<'s>(sources: &'s [Source], after: Option<Uuid>, format: Format) -> Result<(), CliError> {
    let stream = |source: &'s Source| {
        let whole = Whole::new(source.filter.clone(), after);
        Stream { source, whole, next: VecDeque::new(), is_over: false }
    };
    let mut streams: Vec<Stream<'s>> = sources.iter().map(stream).collect();
    let (mut listing, mut rows) = (Listing::new(format), Vec::new());
    loop {
        let mut newest = None;
        for (number, stream) in streams.iter_mut().enumerate() {
            newest = newest.max(stream.head().await?.map(|id| (id, number)));
        }
        let next = newest.and_then(|(_, number)| streams.get_mut(number));
        let next = next.and_then(|stream| Some(stream.source.located(stream.next.pop_front()?)));
        let is_over = next.is_none();
        rows.extend(next);
        if is_over || rows.len() >= STEP {
            listing.add(&rows)?;
            rows.clear();
        }
        if is_over {
            return listing.end();
        }
    }
}

/// Prints what ends in any of them. One that does not answer is asked again; its endings come then.
async fn follow(sources: &[Source], format: Format) -> Result<(), CliError> {
    let mut following = Vec::new();
    for source in sources {
        let since = match source.filter.since {
            Some(since) => since,
            None => source.store.now().await?,
        };
        following.push((source, Following::since(since, source.filter.clone()), false));
    }
    let mut listing = Listing::new(format);
    loop {
        for (source, following, is_away) in &mut following {
            match following.look(&source.store).await {
                Ok(look) => {
                    *is_away = false;
                    let rows: Vec<Located> = look.rows.into_iter().map(|row| source.located(row)).collect();
                    listing.add(&rows)?;
                }
                Err(error) if !*is_away => {
                    eprintln!("postcall: {}: {}; asking again until it answers", source.name, chain(&error));
                    *is_away = true;
                }
                Err(_) => {}
            }
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}
