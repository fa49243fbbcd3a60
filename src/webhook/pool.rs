//! Idle connections, which wait for their next request. Their number and their waiting time are bounded. An attempt
//! never waits for one of them: if there is none, a new connection is opened.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::clock::Moment;
use super::connection::Connection;
use super::target::Target;

/// How long a connection may wait for its next request. Servers close idle connections, too: by default, gunicorn does
/// so after two seconds and Node after five. The outcome of a request that is written at that very moment is unknown.
/// So this side closes earlier.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How many idle connections to one target are kept. By default, fewer requests to one host are in flight, so no
/// connection is closed because the pool has no room for it.
const MAX_IDLE_PER_TARGET: usize = 256;

/// How many idle connections are kept in all. Each costs a file descriptor and some 10 to 60 KiB. When there is no
/// room, the connection that has waited longest is closed. So a crowd of targets can push out the connections of
/// others, which then pay with a handshake, but never with a wait.
const MAX_IDLE: usize = 512;

/// How often the connections that have waited too long are closed.
const SWEEP: Duration = Duration::from_millis(250);

/// The idle connections of the process.
#[derive(Debug)]
pub(super) struct Pool<C = Connection> {
    inner: Mutex<Inner<C>>,
}

#[derive(Debug)]
struct Inner<C> {
    shelf: Shelf<Target, C>,
    /// Whether a task runs that closes the connections that have waited too long.
    is_swept: bool,
}

impl<C> Default for Pool<C> {
    fn default() -> Pool<C> {
        Pool { inner: Mutex::new(Inner { shelf: Shelf::default(), is_swept: false }) }
    }
}

impl<C: Send + 'static> Pool<C> {
    /// The connection to `target` that has waited the shortest time, if there is one. Only its next use shows whether
    /// it is still open.
    pub(super) fn take(&self, target: &Target) -> Option<C> {
        self.lock().shelf.take(target, Moment::now())
    }

    /// Lets `connection` wait for its next request.
    pub(super) fn put(self: &Arc<Pool<C>>, target: &Target, connection: C) {
        let mut inner = self.lock();
        let surplus = inner.shelf.put(target.clone(), connection, Moment::now());
        if !std::mem::replace(&mut inner.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        // The connection is closed after the lock is released, so that nobody waits while the kernel closes it.
        drop(inner);
        drop(surplus);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that have waited too long, until none waits any more or the pool is dropped.
async fn sweep<C: Send + 'static>(pool: Weak<Pool<C>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut inner = pool.lock();
        let expired = inner.shelf.expire(Moment::now());
        inner.is_swept = !inner.shelf.is_empty();
        let done = !inner.is_swept;
        drop(inner);
        drop(expired);
        if done {
            return;
        }
    }
}

/// The waiting items, by target and by age. It has no clock of its own: the caller passes the time in.
#[derive(Debug)]
struct Shelf<K, T> {
    /// The number of the next item. Numbers grow with time.
    next: u64,
    items: BTreeMap<u64, Item<K, T>>,
    /// The numbers of each target's items, oldest first.
    numbers: HashMap<K, VecDeque<u64>>,
}

#[derive(Debug)]
struct Item<K, T> {
    key: K,
    since: Moment,
    item: T,
}

impl<K, T> Default for Shelf<K, T> {
    fn default() -> Shelf<K, T> {
        Shelf { next: 0, items: BTreeMap::new(), numbers: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, T> Shelf<K, T> {
    /// Stores `item`, and returns the item that has to leave for it, if any.
    fn put(&mut self, key: K, item: T, now: Moment) -> Option<T> {
        let siblings = self.numbers.get(&key);
        let surplus = match siblings.and_then(VecDeque::front) {
            Some(oldest) if siblings.is_some_and(|all| all.len() >= MAX_IDLE_PER_TARGET) => Some(*oldest),
            _ if self.items.len() >= MAX_IDLE => self.items.keys().next().copied(),
            _ => None,
        };
        let surplus = surplus.and_then(|number| self.remove(number));
        self.numbers.entry(key.clone()).or_default().push_back(self.next);
        self.items.insert(self.next, Item { key, since: now, item });
        self.next += 1;
        surplus
    }

    /// Takes the newest item of `key`.
    fn take(&mut self, key: &K, now: Moment) -> Option<T> {
        let newest = *self.numbers.get(key)?.back()?;
        let fresh = self.items.get(&newest).is_some_and(|item| !item.is_expired(now));
        if fresh { self.remove(newest) } else { None }
    }

    /// Removes and returns all items that have waited too long.
    fn expire(&mut self, now: Moment) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some((number, item)) = self.items.first_key_value()
            && item.is_expired(now)
        {
            let number = *number;
            expired.extend(self.remove(number));
        }
        expired
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let Item { key, item, .. } = self.items.remove(&number)?;
        if let Some(siblings) = self.numbers.get_mut(&key) {
            // The number is always the first or the last one.
            siblings.retain(|other| *other != number);
            if siblings.is_empty() {
                self.numbers.remove(&key);
            }
        }
        Some(item)
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<K, T> Item<K, T> {
    fn is_expired(&self, now: Moment) -> bool {
        now.saturating_since(self.since) >= IDLE_TIMEOUT
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::timeout;
    use url::Host;

    use super::*;

    fn after(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn the_newest_is_taken_first_and_none_that_has_waited_too_long() {
        let mut shelf = Shelf::default();
        for (item, millis) in [("old", 0), ("new", 1_000)] {
            assert_eq!(shelf.put("a", item, after(millis)), None);
        }
        assert!(!shelf.is_empty());
        assert_eq!(shelf.take(&"b", after(1_000)), None);
        assert_eq!(shelf.take(&"a", after(2_499)), Some("new"));
        assert_eq!(shelf.take(&"a", after(2_499)), None, "the old one has waited too long");
        assert_eq!((shelf.expire(after(2_499)), shelf.is_empty()), (vec!["old"], true));
        assert!(shelf.numbers.is_empty(), "nothing is kept of a target that is gone");
    }

    #[test]
    fn one_target_keeps_no_more_than_its_share_and_takes_nothing_from_another() {
        let mut shelf = Shelf::default();
        shelf.put("other", usize::MAX, after(0));
        for item in 0..MAX_IDLE_PER_TARGET {
            assert_eq!(shelf.put("busy", item, after(1)), None);
        }
        assert_eq!(shelf.put("busy", MAX_IDLE_PER_TARGET, after(2)), Some(0));
        assert_eq!(shelf.take(&"other", after(2)), Some(usize::MAX));
    }

    #[test]
    fn when_all_room_is_taken_the_one_that_has_waited_longest_goes() {
        let mut shelf = Shelf::default();
        for target in 0..MAX_IDLE {
            assert_eq!(shelf.put(target, target, after(1)), None);
        }
        assert_eq!(shelf.put(MAX_IDLE, MAX_IDLE, after(2)), Some(0));
        assert_eq!((shelf.items.len(), shelf.numbers.len()), (MAX_IDLE, MAX_IDLE));
    }

    fn target() -> Target {
        Target { tls: true, host: Host::Domain("h.example".to_owned()), port: 443, client: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_serves_the_next_request_to_its_target_and_to_no_other() {
        let pool = Arc::new(Pool::default());
        let other = Target { client: Some([0; 32]), ..target() };
        pool.put(&target(), "c");
        assert_eq!([&other, &target(), &target()].map(|target| pool.take(target)), [None, Some("c"), None]);
    }

    /// Each connection waits for very long, one after the other, and nobody asks for any.
    #[tokio::test(start_paused = true)]
    async fn what_has_waited_too_long_is_closed_by_one_task_that_ends_when_nothing_waits() {
        let pool = Arc::new(Pool::<oneshot::Sender<()>>::default());
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        for _ in 0..2 {
            let mut ends = vec![];
            for _ in 0..3 {
                let (connection, end) = oneshot::channel();
                pool.put(&target(), connection);
                ends.push(end);
                assert_eq!(tasks(), 1);
            }
            for end in ends {
                if let Some(longest) = pool.lock().shelf.items.values_mut().next() {
                    longest.since = Moment::from_nanos(0);
                }
                assert!(timeout(4 * SWEEP, end).await.is_ok(), "it is closed");
            }
            assert_eq!(tasks(), 0);
        }
    }
}
