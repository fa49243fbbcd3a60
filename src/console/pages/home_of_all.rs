//! The overview of several databases: a row for each, which says how it is, or that it does not answer.

use std::cmp::Reverse;
use std::time::Duration;

use askama::Template;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use super::home::{ENDED, LATEST};
use super::written;
use crate::console::answer::Answer;
use crate::console::databases::Database;
use crate::console::failure::{READER, Trouble, withheld};
use crate::console::frame;
use crate::console::glance::KEPT_SECONDS;
use crate::console::live::Line;
use crate::console::part::Part;
use crate::console::policy::Policy;
use crate::console::together::{ANSWER_TIME, All, Answered};
use crate::console::words::{Here, Icon, Mark, Time, Tone, count, long, number, shown};
use crate::domain::delivery::State;
use crate::service::history::page_within;
use crate::service::needs::{MOST_COUNTED, Need, needs, up_to};
use crate::store::history::{HistoryFilter, HistoryRow, StateCount};
use crate::store::search::Patience;
use crate::store::status::{Life, Status};
use crate::store::{Store, StoreError};

/// Failures of so many hours are looked at for those that are open.
const FAILED_HOURS: i64 = 24;
/// The most of these that are counted.
const MOST_FAILED: usize = 1_000;
/// How long counting them, or what is open, may take, and then reading what has ended lately: the rest of the row does not wait for it longer.
const FAILED_TIME: Duration = Duration::from_secs(1);

#[derive(Template)]
#[template(path = "home_of_all.html")]
struct Page {
    here: Here,
    /// By the clock that is ahead; `None` if none is known.
    now: Option<Time>,
    summary: String,
    calm: bool,
    icon: Icon,
    rows: Vec<Row>,
    /// What has come to an end lately in all of them; withheld from those who may not follow.
    latest: Part<Vec<Line>>,
}

/// One database.
struct Row {
    name: String,
    address: String,
    mark: Mark,
    /// What needs somebody there, and where that is said.
    needs: String,
    /// `None` if it does not answer.
    cells: Option<Vec<Cell>>,
}

/// A number of a database, and where it leads.
struct Cell {
    name: &'static str,
    value: String,
    address: Option<String>,
}

/// What a database says of itself.
struct Look {
    now: DateTime<Utc>,
    status: Part<Status>,
    last_hour: Part<Vec<StateCount>>,
    failed: Part<i64>,
    latest: Part<Vec<HistoryRow>>,
    needs: Vec<Need>,
    /// Whether all was read that may need somebody.
    is_whole: bool,
}

pub(super) async fn page(all: &All<'_>) -> Result<Answer, Trouble> {
    if let Some(_own) = &all.visitor.database {
        return Err(Trouble::OneAgentOnly);
    }
    let answers = all.ask(|database| look(all, database)).await;
    let away = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    let now = answers.iter().filter_map(|(_, answer)| Some(answer.as_ref().ok()?.now)).max();
    let latest = latest(all, &answers);
    let rows: Vec<Row> = answers.into_iter().map(Row::of).collect();
    let unwell = rows.iter().filter(|row| row.mark.tone != Tone::Well).count();
    let summary = match (away, unwell) {
        (0, 0) => format!("All {} databases answer, and nothing needs anybody.", rows.len()),
        (0, some) => format!("All {} databases answer. Look into {some} of them.", rows.len()),
        (away, _) => format!("{away} of {} databases cannot be shown.", rows.len()),
    };
    let (calm, icon) = if unwell == 0 { (true, Icon::WELL) } else { (false, Icon::WARN) };
    let page = written(&Page { here: Here::Home, now: now.map(Time), summary, calm, icon, rows, latest })?;
    Ok(page.allowing(Policy::Connected))
}

/// The newest of what the databases say to have ended lately, for those whose browsers do not follow.
fn latest(all: &All<'_>, answers: &[Answered<'_, Look>]) -> Part<Vec<Line>> {
    if all.visitor.may_follow().is_err() {
        return Part::Withheld(withheld(READER));
    }
    let of_one = |(database, answer): &Answered<'_, Look>| {
        let rows = answer.as_ref().ok().and_then(|look| look.latest.shown()).map(Vec::as_slice).unwrap_or_default();
        let (name, root) = (database.name().unwrap_or_default(), database.root());
        rows.iter().map(|row| (row.finished_at, Line::located(row, name, root))).collect::<Vec<_>>()
    };
    let mut lines: Vec<_> = answers.iter().flat_map(of_one).collect();
    lines.sort_by_key(|(ended_at, _)| Reverse(*ended_at));
    Part::Shown(lines.into_iter().take(LATEST).map(|(_, line)| line).collect())
}

/// What has come to an end lately in one database: the newest of what was created.
async fn latest_of(store: &Store) -> Result<Vec<HistoryRow>, StoreError> {
    let filter = HistoryFilter { states: Some(ENDED.to_vec()), ..HistoryFilter::default() };
    Ok(page_within(store, &filter, None, LATEST, Patience::Glance).await?.rows)
}

async fn look(all: &All<'_>, database: &Database) -> Result<Look, Trouble> {
    let entered = all.enter(database).await?;
    let store = entered.visit.everything()?;
    let glance = database.glances.of(all.visitor.role);
    let now = store.now().await?;
    let status = Part::of(store.status().await, READER)?;
    let last_hour = Part::of(glance.last_hour.or(store.last_hour(now, MOST_COUNTED)).await, READER)?;
    let headroom = Part::of(glance.headroom.or(store.headroom()).await, READER)?;
    let open = HistoryFilter {
        states: Some(vec![State::Failed]),
        since: Some(now - TimeDelta::hours(FAILED_HOURS)),
        open: true,
        ..HistoryFilter::default()
    };
    let failed = match timeout(FAILED_TIME, glance.failed.or(store.count_history(&open, MOST_FAILED))).await {
        Ok(counted) => Part::of(counted, READER)?.map(|counts| counts.iter().map(|one| one.count).sum()),
        Err(_) => Part::left_out(),
    };
    let open = match timeout(FAILED_TIME, glance.open.or_one(store.open_deliveries())).await {
        Ok(open) => Part::of(open, READER)?,
        Err(_) => Part::left_out(),
    };
    let latest = match timeout(FAILED_TIME, latest_of(store)).await {
        Ok(rows) => Part::of(rows, READER)?,
        Err(_) => Part::left_out(),
    };
    let found_open = open.shown().and_then(Option::as_ref);
    let needs =
        needs(status.shown(), last_hour.shown().map(AsRef::as_ref), found_open, headroom.shown().map(AsRef::as_ref));
    let all =
        [status.shown().is_some(), last_hour.shown().is_some(), open.shown().is_some(), headroom.shown().is_some()];
    let is_whole = all.into_iter().all(|is_shown| is_shown);
    Ok(Look { now, status, last_hour: last_hour.map(|counts| counts.to_vec()), failed, latest, needs, is_whole })
}

impl Row {
    fn of((database, answer): Answered<'_, Look>) -> Row {
        let name = shown(database.name().unwrap_or_default()).into_owned();
        let mark = |icon, tone, word| Mark { icon, tone, word };
        let (mark, needs, cells) = match answer {
            Err(trouble) => (mark(Icon::WARN, Tone::Trouble, trouble.title()), String::new(), None),
            Ok(look) => {
                let things = look.needs.iter().filter(|need| need.is_for_somebody()).count();
                let mark = match things {
                    0 if look.is_whole => mark(Icon::WELL, Tone::Well, "well"),
                    0 => mark(Icon::ASK, Tone::Doubt, "not all can be read"),
                    _ => mark(Icon::WARN, Tone::Doubt, "look into"),
                };
                let needs = match things {
                    0 => String::new(),
                    1 => "1 thing".to_owned(),
                    things => format!("{things} things"),
                };
                (mark, needs, Some(frame::under(database.root(), || cells(&look))))
            }
        };
        Row { name, address: format!("{}/", database.root()), mark, needs, cells }
    }
}

/// What stands for a number that may not be read, or was not.
const UNREAD: &str = "not read";

fn cells(look: &Look) -> Vec<Cell> {
    let of_status = |tell: fn(&Status) -> String| look.status.shown().map_or_else(|| UNREAD.to_owned(), tell);
    let cell = |name, value, path: &str| Cell { name, value, address: Some(frame::inside(path)) };
    let alive = |status: &Status| {
        let alive = status.dispatchers.iter().filter(|one| matches!(one.life, Life::Alive { .. }));
        alive.count().to_string()
    };
    let failed = look.failed.shown().map(|found| match usize::try_from(*found) {
        Ok(found) if found <= MOST_FAILED => found.to_string(),
        _ => format!("more than {MOST_FAILED}"),
    });
    let since = format!("/deliveries?state=failed&open=1&since={FAILED_HOURS}h");
    let oldest = |status: &Status| status.oldest_waiting.map(|one| long(one.age_ms)).unwrap_or_default();
    let mut cells = vec![
        cell("waiting", of_status(|status| count(status.waiting)), "/deliveries?state=waiting"),
        Cell { name: OLDEST, value: of_status(oldest), address: None },
        cell("in flight", of_status(|status| number(status.in_flight)), "/deliveries?state=sending"),
        cell(IN_DOUBT, of_status(|status| count(status.in_doubt)), "/deliveries?state=unknown"),
        cell(FAILED, failed.unwrap_or_else(|| UNREAD.to_owned()), &since),
        Cell { name: DISPATCHERS, value: of_status(alive), address: None },
    ];
    cells.extend(ENDED.map(|state| {
        let of = |counts: &Vec<StateCount>| {
            count(up_to(counts.iter().find(|one| one.state == state).map_or(0, |one| one.count)))
        };
        let value = look.last_hour.shown().map_or_else(|| UNREAD.to_owned(), of);
        cell(state.as_str(), value, &format!("/deliveries?state={state}&since=1h"))
    }));
    cells
}

const OLDEST: &str = "oldest waits for";
const IN_DOUBT: &str = "unknown, no finding";
const FAILED: &str = "failed, open, 24 h";
const DISPATCHERS: &str = "dispatchers alive";

impl Page {
    /// The names of the columns behind the first two.
    fn columns(&self) -> Vec<&'static str> {
        let own = ["waiting", OLDEST, "in flight", IN_DOUBT, FAILED, DISPATCHERS];
        own.into_iter().chain(ENDED.map(State::as_str)).collect()
    }
}
