//! Replaying many deliveries: in batches, each of which is committed before the next one begins, so that what was
//! interrupted can simply be repeated; or judging beforehand what would be replayed.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::store::history::HistoryRow;
use crate::store::replay::{ReplayOrder, ReplayRefusal, Replayed};
use crate::store::{Store, StoreError};

/// How many deliveries are replayed in one transaction.
const BATCH: usize = 500;

/// What a replay of many would do.
#[derive(Debug)]
pub struct Judged {
    /// Those that would be replayed.
    pub allowed: Vec<HistoryRow>,
    /// How many would be refused.
    pub refused: Refused,
}

/// What a replay of many has done.
#[derive(Debug)]
pub struct Made {
    /// How many were replayed.
    pub made: usize,
    /// How many were refused.
    pub refused: Refused,
}

/// The database failed in the middle. What was replayed before stays replayed, and a repetition refuses it.
#[derive(Debug, thiserror::Error)]
#[error("{made} were replayed before the database failed")]
pub struct Interrupted {
    /// How many were replayed before. It is not known whether the batch that failed was.
    pub made: usize,
    /// What the database says.
    pub source: StoreError,
}

/// The dry run: which of the deliveries would be replayed. Changes nothing.
///
/// # Errors
/// Only those of the database.
pub async fn judge(store: &Store, rows: Vec<HistoryRow>, order: &ReplayOrder) -> Result<Judged, StoreError> {
    let mut allowed = Vec::new();
    let mut refused = Refused::default();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let batch: Vec<HistoryRow> = rows.by_ref().take(BATCH).collect();
        let outcomes: BTreeMap<Uuid, Replayed> = store.judge_replay(&ids(&batch), order).await?.into_iter().collect();
        for row in batch {
            match outcomes.get(&row.delivery_id) {
                Some(Replayed::Refused(refusal)) => refused.count(refusal),
                _ => allowed.push(row),
            }
        }
    }
    Ok(Judged { allowed, refused })
}

/// Replays those of the deliveries that can be replayed. `progress` is told after each batch how many are done with.
///
/// # Errors
/// Those of the database.
pub async fn replay(
    store: &Store,
    rows: &[HistoryRow],
    order: &ReplayOrder,
    mut progress: impl FnMut(usize),
) -> Result<Made, Interrupted> {
    let (mut made, mut refused) = (0, Refused::default());
    let mut done = 0;
    for batch in rows.chunks(BATCH) {
        let outcomes = store.replay(&ids(batch), order).await.map_err(|source| Interrupted { made, source })?;
        for (_, outcome) in &outcomes {
            match outcome {
                Replayed::As(_) | Replayed::Allowed => made += 1,
                Replayed::Refused(refusal) => refused.count(refusal),
            }
        }
        done += batch.len();
        progress(done);
    }
    Ok(Made { made, refused })
}

fn ids(rows: &[HistoryRow]) -> Vec<Uuid> {
    rows.iter().map(|row| row.delivery_id).collect()
}

/// The number of refused deliveries for each reason.
#[derive(Debug, Default)]
pub struct Refused(BTreeMap<Reason, usize>);

impl Refused {
    fn count(&mut self, refusal: &ReplayRefusal) {
        // Deliveries that were already replayed are counted together: otherwise each would have a reason of its own.
        let reason = match refusal {
            ReplayRefusal::Replayed { .. } => Reason::without_cure("replayed already"),
            other => Reason::of(other),
        };
        *self.0.entry(reason).or_default() += 1;
    }

    /// The reasons, and how many were refused for each.
    pub fn reasons(&self) -> impl Iterator<Item = (&Reason, usize)> {
        self.0.iter().map(|(reason, count)| (reason, *count))
    }
}

/// Why a delivery is not replayed, in words, and what would change that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// What stands against it: a sentence for people without its subject, the delivery.
    pub words: String,
    /// What a person can do about it; how that is done, the interface knows.
    pub cure: Option<Cure>,
}

/// What makes it possible to replay a delivery that was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cure {
    /// Ask for it by [`ReplayOrder::include_delivered`].
    IncludeDelivered,
    /// Ask for it by [`ReplayOrder::include_unknown`].
    IncludeUnknown,
    /// Enable its action.
    EnableAction {
        /// The agent.
        agent: String,
        /// The action's name.
        action: String,
    },
}

impl Reason {
    /// The reason of a refusal.
    pub fn of(refusal: &ReplayRefusal) -> Reason {
        let words = match refusal {
            ReplayRefusal::NoSuchDelivery => "there is no such delivery".to_owned(),
            ReplayRefusal::OnItsWay { state } => format!("still {state}"),
            ReplayRefusal::Replayed { replay: Some(replay), state } => match state {
                Some(state) if !state.is_final() => format!("its replay {replay} is still {state}"),
                Some(state) => format!("was replayed as {replay}, which is {state}: replay that one"),
                None => format!("was replayed as {replay}"),
            },
            ReplayRefusal::Replayed { replay: None, .. } => "somebody else replays it at this moment".to_owned(),
            ReplayRefusal::Delivered => "the message was delivered".to_owned(),
            ReplayRefusal::Unknown => "the message may have been received".to_owned(),
            ReplayRefusal::ActionDisabled { .. } => "its action is disabled".to_owned(),
            ReplayRefusal::PayloadGone => "the call is no longer kept".to_owned(),
        };
        Reason { words, cure: Cure::of(refusal) }
    }

    fn without_cure(words: &str) -> Reason {
        Reason { words: words.to_owned(), cure: None }
    }
}

impl Cure {
    fn of(refusal: &ReplayRefusal) -> Option<Cure> {
        match refusal {
            ReplayRefusal::Delivered => Some(Cure::IncludeDelivered),
            ReplayRefusal::Unknown => Some(Cure::IncludeUnknown),
            ReplayRefusal::ActionDisabled { agent, action } => {
                Some(Cure::EnableAction { agent: agent.clone(), action: action.clone() })
            }
            ReplayRefusal::NoSuchDelivery
            | ReplayRefusal::OnItsWay { .. }
            | ReplayRefusal::Replayed { .. }
            | ReplayRefusal::PayloadGone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_reason_and_those_of_different_actions_apart() {
        let disabled =
            |action: &str| ReplayRefusal::ActionDisabled { agent: "agent".to_owned(), action: action.to_owned() };
        let replayed = |replay| ReplayRefusal::Replayed { replay, state: None };
        let refusals = [
            disabled("a"),
            replayed(Some(Uuid::from_u128(1))),
            disabled("b"),
            replayed(Some(Uuid::from_u128(2))),
            ReplayRefusal::Delivered,
            replayed(None),
            disabled("a"),
        ];
        let mut refused = Refused::default();
        refusals.iter().for_each(|refusal| refused.count(refusal));
        let counted = |refusal: &ReplayRefusal| (Reason::of(refusal), if *refusal == disabled("a") { 2 } else { 1 });
        let expected = [
            counted(&disabled("a")),
            counted(&disabled("b")),
            (Reason::without_cure("replayed already"), 3),
            counted(&ReplayRefusal::Delivered),
        ];
        assert!(refused.reasons().eq(expected.iter().map(|(reason, count)| (reason, *count))), "{refused:?}");
    }
}
