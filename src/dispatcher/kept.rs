//! What was read and opened once, and is kept until it has to be read again. The least recently used leaves first.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

/// Values by their keys. It belongs to the claimer alone, so it needs no lock.
pub(super) struct Kept<K, V> {
    /// With the time at which each of them is read again.
    values: LruCache<K, (V, Option<Instant>)>,
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    /// Keeps so many at most, and at least one.
    pub(super) fn at_most(capacity: usize) -> Kept<K, V> {
        // An unbounded one has no places yet, one that is made with a bound has all of them.
        let mut values = LruCache::unbounded();
        values.resize(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN));
        Kept { values }
    }

    /// What is kept under this key, unless it has to be read again.
    pub(super) fn get(&mut self, key: &K, now: Instant) -> Option<V> {
        let fresh = self.values.get(key).filter(|(_, again)| again.is_none_or(|again| now < again));
        fresh.map(|(value, _)| value.clone())
    }

    /// Keeps what was read now, for this time; without one for as long as there is a place for it.
    pub(super) fn put(&mut self, key: K, value: V, now: Instant, left: Option<Duration>) {
        self.values.put(key, (value, left.and_then(|left| now.checked_add(left))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_at_its_time_and_not_before() {
        let (mut kept, start, second) = (Kept::at_most(2), Instant::now(), Duration::from_secs(1));
        assert_eq!(kept.get(&1, start), None);
        kept.put(1, "one", start, Some(second));
        kept.put(2, "two", start, None);
        for (since, expected) in [
            (Duration::ZERO, Some("one")),
            (second - Duration::from_nanos(1), Some("one")),
            (second, None),
            (second * 2, None),
        ] {
            assert_eq!(kept.get(&1, start + since), expected, "{since:?}");
        }
        assert_eq!(kept.get(&2, start + second * 1_000_000), Some("two"));
    }

    #[test]
    fn the_least_recently_used_leaves_first() {
        let (mut kept, now) = (Kept::at_most(2), Instant::now());
        kept.put(1, "one", now, None);
        kept.put(2, "two", now, None);
        assert_eq!(kept.get(&1, now), Some("one"));
        kept.put(3, "three", now, None);
        assert_eq!([1, 2, 3].map(|key| kept.get(&key, now)), [Some("one"), None, Some("three")]);
    }
}
