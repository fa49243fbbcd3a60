//! Finds out which lanes have work, and what is paused. This worker has a session of its own, so that no look delays a
//! claim. It makes three kinds of looks:
//!
//! - **Arrivals**: what was inserted since the last look, in the order of insertion. The scout looks at them all the
//!   time, and finds nearly every delivery this way. A look begins a moment before the end of the last one, because
//!   some transactions commit a little late.
//! - **Rounds**: all lanes in which something waits, slice by slice, and, for lanes that have cursors, what waits
//!   behind them. A round finds what was there before this dispatcher started, what was committed much later than it
//!   was inserted, and what other dispatchers gave back. It reads all dead rows, too, so it is made seldom, and more
//!   seldom the longer it takes.
//! - **Pauses**: what is paused, once a second.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::backoff::Outage;
use super::idle_wait::IdleWait;
use super::schedule::Schedule;
use super::{STATEMENT_TIMEOUT, until};
use crate::metrics::{Counters, Operation};
use crate::store::lanes::{LaneCursor, LaneSeen};
use crate::store::session::Session;
use crate::store::{Store, StoreError};

/// How many deliveries one look at the arrivals reads at most.
const ARRIVALS: usize = 1_000;
/// How many lanes one statement of a round finds or checks at most.
const SLICE: usize = 1_000;
/// If a transaction commits no later than this after its insert, a look at the arrivals finds what it inserted.
const MARGIN_MS: u32 = 250;
/// The shortest time between two rounds.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// Rounds take no more than one part in so many of the time.
const ROUND_RARITY: u32 = 20;
/// How often the pauses are read.
const PAUSES_EVERY: Duration = Duration::from_secs(1);
/// The pause after a look that found something, so that others have their turn.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// The scout worker of one dispatcher.
pub(super) struct Scout {
    session: Session,
    schedule: Schedule,
    idle_wait: IdleWait,
    outage: Outage,
    /// The next look at the arrivals reads ids greater than this one.
    after: Uuid,
    /// The newest delivery that a look has seen.
    newest: Uuid,
    round_due: Instant,
    pauses_due: Instant,
}

impl Scout {
    pub(super) fn new(store: &Store, schedule: Schedule, counts: &Counters) -> Scout {
        let now = Instant::now();
        Scout {
            session: store.session(STATEMENT_TIMEOUT).counting(counts.errors(Operation::Scout)),
            schedule,
            idle_wait: IdleWait::new(store.clone()),
            outage: Outage::none("scout"),
            after: Uuid::nil(),
            newest: Uuid::nil(),
            round_due: now,
            pauses_due: now,
        }
    }

    /// Looks until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // If `stop` interrupts a statement, the session drops its connection. The scout only reads, so nothing is
            // lost.
            let Some(looked) = stop.run_until_cancelled(self.look()).await else { return };
            if looked.is_ok()
                && stop.run_until_cancelled(self.idle_wait.cancel_wake_up(&mut self.session)).await.is_none()
            {
                return;
            }
            match looked {
                Ok(true) => {
                    self.outage.over();
                    self.idle_wait.over();
                    until(&stop, tokio::time::sleep(BUSY_PAUSE)).await;
                }
                Ok(false) => {
                    self.outage.over();
                    until(&stop, self.idle_wait.wait(&mut self.session)).await;
                }
                Err(error) => until(&stop, self.outage.wait(&error)).await,
            }
        }
    }

    /// Looks at whatever is due. Returns whether anything has arrived.
    async fn look(&mut self) -> Result<bool, StoreError> {
        // Pauses are read first, so that a pause is known before the deliveries that it covers are found.
        if Instant::now() >= self.pauses_due {
            let pauses = self.session.active_pauses().await?;
            let active = pauses.len();
            if self.schedule.pause(pauses.into_iter().map(|pause| pause.target)) {
                info!(pauses.active = active, "the pauses have changed");
            }
            self.pauses_due = Instant::now() + PAUSES_EVERY;
        }
        let mut is_news = self.arrivals().await?;
        if Instant::now() >= self.round_due {
            let begun = Instant::now();
            let round = self.round().await;
            // Also after a failed round: if a statement of a round always times out, the looks at the arrivals must go
            // on.
            self.round_due = Instant::now() + ROUND_EVERY.max(begun.elapsed() * ROUND_RARITY);
            is_news |= round?;
        }
        Ok(is_news)
    }

    /// Looks at what has arrived. Returns whether any delivery is newer than all that were seen before.
    async fn arrivals(&mut self) -> Result<bool, StoreError> {
        let arrivals = self.session.arrivals(self.after, ARRIVALS, MARGIN_MS).await?;
        self.schedule.raise_floor(arrivals.floor);
        let is_full = arrivals.looked_at >= ARRIVALS;
        let newest = arrivals.newest.unwrap_or_default();
        let is_news = newest > self.newest;
        // The next look begins early enough to find what commits a little late. If one look could not read everything,
        // the next one begins where it ended, and older ids that commit late are left to the rounds.
        self.after = self.after.max(arrivals.floor);
        if is_full {
            self.after = self.after.max(newest);
        }
        self.newest = self.newest.max(newest);
        self.meet(arrivals.lanes).await?;
        Ok(is_news)
    }

    /// Makes a round through all lanes, in slices, with a look at the arrivals after each slice. Returns whether any of
    /// those looks found a newer delivery.
    async fn round(&mut self) -> Result<bool, StoreError> {
        let cursors = self.schedule.all_cursors();
        let mut is_news = false;
        for slice in cursors.chunks(SLICE) {
            let checked = self.session.check_lanes(slice).await?;
            let unknown = self.schedule.checked(checked);
            self.introduce(unknown).await?;
            is_news |= self.arrivals().await?;
        }
        let mut after = i64::MIN;
        loop {
            let known = boundaries(&cursors, after);
            let lanes = self.session.lanes_with_work(after, &known, SLICE).await?;
            let last_of_full = lanes.last().filter(|_| lanes.len() >= SLICE).map(|lane| lane.action_id);
            self.meet(lanes).await?;
            is_news |= self.arrivals().await?;
            after = if let Some(last) = last_of_full {
                last
            } else if let Some(&end) = known.last()
                && end < i64::MAX
            {
                end
            } else {
                return Ok(is_news);
            };
        }
    }

    /// Tells the schedule about lanes in which something waits, and makes unknown or changed ones known.
    async fn meet(&mut self, lanes: Vec<LaneSeen>) -> Result<(), StoreError> {
        let unknown = self.schedule.found(lanes);
        self.introduce(unknown).await
    }

    /// Reads about lanes that are not known, or whose action has changed, and makes them known.
    async fn introduce(&mut self, unknown: Vec<LaneSeen>) -> Result<(), StoreError> {
        for slice in unknown.chunks(SLICE) {
            let ids: Vec<i64> = slice.iter().map(|lane| lane.action_id).collect();
            let about = self.session.lanes_about(&ids).await?;
            self.schedule.introduce(slice, about);
        }
        Ok(())
    }
}

/// The next slice of lanes after `after` that have cursors. If they are the last ones, the greatest possible id
/// follows.
fn boundaries(cursors: &[LaneCursor], after: i64) -> Vec<i64> {
    let first = cursors.partition_point(|cursor| cursor.action_id <= after);
    let rest = &cursors[first..];
    let mut known: Vec<i64> = rest.iter().take(SLICE).map(|cursor| cursor.action_id).collect();
    if rest.len() <= SLICE {
        known.push(i64::MAX);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slice_of_a_round_goes_on_where_the_last_one_ended_and_the_last_one_goes_to_the_end() {
        let cursors: Vec<LaneCursor> =
            (1..=2 * SLICE as i64).map(|lane| LaneCursor { action_id: lane, after: Uuid::nil() }).collect();
        let first = boundaries(&cursors, i64::MIN);
        assert_eq!((first.len(), first.last().copied()), (SLICE, Some(SLICE as i64)));
        let second = boundaries(&cursors, SLICE as i64);
        assert_eq!((second.len(), second[0], second.last().copied()), (SLICE + 1, SLICE as i64 + 1, Some(i64::MAX)));
        assert_eq!(boundaries(&[], 5), [i64::MAX]);
    }
}
