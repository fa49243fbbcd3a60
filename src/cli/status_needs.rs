//! What `postcall status` tells of what needs somebody, and of the last hour: by the same rules as the overview of the console.

use serde_json::{Map, Value, json};

use super::{CliError, print_line};
use crate::domain::delivery::State;
use crate::service::needs::{MOST_COUNTED, Need, needs, up_to};
use crate::service::words::count;
use crate::store::history::StateCount;
use crate::store::open_deliveries::OpenDeliveries;
use crate::store::partitions::Headroom;
use crate::store::status::Status;
use crate::store::{Store, StoreError};

/// The states in which a delivery ends.
const ENDED: [State; 5] = [State::Delivered, State::Rejected, State::Failed, State::Unknown, State::Skipped];

/// What needs somebody, and what the last hour was like.
pub(super) struct Lately {
    needs: Vec<Need>,
    /// `None` for those who may not read it.
    last_hour: Option<Vec<StateCount>>,
    /// Whether all was read that may need somebody.
    is_whole: bool,
}

/// What is read; `None` for those who may not.
pub(super) fn permitted<T>(read: Result<T, StoreError>) -> Result<Option<T>, CliError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_forbidden() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Lately {
    pub(super) async fn of(store: &Store, status: &Status, open: Option<&OpenDeliveries>) -> Result<Lately, CliError> {
        let last_hour = permitted(store.last_hour(status.at, MOST_COUNTED).await)?;
        let headroom: Option<Vec<Headroom>> = permitted(store.headroom().await)?;
        let needs = needs(Some(status), last_hour.as_deref(), open, headroom.as_deref());
        Ok(Lately { needs, is_whole: last_hour.is_some() && open.is_some() && headroom.is_some(), last_hour })
    }

    /// How many things need somebody.
    pub(super) fn things(&self) -> usize {
        self.needs.iter().filter(|need| need.is_for_somebody()).count()
    }

    /// Prints what needs somebody, with what to do about each.
    pub(super) fn show_needs(&self) -> Result<(), CliError> {
        match (self.things(), self.is_whole) {
            (0, true) => print_line("nothing needs anybody")?,
            (0, false) => print_line("of what could be read, nothing needs anybody")?,
            (1, _) => print_line("1 thing needs somebody")?,
            (things, _) => print_line(&format!("{things} things need somebody"))?,
        }
        for need in &self.needs {
            print_line(&format!("{:<9}  {}", need.urgency, need.what))?;
            print_line(&format!("{:<9}  {}", "", need.cure))?;
            if let Some(command) = need.command {
                print_line(&format!("{:<9}  $ {command}", ""))?;
            }
        }
        print_line("")
    }

    /// Prints what became of the calls of the last hour.
    pub(super) fn show_last_hour(&self) -> Result<(), CliError> {
        let Some(counts) = &self.last_hour else { return Ok(()) };
        let ended = ENDED.map(|state| format!("{state} {}", count(up_to(counted(counts, state)))));
        print_line(&format!("last hour  {}", ended.join(", ")))
    }

    /// Adds it to the status, for programs.
    pub(super) fn describe(&self, object: &mut Value) {
        let described = |need: &Need| json!({ "urgency": need.urgency, "what": need.what, "cure": need.cure, "command": need.command });
        object["needs"] = self.needs.iter().map(described).collect();
        let by_state = |counts: &Vec<StateCount>| {
            let ended = ENDED.map(|state| {
                let count = up_to(counted(counts, state));
                (state.as_str().to_owned(), json!({ "count": count.counted, "is_more": count.is_more }))
            });
            Value::Object(Map::from_iter(ended))
        };
        object["last_hour"] = self.last_hour.as_ref().map_or(Value::Null, by_state);
    }
}

fn counted(counts: &[StateCount], state: State) -> i64 {
    counts.iter().find(|counted| counted.state == state).map_or(0, |counted| counted.count)
}
