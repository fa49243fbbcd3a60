//! Decides which questions may be put to the name servers now. There are few places, because each holds a socket, and a
//! question to a silent name server holds its place for long. So places are shared among *groups* of names, and no
//! group keeps its places while other groups have none.
//!
//! - A group holds at most [`QueueLimits::open_per_group`] places, so one domain cannot take them all.
//! - A free place goes to the waiting group that holds the fewest places, and among equals to the one that came first.
//! - A holder may keep its place for at least [`SLICE`]. After that, it has to leave the place and go to the end of the
//!   queue as soon as someone waits who may take it: a member of its own group, or of a group that holds no place. So
//!   while others wait, all places change their holders once a slice. A newcomer gets a place after as many slices as
//!   it takes to give one to each group that came earlier.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How long a holder may keep its place at least. Name servers mostly answer in a fraction of this time. A name server
/// that needs longer goes on searching meanwhile, and knows the answer when the question comes again.
pub(super) const SLICE: Duration = Duration::from_millis(500);

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    /// How many places there are.
    pub(super) open: usize,
    /// How many places one group may hold.
    pub(super) open_per_group: usize,
    /// How many may wait in all.
    pub(super) waiting: usize,
    /// How many of one group may wait.
    pub(super) waiting_per_group: usize,
}

/// There is no room left to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Too many of the same group wait.
    Group,
    /// Too many wait in all.
    All,
}

/// A number of places, and the queue of those that wait for one. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct QueryQueue {
    limits: QueueLimits,
    state: Arc<Mutex<QueueState>>,
}

impl QueryQueue {
    /// An empty queue.
    pub(super) fn new(limits: QueueLimits) -> QueryQueue {
        QueryQueue { limits, state: Arc::default() }
    }

    /// Waits for a place for a member of `group`. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// Returns [`Full`] if too many wait.
    pub(super) async fn enter(&self, group: &str) -> Result<QueryPlace, Full> {
        let place = self.stand(group)?;
        place.signals.granted.notified().await;
        Ok(place)
    }

    fn stand(&self, group: &str) -> Result<QueryPlace, Full> {
        let group: Arc<str> = group.into();
        let signals = Arc::new(Signals::default());
        let mut state = self.lock();
        let mine = state.groups.get(&group);
        if state.waiting >= self.limits.waiting {
            return Err(Full::All);
        }
        if mine.is_some_and(|mine| mine.waiting.len() >= self.limits.waiting_per_group) {
            return Err(Full::Group);
        }
        let id = state.arrive(&group, Arc::clone(&signals));
        state.settle(self.limits);
        drop(state);
        Ok(QueryPlace { queue: self.clone(), id, group, signals })
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places that are taken, and those who wait.
    #[cfg(test)]
    pub(super) fn taken_and_waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.open.len(), state.waiting)
    }
}

/// A place, or a position in the queue until a place is granted. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct QueryPlace {
    queue: QueryQueue,
    id: u64,
    group: Arc<str>,
    signals: Arc<Signals>,
}

impl QueryPlace {
    /// Completes when the holder has had the place for [`SLICE`] and someone else must have it. Await it as soon as the
    /// place was granted.
    pub(super) async fn wanted(&self) {
        tokio::time::sleep(SLICE).await;
        {
            let mut state = self.queue.lock();
            state.overdue.insert(self.id);
            state.settle(self.queue.limits);
        }
        self.signals.wanted.notified().await;
    }
}

impl Drop for QueryPlace {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.leave(self.id, &self.group);
        state.settle(self.queue.limits);
    }
}

#[derive(Debug, Default)]
struct Signals {
    granted: Notify,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    /// The id of the next arrival. The ids are also the order of arrival.
    next_id: u64,
    groups: HashMap<Arc<str>, Group>,
    /// The groups with waiting members, ordered by the number of places they hold, then by the arrival of their first.
    turns: BTreeSet<(usize, u64, Arc<str>)>,
    waiting: usize,
    /// The places that are taken.
    open: HashMap<u64, Held>,
    /// The holders whose slice is over, and which were not yet asked to leave.
    overdue: BTreeSet<u64>,
    /// How many holders were asked to leave and have not left yet.
    leaving: usize,
}

#[derive(Debug, Default)]
struct Group {
    open: usize,
    leaving: usize,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    signals: Arc<Signals>,
}

#[derive(Debug)]
struct Held {
    group: Arc<str>,
    signals: Arc<Signals>,
    /// Whether it was asked to leave.
    leaving: bool,
}

impl QueueState {
    /// Changes a group, and updates its entry in `turns`.
    fn change<T>(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Group) -> T) -> T {
        let group = self.groups.entry(Arc::clone(name)).or_default();
        let turn = |group: &Group| group.waiting.front().map(|first| (group.open, first.id, Arc::clone(name)));
        if let Some(turn) = turn(group) {
            self.turns.remove(&turn);
        }
        let result = change(group);
        match turn(group) {
            Some(turn) => drop(self.turns.insert(turn)),
            None if group.open == 0 => drop(self.groups.remove(name)),
            None => {}
        }
        result
    }

    fn arrive(&mut self, name: &Arc<str>, signals: Arc<Signals>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.waiting += 1;
        self.change(name, |group| group.waiting.push_back(Waiter { id, signals }));
        id
    }

    fn leave(&mut self, id: u64, name: &Arc<str>) {
        self.overdue.remove(&id);
        if let Some(held) = self.open.remove(&id) {
            self.leaving -= usize::from(held.leaving);
            self.change(name, |group| {
                group.open -= 1;
                group.leaving -= usize::from(held.leaving);
            });
        } else {
            self.waiting -= 1;
            self.change(name, |group| group.waiting.retain(|waiter| waiter.id != id));
        }
    }

    /// Grants the free places, and asks holders to leave whose places others wait for.
    fn settle(&mut self, limits: QueueLimits) {
        while self.open.len() < limits.open
            && let Some((open, _, name)) = self.turns.first().cloned()
            && open < limits.open_per_group
        {
            self.grant(&name);
        }
        while let Some(id) = self.in_the_way() {
            self.ask_to_leave(id);
        }
    }

    fn grant(&mut self, name: &Arc<str>) {
        let first = self.change(name, |group| {
            group.open += 1;
            group.waiting.pop_front()
        });
        let Some(Waiter { id, signals }) = first else { return };
        self.waiting -= 1;
        signals.granted.notify_one();
        self.open.insert(id, Held { group: Arc::clone(name), signals, leaving: false });
    }

    /// The holder that must leave next. Its slice is over, and a member of its own group, or of a group without any
    /// place, waits for whom no holder leaves yet. Holders of the group with the most places go first, and among them
    /// the one that has held its place longest.
    fn in_the_way(&self) -> Option<u64> {
        if self.waiting == 0 {
            return None;
        }
        let newcomers = self.turns.iter().take_while(|(open, ..)| *open == 0);
        let newcomer = newcomers.take(self.leaving + 1).count() > self.leaving;
        let loads = self.overdue.iter().filter_map(|id| {
            let group = self.groups.get(&self.open.get(id)?.group)?;
            (newcomer || group.waiting.len() > group.leaving).then_some((group.open, Reverse(*id)))
        });
        loads.max().map(|(_, Reverse(id))| id)
    }

    fn ask_to_leave(&mut self, id: u64) {
        self.overdue.remove(&id);
        let Some(held) = self.open.get_mut(&id) else { return };
        held.leaving = true;
        held.signals.wanted.notify_one();
        let name = Arc::clone(&held.group);
        self.leaving += 1;
        self.change(&name, |group| group.leaving += 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const LIMITS: QueueLimits = QueueLimits { open: 4, open_per_group: 2, waiting: 5, waiting_per_group: 3 };

    /// Whether `place` is granted already.
    async fn is_granted(place: &QueryPlace) -> bool {
        timeout(Duration::ZERO, place.signals.granted.notified()).await.is_ok()
    }

    /// Holds `place` until it is asked to leave.
    async fn hold(place: QueryPlace) {
        tokio::spawn(async move { place.wanted().await });
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_never_holds_more_than_its_places_and_leaves_the_rest_to_others() {
        let queue = QueryQueue::new(LIMITS);
        let _crowd: Vec<QueryPlace> = (0..5).map(|_| queue.stand("crowd").unwrap()).collect();
        assert_eq!(queue.taken_and_waiting(), (2, 3));
        assert!(timeout(Duration::ZERO, queue.enter("other")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_says_whose_it_is() {
        let queue = QueryQueue::new(LIMITS);
        let _crowd: Vec<QueryPlace> = (0..5).map(|_| queue.stand("crowd").unwrap()).collect();
        assert_eq!(queue.stand("crowd").err(), Some(Full::Group));
        let _others: Vec<QueryPlace> = ["a", "b", "c", "d"].iter().map(|group| queue.stand(group).unwrap()).collect();
        assert_eq!(queue.stand("e").err(), Some(Full::All));
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_place_goes_to_the_group_that_holds_the_fewest() {
        let queue = QueryQueue::new(LIMITS);
        let mut held: Vec<QueryPlace> = ["a", "a", "b", "c"].iter().map(|group| queue.stand(group).unwrap()).collect();
        let (second_b, newcomer) = (queue.stand("b").unwrap(), queue.stand("new").unwrap());
        drop(held.pop());
        assert!(is_granted(&newcomer).await && !is_granted(&second_b).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_has_a_place_after_a_slice_however_many_hold_on_to_theirs() {
        let queue = QueryQueue::new(LIMITS);
        for group in ["a", "a", "b", "b"] {
            let place = queue.enter(group).await.unwrap();
            hold(place).await;
        }
        let newcomer = timeout(SLICE + Duration::from_millis(1), queue.enter("new")).await;
        assert!(newcomer.is_ok());
        assert_eq!(queue.taken_and_waiting(), (4, 0), "one stepped back, and no more than one");
    }

    #[tokio::test(start_paused = true)]
    async fn whom_others_overtake_has_a_place_a_slice_later() {
        let queue = QueryQueue::new(LIMITS);
        for group in ["a", "a", "b", "b"] {
            let place = queue.enter(group).await.unwrap();
            hold(place).await;
        }
        advance(SLICE / 2).await;
        let (own, newcomer) = (queue.stand("a").unwrap(), queue.stand("new").unwrap());
        for place in [own, newcomer] {
            assert!(timeout(SLICE, place.signals.granted.notified()).await.is_ok());
            hold(place).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_the_same_group_has_a_place_after_a_slice() {
        let queue = QueryQueue::new(LIMITS);
        for group in ["a", "a"] {
            let place = queue.enter(group).await.unwrap();
            hold(place).await;
        }
        advance(SLICE * 2).await;
        let another = timeout(Duration::from_millis(1), queue.enter("a")).await;
        assert!(another.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_safe_while_nobody_waits_and_for_its_slice() {
        let queue = QueryQueue::new(LIMITS);
        let place = queue.enter("a").await.unwrap();
        assert!(timeout(SLICE * 100, place.wanted()).await.is_err());
        let full = QueryQueue::new(QueueLimits { open: 1, ..LIMITS });
        let place = full.enter("a").await.unwrap();
        let _waiter = full.stand("b").unwrap();
        assert!(timeout(SLICE / 2, place.wanted()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_the_line_leaves_nothing_behind() {
        let queue = QueryQueue::new(LIMITS);
        let held: Vec<QueryPlace> = ["a", "a", "b", "b"].iter().map(|group| queue.stand(group).unwrap()).collect();
        assert!(timeout(SLICE, queue.enter("new")).await.is_err());
        assert_eq!(queue.taken_and_waiting(), (4, 0));
        drop(held);
        assert_eq!(queue.taken_and_waiting(), (0, 0));
        assert!(queue.lock().groups.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn each_newcomer_has_a_place_after_a_slice_however_many_came_before() {
        let queue = QueryQueue::new(LIMITS);
        for group in ["a", "a", "b", "b", "c", "d", "e", "f"] {
            let place = timeout(2 * SLICE, queue.enter(group)).await;
            hold(place.expect("a place").unwrap()).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_leaves_for_one_of_another_group_that_has_a_place() {
        let queue = QueryQueue::new(LIMITS);
        let held: Vec<QueryPlace> = ["a", "a", "b", "c"].iter().map(|group| queue.stand(group).unwrap()).collect();
        let _second_b = queue.stand("b").unwrap();
        assert!(timeout(10 * SLICE, held[0].wanted()).await.is_err());
    }
}
