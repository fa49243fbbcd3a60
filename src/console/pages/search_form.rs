//! The form that searches for deliveries, as pages show it.

use crate::console::query::Search;
use crate::console::words::Mark;
use crate::domain::delivery::State;
use crate::domain::error_kind::ErrorKind;

/// The form, with what was asked for.
pub(in crate::console) struct Form {
    pub(in crate::console) q: String,
    pub(in crate::console) states: Vec<(State, Mark, bool)>,
    pub(in crate::console) agent: String,
    pub(in crate::console) action: String,
    pub(in crate::console) error_kinds: Vec<(ErrorKind, bool)>,
    pub(in crate::console) response_code: String,
    pub(in crate::console) since: String,
    pub(in crate::console) until: String,
    pub(in crate::console) open: bool,
    pub(in crate::console) is_narrowed: bool,
    pub(in crate::console) is_any: bool,
}

impl Form {
    /// The form with what was searched for; without a search, it is empty.
    pub(super) fn of(search: Option<&Search>) -> Form {
        let text = |field: fn(&Search) -> Option<&String>| search.and_then(field).cloned().unwrap_or_default();
        let has = |state| search.is_some_and(|search| search.states.contains(&state));
        let kind = search.and_then(|search| search.error_kind);
        Form {
            q: text(|search| search.q.as_ref()),
            states: State::ALL.map(|state| (state, Mark::from(state), has(state))).to_vec(),
            agent: text(|search| search.agent.as_ref()),
            action: text(|search| search.action.as_ref()),
            error_kinds: ErrorKind::ALL.iter().map(|one| (*one, Some(*one) == kind)).collect(),
            response_code: search
                .and_then(|search| search.response_code)
                .map(|code| code.to_string())
                .unwrap_or_default(),
            since: text(|search| search.since_text.as_ref()),
            until: text(|search| search.until_text.as_ref()),
            open: search.is_some_and(|search| search.open),
            is_narrowed: search.is_some_and(Search::is_narrowed),
            is_any: search.is_some_and(Search::is_any),
        }
    }
}
