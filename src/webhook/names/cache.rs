//! A cache of answers that are still fresh. Webhooks should follow a changed address quickly, and a name server should
//! not be asked for every delivery. So the time that a name server gives for an answer is kept within two bounds.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::LookUpError;

/// How many names are kept. If there are more, the name that was not asked for longest is forgotten, and has to be
/// asked for again. So an action that calls many names can cause other names to be asked for more often, but nothing
/// worse.
const MAX_NAMES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// The shortest time an address is kept, whatever the server says.
const MIN_FRESH: Duration = Duration::from_secs(1);
/// The longest time an address is kept, whatever the server says.
const MAX_FRESH: Duration = Duration::from_secs(60);
/// How long the cache keeps that a name does not exist or has no address. It does not keep that a name server was
/// silent or failed.
const NEGATIVE_FRESH: Duration = Duration::from_secs(3);
/// How long a name that has answered counts as known.
const KNOWN: Duration = Duration::from_secs(60 * 60);

/// The result of a look-up: the addresses, or why there are none.
pub(super) type LookUpResult = Result<Vec<IpAddr>, LookUpError>;

/// The latest answer for each name. Each answer belongs to a generation of the configuration. Answers of an earlier
/// generation are not fresh, because they may come from name servers that are no longer used.
#[derive(Debug)]
pub(super) struct Cache {
    names: Mutex<LruCache<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    answer: LookUpResult,
    generation: u64,
    since: Instant,
    fresh: Duration,
}

impl Cache {
    /// A cache that holds nothing.
    pub(super) fn new() -> Cache {
        Cache { names: Mutex::new(LruCache::new(MAX_NAMES)) }
    }

    /// The answer for `host`, if it is still fresh.
    pub(super) fn fresh(&self, host: &str, generation: u64, now: Instant) -> Option<LookUpResult> {
        let mut names = self.lock();
        let entry = names.get(host)?;
        let is_fresh = entry.generation == generation && now.duration_since(entry.since) < entry.fresh;
        is_fresh.then(|| entry.answer.clone())
    }

    /// Whether `host` had addresses when it was last asked for, less than [`KNOWN`] ago.
    pub(super) fn is_known(&self, host: &str, now: Instant) -> bool {
        let names = self.lock();
        names.peek(host).is_some_and(|entry| entry.answer.is_ok() && now.duration_since(entry.since) < KNOWN)
    }

    /// Keeps `addresses`. The name server lets them be kept for `ttl`.
    pub(super) fn keep(&self, host: &str, addresses: Vec<IpAddr>, ttl: Duration, generation: u64, now: Instant) {
        let fresh = ttl.clamp(MIN_FRESH, MAX_FRESH);
        self.lock().put(host.to_owned(), Entry { answer: Ok(addresses), generation, since: now, fresh });
    }

    /// Keeps for [`NEGATIVE_FRESH`] that there are no addresses. Other errors say nothing about the name, and are not
    /// kept.
    pub(super) fn keep_error(&self, host: &str, error: LookUpError, generation: u64, now: Instant) {
        if matches!(error, LookUpError::NoSuchName | LookUpError::NoAddress) {
            let entry = Entry { answer: Err(error), generation, since: now, fresh: NEGATIVE_FRESH };
            self.lock().put(host.to_owned(), entry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<String, Entry>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Vec<IpAddr> {
        vec!["192.0.2.1".parse().unwrap()]
    }

    #[test]
    fn an_address_is_kept_as_long_as_the_server_says_within_the_bounds() {
        let (cache, now) = (Cache::new(), Instant::now());
        let (short, usual, long) = (Duration::ZERO, Duration::from_secs(20), Duration::from_secs(86_400));
        for (ttl, kept) in [(short, MIN_FRESH), (usual, usual), (long, MAX_FRESH)] {
            cache.keep("a.test", address(), ttl, 0, now);
            assert_eq!(cache.fresh("a.test", 0, now + kept - Duration::from_millis(1)), Some(Ok(address())));
            assert_eq!(cache.fresh("a.test", 0, now + kept), None);
        }
    }

    #[test]
    fn that_a_name_does_not_exist_is_kept_for_a_moment_and_a_servers_failure_not_at_all() {
        let (cache, now) = (Cache::new(), Instant::now());
        for error in [LookUpError::NoSuchName, LookUpError::NoAddress] {
            cache.keep_error("a.test", error, 0, now);
            assert_eq!(cache.fresh("a.test", 0, now), Some(Err(error)));
            assert_eq!(cache.fresh("a.test", 0, now + NEGATIVE_FRESH), None);
        }
        for error in [LookUpError::Silent, LookUpError::Failing, LookUpError::Crowded, LookUpError::DomainCrowded] {
            cache.keep_error("b.test", error, 0, now);
            assert_eq!(cache.fresh("b.test", 0, now), None);
        }
    }

    #[test]
    fn a_name_stays_known_after_its_answer_went_stale() {
        let (cache, now) = (Cache::new(), Instant::now());
        cache.keep("a.test", address(), Duration::ZERO, 0, now);
        let later = now + MAX_FRESH;
        assert!(cache.fresh("a.test", 0, later).is_none() && cache.is_known("a.test", later));
        assert!(!cache.is_known("a.test", now + KNOWN) && !cache.is_known("b.test", now));
    }

    #[test]
    fn an_answer_of_another_configuration_is_not_fresh() {
        let (cache, now) = (Cache::new(), Instant::now());
        cache.keep("a.test", address(), MAX_FRESH, 1, now);
        assert_eq!((cache.fresh("a.test", 2, now), cache.fresh("a.test", 1, now)), (None, Some(Ok(address()))));
    }

    #[test]
    fn no_more_than_the_bound_is_kept() {
        let (cache, now) = (Cache::new(), Instant::now());
        for number in 0..2 * MAX_NAMES.get() {
            cache.keep(&format!("{number}.test"), address(), MAX_FRESH, 0, now);
        }
        assert_eq!(cache.names.lock().unwrap().len(), MAX_NAMES.get());
    }
}
