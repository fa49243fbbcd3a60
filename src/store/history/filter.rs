//! Which deliveries are looked for, and what that says about where they can be.

use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::delivery::State;
use crate::domain::error_kind::ErrorKind;
use crate::domain::kept;

/// By how much the time in a delivery's id and its `created_at` may differ: the id is made at the end of the statement
/// that inserts the calls, and `created_at` when each of them is inserted.
pub(in crate::store) const LONGEST_INSERT: TimeDelta = TimeDelta::hours(1);

/// Which deliveries to find. Every criterion that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct HistoryFilter {
    /// One of these deliveries.
    pub delivery_ids: Option<Vec<Uuid>>,
    /// The call's agent, compared exactly.
    pub agent: Option<String>,
    /// The action's name.
    pub action: Option<String>,
    /// One of these states.
    pub states: Option<Vec<State>>,
    /// The provider's id of the call.
    pub call_sid: Option<String>,
    /// The call's id in the outbox.
    pub call_id: Option<Uuid>,
    /// The error kind.
    pub error_kind: Option<ErrorKind>,
    /// The HTTP status code.
    pub response_code: Option<i16>,
    /// Created at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Created before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only what is open: rejected, failed or unknown, and no later delivery of its message was delivered.
    pub open: bool,
}

impl HistoryFilter {
    /// The states that can match: the requested states, without those that an error kind or a response code excludes.
    /// `None` if all states can match.
    pub(in crate::store) fn possible_states(&self) -> Option<Vec<State>> {
        let possible = |state: &State| {
            let kind_fits = self.error_kind.is_none_or(|kind| kind.state() == *state);
            let code_fits = self.response_code.is_none_or(|code| match state {
                State::Delivered => (200..300).contains(&code),
                State::Rejected => !(200..300).contains(&code),
                _ => false,
            });
            let asked = self.states.as_ref().is_none_or(|states| states.contains(state));
            let open_fits = !self.open || matches!(state, State::Rejected | State::Failed | State::Unknown);
            kind_fits && code_fits && asked && open_fits
        };
        let states: Vec<State> = State::ALL.into_iter().filter(possible).collect();
        (states.len() < State::ALL.len()).then_some(states)
    }

    /// The filter without the question whether something has healed what it finds.
    pub(in crate::store) fn candidates(&self) -> HistoryFilter {
        HistoryFilter { states: self.possible_states(), open: false, ..self.clone() }
    }

    /// The requested provider id, cut to the length that history keeps.
    pub(in crate::store) fn kept_call_sid(&self) -> Option<String> {
        let most = usize::try_from(kept::MAX_CALL_SID_CHARS).unwrap_or(usize::MAX);
        self.call_sid.as_ref().map(|sid| sid.chars().take(most).collect())
    }

    /// The ids that can match: a range that excludes its end. `after` is the last id of the previous page.
    pub(in crate::store) fn possible_ids(&self, after: Option<Uuid>) -> Range<Uuid> {
        let since = self.since.and_then(|since| since.checked_sub_signed(LONGEST_INSERT));
        let until = self.until.and_then(|until| until.checked_add_signed(LONGEST_INSERT));
        let (from, until) = (since.map_or(Uuid::nil(), floor), until.map_or(Uuid::max(), floor));
        from..after.map_or(until, |after| until.min(after))
    }
}

/// The smallest id of that millisecond, as `postcall.uuid_v7_floor` computes it.
pub(in crate::store) fn floor(at: DateTime<Utc>) -> Uuid {
    let millis = u128::from(u64::try_from(at.timestamp_millis()).unwrap_or(0));
    Uuid::from_u128(millis.min((1 << 48) - 1) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(filter: &HistoryFilter) -> Option<String> {
        filter.possible_states().map(|states| states.into_iter().map(State::as_str).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn an_error_kind_or_a_response_code_says_in_which_states_it_can_be() {
        let asked = HistoryFilter::default();
        assert_eq!(states(&asked), None);
        for (kind, state) in [("connect", "failed"), ("render", "failed"), ("timeout", "unknown")] {
            let filter = HistoryFilter { error_kind: ErrorKind::named(kind), ..asked.clone() };
            assert_eq!(states(&filter).as_deref(), Some(state), "{kind}");
        }
        for (code, state) in [(200, "delivered"), (299, "delivered"), (300, "rejected"), (199, "rejected")] {
            let filter = HistoryFilter { response_code: Some(code), ..asked.clone() };
            assert_eq!(states(&filter).as_deref(), Some(state), "{code}");
        }
        let states_asked = Some(vec![State::Rejected, State::Waiting]);
        let filter = HistoryFilter { states: states_asked, response_code: Some(404), ..asked };
        assert_eq!(states(&filter).as_deref(), Some("rejected"));
    }

    #[test]
    fn ids_are_bounded_by_time_with_an_hour_to_spare_and_by_the_page_before() {
        let at: DateTime<Utc> = "2026-11-24T09:30:00Z".parse().unwrap();
        let filter = HistoryFilter { since: Some(at), until: Some(at), ..HistoryFilter::default() };
        let ids = filter.possible_ids(None);
        assert_eq!(ids, floor(at - LONGEST_INSERT)..floor(at + LONGEST_INSERT));
        assert_eq!(filter.possible_ids(Some(floor(at))).end, floor(at));
        assert_eq!(filter.possible_ids(Some(Uuid::max())), ids);
        assert_eq!(HistoryFilter::default().possible_ids(None), Uuid::nil()..Uuid::max());
        assert_eq!(floor(at).as_u128() >> 80, 1_795_512_600_000);
        assert_eq!(floor(DateTime::<Utc>::MIN_UTC), Uuid::nil());
        assert_eq!(floor(DateTime::<Utc>::MAX_UTC).as_u128() >> 80, (1 << 48) - 1, "the last that an id can hold");
        let (since, until) = (Some(DateTime::<Utc>::MIN_UTC), Some(DateTime::<Utc>::MAX_UTC));
        let filter = HistoryFilter { since, until, ..HistoryFilter::default() };
        assert_eq!(filter.possible_ids(None), Uuid::nil()..Uuid::max(), "no time is too far away");
    }
}
