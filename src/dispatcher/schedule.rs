//! The scheduler as the rooms of a dispatcher share it: behind a lock that is held for moments, with the time of day, the
//! cursors of the lanes, and a notification for the claimer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::Notify;
use uuid::Uuid;

use super::cursors::Cursors;
use crate::domain::host::Origin;
use crate::domain::pause::PauseTarget;
use crate::domain::report::HostReport;
use crate::scheduler::{Edition, LaneId, Limits, Manner, Owners, Probe, Scheduler, Seat, Signal, Turn};
use crate::store::claim::{Ask, Taken};
use crate::store::lanes::{LaneAbout, LaneChecked, LaneCursor, LaneSeen};

/// The pause after which probes are looked for again that are due and had no room.
const BETWEEN_PROBES: Duration = Duration::from_millis(100);

/// The schedule of one dispatcher.
#[derive(Debug)]
pub(super) struct Schedule {
    inner: Mutex<Inner>,
    /// Rung whenever a claim may have become possible.
    changed: Notify,
    /// Rung when a host has become unreachable.
    probe: Notify,
}

#[derive(Debug)]
struct Inner {
    scheduler: Scheduler,
    cursors: Cursors,
}

impl Schedule {
    pub(super) fn new(limits: Limits) -> Schedule {
        let inner = Inner { scheduler: Scheduler::new(limits), cursors: Cursors::default() };
        Schedule { inner: Mutex::new(inner), changed: Notify::new(), probe: Notify::new() }
    }

    /// Waits until a claim is possible, and plans it: `most` deliveries at most. Cancel-safe.
    pub(super) async fn turns(&self, most: usize) -> Vec<Turn> {
        loop {
            let changed = self.changed.notified();
            let turns = self.lock().scheduler.plan(most, Instant::now());
            if !turns.is_empty() {
                return turns;
            }
            changed.await;
        }
    }

    /// Under load, when less than a quarter of the places in reach is free, waits until half of them are, for `at_most`: one
    /// claim for many deliveries costs little more than one for few. Cancel-safe.
    pub(super) async fn gather_places(&self, at_most: Duration) {
        let one_part_is_free_in = |parts: usize| {
            let inner = self.lock();
            inner.scheduler.free() >= inner.scheduler.places_in_reach() / parts
        };
        if one_part_is_free_in(4) {
            return;
        }
        let half_are_free = async {
            while !one_part_is_free_in(2) {
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(at_most, half_are_free).await.ok();
    }

    /// What a claim asks for these turns.
    pub(super) fn asks(&self, turns: &[Turn]) -> Vec<Ask> {
        let (mut inner, now) = (self.lock(), Instant::now());
        let ask = |turn: &Turn| {
            let after = inner.cursors.after(turn.lane, now);
            Ask { action_id: turn.lane, deliveries: turn.quota, after }
        };
        turns.iter().map(ask).collect()
    }

    /// What the claim of these turns took. Returns the seats of each lane's deliveries. `small_only` says that large calls
    /// were left out.
    pub(super) fn claimed(&self, mut turns: Vec<Turn>, taken: &Taken, small_only: bool) -> HashMap<LaneId, Vec<Seat>> {
        let mut counts: HashMap<LaneId, (usize, Uuid)> = HashMap::with_capacity(turns.len());
        for one in &taken.claimed {
            let (count, last) = counts.entry(one.version.action_id).or_insert((0, Uuid::nil()));
            (*count, *last) = (*count + 1, (*last).max(one.token.delivery_id()));
        }
        // Lanes that got nothing because the bytes were used up go first the next time.
        if taken.cut_short {
            turns.sort_by_key(|turn| counts.contains_key(&turn.lane));
        }
        let (mut inner, now) = (self.lock(), Instant::now());
        let mut seats = HashMap::with_capacity(counts.len());
        for turn in turns {
            let (lane, quota) = (turn.lane, turn.quota);
            let (count, last) = counts.get(&lane).copied().unwrap_or_default();
            let seen = taken.seen.get(&lane).copied().unwrap_or_default();
            let more = seen >= quota || seen > count || small_only || (count == 0 && taken.cut_short);
            // Where large calls were left out, what lies before the last one may still wait.
            if count > 0 && !small_only {
                inner.cursors.advance(lane, last, now);
            }
            let of_lane = inner.scheduler.claimed(turn, count, more);
            if count > 0 {
                seats.insert(lane, of_lane);
            }
        }
        drop(inner);
        self.changed.notify_one();
        seats
    }

    /// These turns did not take place.
    pub(super) fn give_back(&self, turns: impl IntoIterator<Item = Turn>) {
        let mut inner = self.lock();
        for turn in turns {
            inner.scheduler.claimed(turn, 0, true);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// A turn asks for `quota` deliveries and no more.
    pub(super) fn shrink(&self, turn: &mut Turn, quota: usize) {
        self.lock().scheduler.shrink(turn, quota);
    }

    /// How an attempt at this host has ended.
    pub(super) fn learn(&self, host: &Origin, started: Instant, signal: Signal) {
        self.lock().scheduler.learn(host, started, signal, Instant::now());
        if matches!(signal, Signal::Unreached(_)) {
            self.probe.notify_one();
        }
    }

    /// A place comes free.
    pub(super) fn leave(&self, seat: &Seat) {
        self.lock().scheduler.leave_seat(seat);
        self.changed.notify_one();
    }

    /// Something waits in these lanes. Returns those that are not known, or of which something has changed.
    pub(super) fn found(&self, lanes: impl IntoIterator<Item = LaneSeen>) -> Vec<LaneSeen> {
        let mut inner = self.lock();
        let mut unknown = Vec::new();
        for lane in lanes {
            let edition = Edition { version: lane.version, enabled: lane.enabled };
            if inner.scheduler.edition(lane.action_id) == Some(edition) {
                inner.scheduler.found(lane.action_id);
            } else {
                unknown.push(lane);
            }
        }
        drop(inner);
        self.changed.notify_one();
        unknown
    }

    /// As [`Schedule::found`], for what was checked behind the cursors.
    pub(super) fn checked(&self, lanes: Vec<LaneChecked>) -> Vec<LaneSeen> {
        let mut inner = self.lock();
        for LaneChecked { lane, behind } in &lanes {
            if let Some(id) = behind {
                inner.cursors.go_back(lane.action_id, *id);
            }
        }
        drop(inner);
        self.found(lanes.into_iter().map(|checked| checked.lane))
    }

    /// Lanes of which the claim has met another version, or another switch, than they are known by: the claim reads the
    /// newest, and the scout may not have told of it yet.
    pub(super) fn outdated(&self, taken: &Taken) -> Vec<LaneSeen> {
        let inner = self.lock();
        let mut outdated: HashMap<LaneId, LaneSeen> = HashMap::new();
        for one in &taken.claimed {
            let (action_id, version, enabled) = (one.version.action_id, one.version.version, one.enabled);
            if inner.scheduler.edition(action_id).is_some_and(|known| known != Edition { version, enabled }) {
                outdated.insert(action_id, LaneSeen { action_id, version, enabled });
            }
        }
        outdated.into_values().collect()
    }

    /// Makes lanes known in which something waits. Those of `seen` that are not told about have no action.
    pub(super) fn introduce(&self, seen: &[LaneSeen], about: Vec<LaneAbout>) {
        let mut told: HashMap<LaneId, LaneAbout> =
            about.into_iter().map(|about| (about.lane.action_id, about)).collect();
        let (mut inner, now) = (self.lock(), Instant::now());
        for lane in seen {
            let id = lane.action_id;
            let (owners, edition, manner) = match told.remove(&id) {
                Some(LaneAbout { lane, agent, url, answered }) => {
                    let host = if lane.enabled { Origin::of_url(&url) } else { None };
                    let edition = Edition { version: lane.version, enabled: lane.enabled };
                    // What history says spares a dispatcher that starts finding it out again.
                    let manner = match answered {
                        Some(true) => Manner::Answering,
                        Some(false) => Manner::Silent,
                        None => Manner::Untried,
                    };
                    (Owners { agent: agent.into(), host }, edition, manner)
                }
                None => {
                    (Owners { agent: "".into(), host: None }, Edition { version: 0, enabled: true }, Manner::Untried)
                }
            };
            if inner.scheduler.admit(id, owners, edition, manner, now) {
                inner.scheduler.found(id);
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// A delivery went back to waiting.
    pub(super) fn returned(&self, lane: LaneId, delivery_id: Uuid) {
        let mut inner = self.lock();
        inner.cursors.go_back(lane, delivery_id);
        inner.scheduler.found(lane);
        drop(inner);
        self.changed.notify_one();
    }

    /// Passes over what a lane has up to this delivery, for a while.
    pub(super) fn pass_over(&self, lane: LaneId, last: Uuid) {
        self.lock().cursors.pass_over(lane, last, Instant::now());
    }

    /// Ids up to this one were made some time ago.
    pub(super) fn raise_floor(&self, floor: Uuid) {
        self.lock().cursors.raise_floor(floor);
    }

    /// All cursors, in the order of their lanes.
    pub(super) fn cursors(&self) -> Vec<LaneCursor> {
        self.lock().cursors.all(Instant::now())
    }

    /// The id behind which a claim of this lane looks.
    pub(super) fn after(&self, lane: LaneId) -> Uuid {
        self.lock().cursors.after(lane, Instant::now())
    }

    /// What is paused from now on.
    pub(super) fn pause(&self, targets: impl IntoIterator<Item = PauseTarget>) {
        self.lock().scheduler.pause(targets.into_iter().collect());
        self.changed.notify_one();
    }

    /// Waits until hosts are to be probed, and returns them: `most` at most, and of those that gave no answer the last time
    /// `most_black_holes`. Cancel-safe.
    pub(super) async fn probes_due(&self, most: usize, most_black_holes: usize) -> (Vec<Origin>, Vec<Origin>) {
        loop {
            let probe = self.probe.notified();
            let (hosts, next) = {
                let mut inner = self.lock();
                (inner.scheduler.probes_due(most, most_black_holes, Instant::now()), inner.scheduler.next_probe())
            };
            if !hosts.0.is_empty() || !hosts.1.is_empty() {
                return hosts;
            }
            match next {
                // What is due already has to wait for probes that are under way.
                Some(next) => {
                    let next = next.max(Instant::now() + BETWEEN_PROBES);
                    tokio::time::timeout_at(next.into(), probe).await.ok();
                }
                None => probe.await,
            }
        }
    }

    /// What a probe has shown.
    pub(super) fn probed(&self, host: &Origin, probe: Probe) {
        self.lock().scheduler.probed(host, probe, Instant::now());
        self.changed.notify_one();
    }

    /// What there is to be seen: requests in flight, and the hosts.
    pub(super) fn report(&self) -> (usize, Vec<HostReport>) {
        let inner = self.lock();
        (inner.scheduler.in_flight(), inner.scheduler.report(Instant::now()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A seat that is given back when this is dropped, whatever happens to the attempt.
#[derive(Debug)]
pub(super) struct Permit {
    seat: Seat,
    schedule: Arc<Schedule>,
}

impl Permit {
    pub(super) fn new(seat: Seat, schedule: &Arc<Schedule>) -> Permit {
        Permit { seat, schedule: schedule.clone() }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.schedule.leave(&self.seat);
    }
}

#[cfg(test)]
impl Schedule {
    /// Goes on with this scheduler.
    pub(super) fn take_over(&self, scheduler: Scheduler) {
        self.lock().scheduler = scheduler;
    }
}
