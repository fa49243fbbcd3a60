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
    seen: Seen,
    rounds: Due,
    pauses: Due,
}

/// Up to where the arrivals have been looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The next look at the arrivals reads ids greater than this one.
    after: Uuid,
    /// The newest delivery that a look has seen.
    newest: Uuid,
}

impl Seen {
    /// Notes a look. The next one begins early enough to find what commits a little late. If one look could not read everything,
    /// the next one begins where it ended, and older ids that commit late are left to the rounds.
    fn note(&mut self, floor: Uuid, newest: Option<Uuid>, looked_at: usize) {
        let newest = newest.unwrap_or_default();
        self.after = self.after.max(floor);
        if looked_at >= ARRIVALS {
            self.after = self.after.max(newest);
        }
        self.newest = self.newest.max(newest);
    }
}

/// When something that is done again and again is due.
struct Due(Instant);

impl Due {
    fn is_now(&self, now: Instant) -> bool {
        now >= self.0
    }

    /// Notes that it has been done at `now`, and is due again after this time.
    fn again(&mut self, now: Instant, after: Duration) {
        self.0 = now + after;
    }
}

/// The time between a round that took so long and the next one.
fn between_rounds(took: Duration) -> Duration {
    ROUND_EVERY.max(took * ROUND_RARITY)
}

impl Scout {
    pub(super) fn new(store: &Store, schedule: Schedule, counts: &Counters) -> Scout {
        let now = Instant::now();
        Scout {
            session: store.session(STATEMENT_TIMEOUT).counting(counts.errors(Operation::Scout)),
            schedule,
            idle_wait: IdleWait::new(store.clone()),
            outage: Outage::none("scout"),
            seen: Seen::default(),
            rounds: Due(now),
            pauses: Due(now),
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

    /// Looks at whatever is due. Returns whether any delivery has arrived that is newer than all that were seen before.
    async fn look(&mut self) -> Result<bool, StoreError> {
        // Pauses are read first, so that a pause is known before the deliveries that it covers are found.
        if self.pauses.is_now(Instant::now()) {
            let pauses = self.session.active_pauses().await?;
            let active = pauses.len();
            if self.schedule.pause(pauses.into_iter().map(|pause| pause.target)) {
                info!(pauses.active = active, "the pauses have changed");
            }
            self.pauses.again(Instant::now(), PAUSES_EVERY);
        }
        let newest_before = self.seen.newest;
        self.arrivals().await?;
        if self.rounds.is_now(Instant::now()) {
            let begun = Instant::now();
            let round = self.round().await;
            // Also after a failed round: if a statement of a round always times out, the looks at the arrivals must go
            // on.
            self.rounds.again(Instant::now(), between_rounds(begun.elapsed()));
            round?;
        }
        Ok(self.seen.newest != newest_before)
    }

    /// Looks at what has arrived.
    async fn arrivals(&mut self) -> Result<(), StoreError> {
        let arrivals = self.session.arrivals(self.seen.after, ARRIVALS, MARGIN_MS).await?;
        self.schedule.raise_floor(arrivals.floor);
        self.seen.note(arrivals.floor, arrivals.newest, arrivals.looked_at);
        self.meet(arrivals.lanes).await
    }

    /// Makes a round through all lanes, in slices, with a look at the arrivals after each slice.
    async fn round(&mut self) -> Result<(), StoreError> {
        let cursors = self.schedule.all_cursors();
        for slice in cursors.chunks(SLICE) {
            let checked = self.session.check_lanes(slice).await?;
            let unknown = self.schedule.checked(checked);
            self.introduce(unknown).await?;
            self.arrivals().await?;
        }
        let mut after = i64::MIN;
        loop {
            let known = boundaries(&cursors, after);
            let lanes = self.session.lanes_with_work(after, &known, SLICE).await?;
            let next = next_slice(&lanes, &known);
            self.meet(lanes).await?;
            self.arrivals().await?;
            after = match next {
                Some(next) => next,
                None => return Ok(()),
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

/// The lane after which a round goes on that has found these lanes between those that are `known`: the last one that it has found if
/// they are as many as one statement finds, and otherwise the last known one. `None` if that is the end.
fn next_slice(found: &[LaneSeen], known: &[i64]) -> Option<i64> {
    match found.last() {
        Some(last) if found.len() >= SLICE => Some(last.action_id),
        _ => known.last().copied().filter(|end| *end != i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Database, Receiver};
    use super::*;
    use crate::scheduler::Limits;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn the_next_look_goes_on_where_a_full_one_ended_and_otherwise_begins_a_moment_before_the_end() {
        let after_a_look = |newest, looked_at| {
            let mut seen = Seen { after: id(10), newest: id(50) };
            seen.note(id(30), newest, looked_at);
            (seen.after, seen.newest)
        };
        assert_eq!(after_a_look(None, 0), (id(30), id(50)));
        assert_eq!(after_a_look(Some(id(40)), ARRIVALS - 1), (id(30), id(50)));
        assert_eq!(after_a_look(Some(id(60)), ARRIVALS - 1), (id(30), id(60)));
        assert_eq!(after_a_look(Some(id(60)), ARRIVALS), (id(60), id(60)));
        let mut seen = Seen { after: id(40), newest: id(50) };
        seen.note(id(30), Some(id(35)), ARRIVALS);
        assert_eq!(seen, Seen { after: id(40), newest: id(50) }, "never back");
    }

    #[test]
    fn what_was_done_is_due_again_after_its_time_and_rounds_take_a_twentieth_of_all_time() {
        let now = Instant::now();
        let mut due = Due(now);
        assert!(due.is_now(now));
        due.again(now, PAUSES_EVERY);
        let just_before = PAUSES_EVERY - Duration::from_nanos(1);
        assert_eq!([just_before, PAUSES_EVERY].map(|after| due.is_now(now + after)), [false, true]);
        assert_eq!(between_rounds(Duration::from_millis(10)), ROUND_EVERY);
        assert_eq!(between_rounds(Duration::from_secs(1)), Duration::from_secs(20));
    }

    #[test]
    fn a_round_goes_on_behind_what_a_full_statement_has_found_or_behind_the_last_known_lane_until_the_end() {
        let found = |count: usize| -> Vec<LaneSeen> {
            (1..=count as i64).map(|action_id| LaneSeen { action_id, version: 1, enabled: true }).collect()
        };
        assert_eq!(next_slice(&found(SLICE), &[5, i64::MAX]), Some(SLICE as i64));
        assert_eq!(next_slice(&found(SLICE - 1), &[5_000]), Some(5_000));
        assert_eq!(next_slice(&[], &[5]), Some(5));
        assert_eq!([next_slice(&[], &[5, i64::MAX]), next_slice(&found(SLICE - 1), &[i64::MAX])], [None, None]);
    }

    /// Whether something waits, as the schedule knows.
    async fn waits(schedule: &Schedule) -> bool {
        tokio::time::timeout(Duration::from_millis(1), schedule.turns(1)).await.is_ok()
    }

    #[tokio::test]
    async fn a_look_tells_whether_something_newer_has_come_and_rounds_and_pauses_are_looked_at_when_they_are_due() {
        let (mut database, receiver) = (Database::new().await, Receiver::holding().await);
        let limits = Limits { in_flight: 4, per_agent: 4, per_host: 4, adapt: false, hold_unreachable: false };
        let schedule = Schedule::all(limits, 1).remove(0);
        let mut scout = Scout::new(&database.store, schedule.clone(), &Counters::default());
        database.calls_for(&receiver, 1).await;
        let later = Instant::now() + Duration::from_secs(1_000);
        assert!(scout.look().await.unwrap(), "a call has come");
        assert!(waits(&schedule).await);
        assert!(!scout.look().await.unwrap(), "nothing new has come");

        // A delivery with an id from before is found by a round alone.
        let late = "UPDATE postcall.waiting SET delivery_id = '00000000-0000-7000-8000-000000000001'";
        let forget = |scout: &mut Scout| {
            schedule.forget();
            schedule.resume();
            (scout.seen.after, scout.rounds, scout.pauses) = (Uuid::max(), Due(later), Due(later));
        };
        sqlx::raw_sql(late).execute(&mut database.connection).await.unwrap();
        forget(&mut scout);
        assert!(!scout.look().await.unwrap() && !waits(&schedule).await, "it is not due");
        scout.rounds = Due(Instant::now());
        assert!(!scout.look().await.unwrap() && waits(&schedule).await, "it is found, and is older than another one");
        assert!(!scout.rounds.is_now(Instant::now()));

        let pause = "INSERT INTO postcall.pause (agent, reason, paused_by) VALUES ('a', 'r', 'Ada')";
        sqlx::raw_sql(pause).execute(&mut database.connection).await.unwrap();
        scout.look().await.unwrap();
        assert!(waits(&schedule).await, "pauses are not due");
        scout.pauses = Due(Instant::now());
        scout.look().await.unwrap();
        assert!(!waits(&schedule).await);
    }

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
