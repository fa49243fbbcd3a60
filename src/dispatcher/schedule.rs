//! The scheduler as the workers share it: behind a lock that is only held briefly, with a clock, the cursors of the lanes,
//! and a notification for each claimer. A [`Schedule`] is what the workers of one outbox see of it. All outboxes that
//! the process serves share the scheduler, so that its limits hold for all of them together.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::sync::Notify;
use uuid::Uuid;

use super::cursors::Cursors;
use super::held::HeldTurns;
use crate::domain::host::Origin;
use crate::domain::pause::PauseTarget;
use crate::domain::report::HostReport;
use crate::scheduler::{
    Ailing, Edition, LaneId, Limits, Manner, Outbox, Owners, Place, Probe, Scheduler, Signal, Turn,
};
use crate::store::claim::{Ask, Taken};
use crate::store::lanes::{LaneAbout, LaneChecked, LaneCursor, LaneSeen};

/// The shortest wait before the schedule looks again for probes that are due but had no room.
const BETWEEN_PROBES: Duration = Duration::from_millis(100);

/// The schedule of one outbox.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    outbox: Outbox,
    shared: Arc<Shared>,
}

/// What the schedules of all outboxes share.
#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// Signals to the claimer of each outbox that a claim may have become possible.
    changed: Vec<Notify>,
    /// Signals that a host may have become unreachable.
    probe: Notify,
}

#[derive(Debug)]
struct Inner {
    scheduler: Scheduler,
    /// Those of each outbox.
    cursors: Vec<Cursors>,
}

impl Schedule {
    /// The schedules of so many outboxes, which share these limits. There is at least one.
    pub(super) fn all(limits: Limits, outboxes: u16) -> Vec<Schedule> {
        let outboxes = outboxes.max(1);
        let cursors = Outbox::all(outboxes).map(|_| Cursors::default()).collect();
        let inner = Mutex::new(Inner { scheduler: Scheduler::new(limits, outboxes), cursors });
        let changed = Outbox::all(outboxes).map(|_| Notify::new()).collect();
        let shared = Arc::new(Shared { inner, changed, probe: Notify::new() });
        Outbox::all(outboxes).map(|outbox| Schedule { outbox, shared: shared.clone() }).collect()
    }

    /// The lane of this action.
    fn lane(&self, action_id: i64) -> LaneId {
        LaneId { outbox: self.outbox, action_id }
    }

    fn changed(&self) -> &Notify {
        &self.shared.changed[self.outbox.index()]
    }

    /// Tells all claimers, because what one outbox leaves may be for another.
    fn tell_all(&self) {
        self.shared.changed.iter().for_each(Notify::notify_one);
    }

    fn cursors<'i>(&self, inner: &'i mut Inner) -> &'i mut Cursors {
        &mut inner.cursors[self.outbox.index()]
    }

    /// Keeps no place for this outbox, because its database does not answer, until [`Schedule::resume`]. The other outboxes
    /// of the process do not wait for it.
    pub(super) fn rest(&self) {
        self.lock().scheduler.rest(self.outbox);
        self.tell_all();
    }

    /// Ends [`Schedule::rest`].
    pub(super) fn resume(&self) {
        self.lock().scheduler.resume(self.outbox);
    }

    /// Forgets everything about this outbox, because its dispatcher has ended.
    pub(super) fn forget(&self) {
        let mut inner = self.lock();
        inner.scheduler.forget_outbox(self.outbox);
        *self.cursors(&mut inner) = Cursors::default();
        drop(inner);
        self.tell_all();
    }

    /// Waits until a claim is possible, and plans it, for `most` deliveries at most. Cancel-safe.
    pub(super) async fn turns(&self, most: usize) -> HeldTurns {
        loop {
            let changed = self.changed().notified();
            let (turns, concerns_others) = {
                let scheduler = &mut self.lock().scheduler;
                let state =
                    |scheduler: &Scheduler| (scheduler.waits(self.outbox), scheduler.called_elsewhere(self.outbox));
                let before = state(scheduler);
                let turns = scheduler.plan(self.outbox, most, Instant::now());
                let concerns_others = concerns_others(before, !turns.is_empty(), state(scheduler));
                (turns, concerns_others)
            };
            if concerns_others {
                self.tell_all();
            }
            if !turns.is_empty() {
                return HeldTurns::new(turns, self);
            }
            changed.await;
        }
    }

    /// No turns.
    pub(super) fn no_turns(&self) -> HeldTurns {
        HeldTurns::new(Vec::new(), self)
    }

    /// Under load, when less than a quarter of the places in reach is free, waits until half of them are free, or until
    /// `at_most` is over. One claim for many deliveries costs little more than one for few. Cancel-safe.
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
                self.changed().notified().await;
            }
        };
        tokio::time::timeout(at_most, half_are_free).await.ok();
    }

    /// What a claim asks the database for in these turns.
    pub(super) fn asks(&self, turns: &[Turn]) -> Vec<Ask> {
        let (mut inner, now) = (self.lock(), Instant::now());
        let ask = |turn: &Turn| {
            let action_id = turn.lane.action_id;
            let after = self.cursors(&mut inner).after(action_id, now);
            Ask { action_id, deliveries: turn.quota, after }
        };
        turns.iter().map(ask).collect()
    }

    /// Notes what the claim of these turns took. Returns the places of each action's deliveries. `small_only` says that
    /// the claim left out large calls.
    pub(super) fn claimed(&self, turns: HeldTurns, taken: &Taken, small_only: bool) -> HashMap<i64, Vec<Place>> {
        let mut counts: HashMap<LaneId, (usize, Uuid)> = HashMap::with_capacity(turns.len());
        for one in &taken.claimed {
            let (count, last) = counts.entry(self.lane(one.version.action_id)).or_insert((0, Uuid::nil()));
            (*count, *last) = (*count + 1, (*last).max(one.token.delivery_id()));
        }
        let mut turns = turns.take();
        // Lanes that got nothing, because the bytes were used up, go first the next time.
        if taken.cut_short {
            turns.sort_by_key(|turn| counts.contains_key(&turn.lane));
        }
        let (mut inner, now) = (self.lock(), Instant::now());
        let mut places = HashMap::with_capacity(turns.len());
        for turn in turns {
            let (lane, quota) = (turn.lane, turn.quota);
            let (count, last) = counts.get(&lane).copied().unwrap_or_default();
            let seen = taken.seen.get(&lane.action_id).copied().unwrap_or_default();
            let more = seen >= quota || seen > count || small_only || (count == 0 && taken.cut_short);
            // If large calls were left out, deliveries before the last claimed one may still wait.
            if count > 0 && !small_only {
                self.cursors(&mut inner).advance(lane.action_id, last, now);
            }
            places.insert(lane.action_id, inner.scheduler.claimed(turn, count, more, now));
        }
        drop(inner);
        self.tell_all();
        places
    }

    /// Lends the places of these turns to others, because their claim is not answered for long, and rests.
    pub(super) fn lend(&self, turns: &mut HeldTurns) {
        let mut inner = self.lock();
        turns.iter_mut().for_each(|turn| inner.scheduler.lend(turn));
        inner.scheduler.rest(self.outbox);
        drop(inner);
        self.tell_all();
    }

    /// Notes that these turns did not take place, and frees their places.
    pub(super) fn give_back(&self, turns: Vec<Turn>) {
        let (mut inner, now) = (self.lock(), Instant::now());
        for turn in turns {
            inner.scheduler.claimed(turn, 0, true, now);
        }
        drop(inner);
        self.tell_all();
    }

    /// Reduces a turn to `quota` deliveries. Its other places come free.
    pub(super) fn shrink(&self, turn: &mut Turn, quota: usize) {
        self.lock().scheduler.shrink(turn, quota);
    }

    /// Notes how an attempt at this host has ended.
    pub(super) fn learn(&self, host: &Origin, started: Instant, signal: Signal) {
        self.lock().scheduler.learn(host, started, signal, Instant::now());
        if matches!(signal, Signal::Unreached(_)) {
            self.shared.probe.notify_one();
        }
    }

    /// Notes that this place comes free.
    pub(super) fn leave(&self, place: &Place) {
        self.lock().scheduler.leave_place(place);
        self.tell_all();
    }

    /// Notes that something waits in these lanes. Returns the lanes that are not known, or whose action has changed.
    pub(super) fn found(&self, lanes: impl IntoIterator<Item = LaneSeen>) -> Vec<LaneSeen> {
        let mut inner = self.lock();
        let mut unknown = Vec::new();
        for lane in lanes {
            let edition = Edition { version: lane.version, enabled: lane.enabled };
            let id = self.lane(lane.action_id);
            if inner.scheduler.edition(id) == Some(edition) {
                inner.scheduler.found(id);
            } else {
                unknown.push(lane);
            }
        }
        drop(inner);
        self.tell_all();
        unknown
    }

    /// Does the same as [`Schedule::found`] for lanes that were checked behind their cursors.
    pub(super) fn checked(&self, lanes: Vec<LaneChecked>) -> Vec<LaneSeen> {
        let mut inner = self.lock();
        for LaneChecked { lane, behind } in &lanes {
            if let Some(id) = behind {
                self.cursors(&mut inner).go_back(lane.action_id, *id);
            }
        }
        drop(inner);
        self.found(lanes.into_iter().map(|checked| checked.lane))
    }

    /// Lanes whose action has changed: the claim met another version, or another value of `enabled`, than the scheduler
    /// knows. The claim reads the newest version, and the scout may not have found it yet.
    pub(super) fn outdated(&self, taken: &Taken) -> Vec<LaneSeen> {
        let inner = self.lock();
        let mut outdated: HashMap<i64, LaneSeen> = HashMap::new();
        for one in &taken.claimed {
            let (action_id, version, enabled) = (one.version.action_id, one.version.version, one.enabled);
            if inner.scheduler.edition(self.lane(action_id)).is_some_and(|known| known != Edition { version, enabled })
            {
                outdated.insert(action_id, LaneSeen { action_id, version, enabled });
            }
        }
        outdated.into_values().collect()
    }

    /// Makes lanes known in which something waits. A lane of `seen` that is missing in `about` has no action.
    pub(super) fn introduce(&self, seen: &[LaneSeen], about: Vec<LaneAbout>) {
        let mut told: HashMap<i64, LaneAbout> = about.into_iter().map(|about| (about.lane.action_id, about)).collect();
        let (mut inner, now) = (self.lock(), Instant::now());
        for lane in seen {
            let id = self.lane(lane.action_id);
            let (owners, edition, manner) = match told.remove(&lane.action_id) {
                Some(LaneAbout { lane, agent, url, answered }) => {
                    let host = if lane.enabled { Origin::of_url(&url) } else { None };
                    let edition = Edition { version: lane.version, enabled: lane.enabled };
                    // History says how the host behaved, so a dispatcher that starts need not find it out again.
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
        self.tell_all();
    }

    /// Notes that a delivery went back to `waiting`.
    pub(super) fn returned(&self, lane: LaneId, delivery_id: Uuid) {
        let mut inner = self.lock();
        self.cursors(&mut inner).go_back(lane.action_id, delivery_id);
        inner.scheduler.found(lane);
        drop(inner);
        self.tell_all();
    }

    /// Passes over the deliveries of a lane up to this one, for a while.
    pub(super) fn pass_over(&self, lane: LaneId, last: Uuid) {
        self.cursors(&mut self.lock()).pass_over(lane.action_id, last, Instant::now());
    }

    /// Notes that ids up to this one were made some time ago.
    pub(super) fn raise_floor(&self, floor: Uuid) {
        self.cursors(&mut self.lock()).raise_floor(floor);
    }

    /// All cursors, in the order of their lanes.
    pub(super) fn all_cursors(&self) -> Vec<LaneCursor> {
        self.cursors(&mut self.lock()).all(Instant::now())
    }

    /// A claim of this lane looks for ids greater than this one.
    pub(super) fn after(&self, lane: LaneId) -> Uuid {
        self.cursors(&mut self.lock()).after(lane.action_id, Instant::now())
    }

    /// Replaces what is paused. Returns whether that changed anything.
    pub(super) fn pause(&self, targets: impl IntoIterator<Item = PauseTarget>) -> bool {
        let changed = self.lock().scheduler.pause(self.outbox, targets.into_iter().collect());
        self.tell_all();
        changed
    }

    /// Waits until probes are due, and returns their hosts: first `most` at most, and then, for hosts that gave no
    /// answer to their last probe, `most_black_holes` at most. Cancel-safe.
    pub(super) async fn probes_due(&self, most: usize, most_black_holes: usize) -> (Vec<Origin>, Vec<Origin>) {
        loop {
            let probe = self.shared.probe.notified();
            let (hosts, next) = {
                let mut inner = self.lock();
                (inner.scheduler.probes_due(most, most_black_holes, Instant::now()), inner.scheduler.next_probe())
            };
            if !hosts.0.is_empty() || !hosts.1.is_empty() {
                return hosts;
            }
            match next {
                // A probe that is due already had no room, and has to wait until running probes end.
                Some(next) => {
                    let next = next_look(next, Instant::now());
                    tokio::time::timeout_at(next.into(), probe).await.ok();
                }
                None => probe.await,
            }
        }
    }

    /// Notes the result of a probe.
    pub(super) fn probed(&self, host: &Origin, probe: Probe) {
        self.lock().scheduler.probed(host, probe, Instant::now());
        self.tell_all();
    }

    /// The number of requests of this outbox in flight, and a report about its hosts.
    pub(super) fn report(&self) -> (usize, Vec<HostReport>) {
        let inner = self.lock();
        (inner.scheduler.in_flight(self.outbox), inner.scheduler.report(self.outbox, Instant::now()))
    }

    /// The number of requests of this outbox in flight, and how many of its hosts do not answer.
    pub(super) fn in_flight_and_ailing(&self) -> (usize, Ailing) {
        let inner = self.lock();
        (inner.scheduler.in_flight(self.outbox), inner.scheduler.ailing(self.outbox, Instant::now()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the plan of an outbox concerns others: places that were kept for it are free now, or a lane of another one was called for a
/// place. `before` and `after` say whether the outbox waits, and how many lanes of others were called.
fn concerns_others(before: (bool, usize), has_turns: bool, after: (bool, usize)) -> bool {
    let gave_up = before.0 && !has_turns && !after.0;
    gave_up || after.1 > before.1
}

/// When to look again for probes, of which the first is due at `due`: not before [`BETWEEN_PROBES`] is over.
fn next_look(due: Instant, now: Instant) -> Instant {
    due.max(now + BETWEEN_PROBES)
}
