//! Saying what became of many unknown deliveries: one after the other, each committed by itself, so that what was interrupted can
//! simply be repeated; or judging beforehand about which it would be said.

use std::collections::BTreeMap;

use crate::domain::delivery::{Finding, State};
use crate::store::history::HistoryRow;
use crate::store::resolve::Resolution;
use crate::store::{Store, StoreError};

/// After how many deliveries it is told how far it is.
const STEP: usize = 500;

/// Whether a delivery in this state can be resolved at all. A single delivery can still be refused for other reasons.
pub fn allows(state: State) -> bool {
    state == State::Unknown
}

/// A finding about deliveries, by whom and why.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was found out.
    pub finding: Finding,
    /// By whom, in that person's own words.
    pub by: String,
    /// The reason that this person gave.
    pub reason: String,
}

/// What resolving many would do.
#[derive(Debug)]
pub struct Judged {
    /// Those that would be resolved.
    pub allowed: Vec<HistoryRow>,
    /// How many would be refused, by reason.
    pub refused: Refused,
}

/// What resolving many has done.
#[derive(Debug)]
pub struct Made {
    /// How many were resolved.
    pub made: usize,
    /// How many were refused, by reason.
    pub refused: Refused,
}

/// How many deliveries were refused, by the reason.
pub type Refused = BTreeMap<&'static str, usize>;

/// The database failed in the middle. What was resolved before stays so, and a repetition does not find it any more.
#[derive(Debug, thiserror::Error)]
#[error("{made} were resolved before the database failed")]
pub struct Interrupted {
    /// How many were resolved before. It is not known whether the one at which it failed was.
    pub made: usize,
    /// What the database says.
    pub source: StoreError,
}

/// The dry run: which of the deliveries would be resolved.
pub fn judge(rows: Vec<HistoryRow>) -> Judged {
    let mut refused = Refused::new();
    let mut allowed = rows;
    allowed.retain(|row| {
        let why = (!allows(row.state)).then_some(NOT_UNKNOWN).or(row.replayed_as.map(|_| REPLAYED));
        why.map(|why| *refused.entry(why).or_default() += 1).is_none()
    });
    Judged { allowed, refused }
}

const NOT_UNKNOWN: &str = "not unknown any more";
const REPLAYED: &str = "replayed already: its replay tells more about the message";

/// Resolves those of the deliveries that can be resolved. `progress` is told after each step how many are done with.
///
/// # Errors
/// Those of the database.
pub async fn resolve(
    store: &Store,
    rows: &[HistoryRow],
    found: &Found,
    mut progress: impl FnMut(usize),
) -> Result<Made, Interrupted> {
    let (mut made, mut refused) = (0, Refused::new());
    // Each is a statement of its own: dispatchers record late results of the same deliveries in an order of their own, and could wait
    // in a circle with a transaction that has many of them.
    for (step, rows) in rows.chunks(STEP).enumerate() {
        for row in rows {
            let resolved = store.resolve(row.delivery_id, found.finding, &found.by, &found.reason).await;
            match why_not(&resolved.map_err(|source| Interrupted { made, source })?) {
                None => made += 1,
                Some(why) => *refused.entry(why).or_default() += 1,
            }
        }
        progress(step * STEP + rows.len());
    }
    Ok(Made { made, refused })
}

fn why_not(resolution: &Resolution) -> Option<&'static str> {
    match resolution {
        Resolution::Resolved => None,
        Resolution::NotUnknown { .. } => Some(NOT_UNKNOWN),
        Resolution::AlreadyResolved => Some("resolved before, by somebody else or by its own late result"),
        Resolution::Replayed { .. } => Some(REPLAYED),
        Resolution::JustEnded => Some("ended as unknown at this moment"),
        Resolution::NoSuchDelivery => Some("gone from history"),
    }
}
