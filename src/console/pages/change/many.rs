//! What is done with all deliveries that a search finds: which these are, and what is shown of them before it is done.

use chrono::{DateTime, Utc};

use crate::console::failure::Trouble;
use crate::console::form::Form;
use crate::console::pages::deliveries::Row;
use crate::console::query::{Place, Search};
use crate::console::words::number;
use crate::domain::delivery::State;
use crate::store::Store;
use crate::store::candidates::Candidates;
use crate::store::history::{HistoryFilter, HistoryRow};

/// The most deliveries with which something is done at once. The command line takes more.
const MOST: usize = 1_000;
/// The most deliveries that are shown beforehand.
const MOST_SHOWN: usize = 10;

fn counted(count: usize) -> String {
    number(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The criteria of a search, among what was created before this time: what is made from now on is not found by them.
pub(super) fn filter(
    query: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<(HistoryFilter, Search), Trouble> {
    let search = Search::of(query)?;
    if search.q.is_some() || search.place != Place::Newest || !search.is_narrowed() {
        let why = "To do this with several deliveries, give criteria other than an id, and begin at the newest.";
        return Err(Trouble::Wrong(why.to_owned()));
    }
    let filter = search.filter(now);
    let until = filter.until.map_or(until, |own| own.min(until));
    Ok((HistoryFilter { until: Some(until), ..filter }, search))
}

/// The time of the dry run, which a form brings back: what was meant by "2 hours ago" was so then.
pub(super) fn until_of(form: &Form) -> Result<DateTime<Utc>, Trouble> {
    let wrong = |_| Trouble::Wrong("until: expected a time with an offset.".to_owned());
    Ok(DateTime::parse_from_rfc3339(form.needed("until")?).map_err(wrong)?.to_utc())
}

/// The deliveries that match, in states that allow it, and what is left out because of its state.
pub(super) struct Chosen {
    pub(super) rows: Vec<HistoryRow>,
    pub(super) left_out: Vec<String>,
}

impl Chosen {
    /// `command` takes more of them at once.
    pub(super) async fn of(
        store: &Store,
        filter: &HistoryFilter,
        allows: impl Fn(State) -> bool,
        command: &str,
    ) -> Result<Chosen, Trouble> {
        match store.candidates(filter, allows, MOST).await? {
            Candidates::Found { rows, left_out } => {
                let left_out = left_out.iter().map(|left| format!("{} {}", number(left.count), left.state)).collect();
                Ok(Chosen { rows, left_out })
            }
            Candidates::TooMany => Err(Trouble::NotDone(format!(
                "More than {} deliveries match. Narrow the search, or use `postcall {command}`.",
                counted(MOST)
            ))),
        }
    }

    /// Those that had ended at the time of the dry run, which alone it can have shown: what was in flight then may have ended since.
    pub(super) fn that_were_shown(mut self, until: DateTime<Utc>) -> Vec<HistoryRow> {
        self.rows.retain(|row| row.finished_at.is_some_and(|finished_at| finished_at <= until));
        self.rows
    }
}

/// What is shown of deliveries before something is done with them: how many they are in each state, and the first few.
pub(super) struct Shown {
    pub(super) count: String,
    pub(super) states: Vec<String>,
    pub(super) rows: Vec<Row>,
    /// How many more there are.
    pub(super) more: Option<String>,
}

impl Shown {
    pub(super) fn of(rows: &[HistoryRow]) -> Shown {
        let states = State::ALL.into_iter().map(|state| (state, rows.iter().filter(|row| row.state == state).count()));
        let more = rows.len().saturating_sub(MOST_SHOWN);
        Shown {
            count: counted(rows.len()),
            states: states
                .filter(|(_, count)| *count > 0)
                .map(|(state, count)| format!("{} {state}", counted(count)))
                .collect(),
            rows: rows.iter().take(MOST_SHOWN).map(Row::of).collect(),
            more: (more > 0).then(|| counted(more)),
        }
    }
}
