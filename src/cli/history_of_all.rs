//! `postcall history` over several databases: their rows in one listing, each with the name of its database. The ids of deliveries
//! grow with time in all databases, so the newest come first whichever they are in.
//!
//! All are asked side by side, and each has a time in which it answers. One that does not is said on stderr, and left out from there on:
//! it delays the listing once, and the others are listed all the same.

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::{select_all, unfold};
use tokio::time::timeout;
use uuid::Uuid;

use super::database::say_standby;
use super::databases::NamedDatabase;
use super::filter::Filter;
use super::following::{ANSWER_TIME, Follower};
use super::listing::{Listed, Listing};
use super::table::time;
use super::{CliError, Format, ONE_CONNECTION, unknown};
use crate::service::history::{Next, Whole, page};
use crate::service::merged::{Located, merged};
use crate::service::pause::Missing;
use crate::service::whole_of_all::{Lost, OfOne, WholeOfAll};
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::{Store, StoreError};

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

impl Listed for Located {
    const HEADER: &'static [&'static str] =
        &["database", "created", "delivery", "agent", "action", "state", "result", "ms", "call sid"];

    fn cells(&self) -> Vec<String> {
        std::iter::once(self.database.clone()).chain(self.row.cells()).collect()
    }
}

/// An open database.
struct Source<'d> {
    database: &'d NamedDatabase,
    store: Store,
    filter: HistoryFilter,
}

fn located(rows: Vec<(&str, HistoryRow)>) -> Vec<Located> {
    rows.into_iter().map(|(name, row)| Located { database: name.to_owned(), row }).collect()
}

/// Lists what is wanted of all of these databases that answer.
///
/// # Errors
/// Returns an error if one of them did not answer, after the others were listed.
pub(super) async fn run(databases: &[NamedDatabase], wanted: Wanted) -> Result<(), CliError> {
    let opened = databases.iter().map(|database| asked(&database.name, open(database, wanted.filter.clone())));
    let sources: Vec<Source<'_>> = join_all(opened).await.into_iter().flatten().collect();
    let unopened = databases.len() - sources.len();
    say_unknown(&sources, unopened).await;
    let failed = match wanted.extent {
        Extent::Page(limit) => print_page(&sources, wanted.after, limit, wanted.format).await?,
        Extent::All => print_whole(sources, wanted.after, wanted.format).await?,
        Extent::Follow => follow(sources, wanted.format).await?,
    };
    match unopened + failed {
        0 => Ok(()),
        missing => {
            let all = databases.len();
            Err(CliError::Problem(format!("{missing} of {all} databases are not in this listing, or not whole")))
        }
    }
}

/// What a database answers in time. Otherwise it is said why it does not.
async fn asked<T>(name: &str, question: impl Future<Output = Result<T, CliError>>) -> Option<T> {
    let answer = timeout(ANSWER_TIME, question).await.unwrap_or(Err(StoreError::Unanswered(ANSWER_TIME).into()));
    answer.inspect_err(|error| eprintln!("postcall: {name}: {}", error.for_people())).ok()
}

/// Says what of an agent or an action is in none of the databases, if all of them were asked.
async fn say_unknown(sources: &[Source<'_>], unopened: usize) {
    let looks = sources.iter().map(|Source { database, store, filter }| {
        let (agent, action) = (filter.agent.as_deref(), filter.action.as_deref());
        asked(&database.name, async move { Ok(unknown::look(store, agent, action).await?) })
    });
    // A database that has it, or does not answer, has nothing that is missing.
    let missing: Vec<Missing> = join_all(looks).await.into_iter().flatten().flatten().collect();
    if unopened > 0 || missing.len() < sources.len() {
        return;
    }
    // One in which only the action is missing has the agent.
    let of_agent = missing.iter().find(|missing| matches!(missing, Missing::Action { .. }));
    let meant = missing.iter().find(|missing| matches!(missing, Missing::Agent { meant: Some(_), .. }));
    if let Some(missing) = of_agent.or(meant).or(missing.first()) {
        eprintln!("{}", unknown::told(missing));
    }
}

async fn open(database: &NamedDatabase, filter: Filter) -> Result<Source<'_>, CliError> {
    let store = database.open(ONE_CONNECTION).await?;
    say_standby(&store, Some(&database.name)).await?;
    let filter = filter.resolved(&store).await?;
    Ok(Source { database, store, filter })
}

/// Prints a page. Returns how many of the sources are not in it.
async fn print_page(
    sources: &[Source<'_>],
    after: Option<Uuid>,
    limit: usize,
    format: Format,
) -> Result<usize, CliError> {
    let pages = sources.iter().map(|Source { database, store, filter }| async move {
        let name = &*database.name;
        let page = asked(name, async { Ok(page(store, filter, after, limit).await?) }).await?;
        Some((name, page.rows, page.next))
    });
    let pages: Vec<_> = join_all(pages).await.into_iter().flatten().collect();
    let failed = sources.len() - pages.len();
    let (rows, next) = merged(pages, limit);
    let mut listing = Listing::new(format);
    listing.add(&located(rows))?;
    listing.end()?;
    match next {
        Next::Nothing => {}
        Next::After(last) => eprintln!("more: repeat with --after {last}"),
        Next::Until(until) => {
            let until = time(until);
            eprintln!("searched back to {until}; for what is older, repeat with --until {until}");
        }
    }
    Ok(failed)
}

/// Prints the whole result, and then behind what each lost source is missing. Returns how many were lost.
async fn print_whole(sources: Vec<Source<'_>>, after: Option<Uuid>, format: Format) -> Result<usize, CliError> {
    let of_each = sources.into_iter().map(|Source { database, store, filter }| {
        let whole = Whole::new(filter, after);
        (&*database.name, OfOne { store, whole })
    });
    let mut whole = WholeOfAll::new(of_each, ANSWER_TIME);
    let (mut listing, mut all_lost) = (Listing::new(format), Vec::new());
    loop {
        match whole.step().await {
            Ok(Some(rows)) => listing.add(&located(rows))?,
            Ok(None) => break,
            Err(Lost { database, error, behind }) => {
                eprintln!("postcall: {database}: {}", CliError::from(error).for_people());
                all_lost.push((database, behind));
            }
        }
    }
    listing.end()?;
    for (database, behind) in &all_lost {
        match behind {
            Some(last) => eprintln!(
                "{database}: what is older than {last} is missing; to go on there, list this database alone with --after {last}"
            ),
            None => eprintln!("{database}: nothing of it is in this listing"),
        }
    }
    Ok(all_lost.len())
}

/// Prints what ends in any of them, each as soon as it is known. One that does not answer is asked again; its endings come then.
/// Returns how many could not be followed, which is only when none can.
async fn follow(sources: Vec<Source<'_>>, format: Format) -> Result<usize, CliError> {
    let count = sources.len();
    let begun = join_all(sources.into_iter().map(begin)).await;
    let followers: Vec<_> = begun.into_iter().flatten().collect();
    let endings = followers.into_iter().map(|follower| {
        Box::pin(unfold(follower, |mut follower| async move {
            let (name, rows) = (follower.database(), follower.next().await);
            Some((located(rows.into_iter().map(|row| (name, row)).collect()), follower))
        }))
    });
    let (mut endings, mut listing) = (select_all(endings), Listing::new(format));
    while let Some(rows) = endings.next().await {
        listing.add(&rows)?;
    }
    Ok(count)
}

/// Begins to follow. `None` if the database does not answer, which was said.
async fn begin(Source { database, store, filter }: Source<'_>) -> Option<Follower<'_>> {
    let since = match filter.since {
        Some(since) => since,
        None => asked(&database.name, async { Ok(store.now().await?) }).await?,
    };
    Some(Follower::since(since, filter, database, store, true))
}
