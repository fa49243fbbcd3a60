//! Connections that wait for their next request. A bounded number waits for a bounded time, and nobody ever waits for
//! one of them: where there is none, a new one is opened.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::clock::Moment;
use super::connection::Connection;
use super::target::Target;

/// How long a connection may wait for its next request. Servers close idle ones as well, gunicorn by default after two
/// seconds and Node after five, and a request that is written at that very moment is lost in doubt. So this side closes
/// before.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Idle connections to one target. As many as there are requests in flight by default, so that a dispatcher with one
/// busy receiver never opens a new one for want of room.
const MAX_IDLE_PER_TARGET: usize = 256;

/// Idle connections in all; each costs a file descriptor and some 10 to 60 KiB. When there is no room, the one that has
/// waited longest goes. A crowd of targets can so push out the others' connections: they then pay with a handshake,
/// and never with a wait.
const MAX_IDLE: usize = 512;

/// How often the connections that have waited too long are closed.
const SWEEP: Duration = Duration::from_millis(250);

/// The idle connections of the process.
#[derive(Debug, Default)]
pub(super) struct Pool {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    shelf: Shelf<Target, Connection>,
    /// Whether a task closes what has waited too long.
    is_swept: bool,
}

impl Pool {
    /// The connection to `target` that has waited the shortest time, if one waits. Whether it still lives is seen when it
    /// is used.
    pub(super) fn take(&self, target: &Target) -> Option<Connection> {
        self.lock().shelf.take(target, Moment::now())
    }

    /// Lets `connection` wait for its next request.
    pub(super) fn put(self: &Arc<Pool>, target: &Target, connection: Connection) {
        let mut inner = self.lock();
        let surplus = inner.shelf.put(target.clone(), connection, Moment::now());
        if !std::mem::replace(&mut inner.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        // Closing is the kernel's work, which nobody else needs to wait for.
        drop(inner);
        drop(surplus);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what has waited too long, until nothing waits any more or the pool is gone.
async fn sweep(pool: Weak<Pool>) {
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

/// What waits, by target and by age. Pure: the time is passed in.
#[derive(Debug)]
struct Shelf<K, T> {
    /// The number of the next one; numbers grow with time.
    next: u64,
    items: BTreeMap<u64, Item<K, T>>,
    /// The numbers of each target's, oldest first.
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
    /// Puts `item` down, and gives back what has to go for it.
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

    /// The newest of `key`.
    fn take(&mut self, key: &K, now: Moment) -> Option<T> {
        let newest = *self.numbers.get(key)?.back()?;
        let fresh = self.items.get(&newest).is_some_and(|item| !item.is_expired(now));
        if fresh { self.remove(newest) } else { None }
    }

    /// What has waited too long.
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
            // Always one of both ends.
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
}
