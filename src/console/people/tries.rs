//! How often somebody may try to log in: per address, per name and in all. Each has a bucket of tries that fills again with time.
//!
//! Somebody who tries the name of another, from anywhere, empties the bucket of that name. So the bucket of a name, and that of
//! all, do not count for an address from which this name has logged in before: nobody can keep somebody from logging in where they
//! usually do. Elsewhere they wait until the attack is over, or until a try is there again.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The most addresses and the most names whose tries are counted.
const MOST_KEYS: usize = 4_096;
/// The most addresses that are remembered for one name.
const MOST_FAMILIAR_OF_ONE: usize = 8;
/// The most addresses that are remembered in all.
const MOST_FAMILIAR: usize = 8_000;

/// So many tries at once, and then one each time this has passed.
#[derive(Clone, Copy)]
struct Allowance {
    at_once: f64,
    every: Duration,
}

const PER_ADDRESS: Allowance = Allowance { at_once: 10.0, every: Duration::from_secs(6) };
const PER_NAME: Allowance = Allowance { at_once: 20.0, every: Duration::from_secs(6) };
const IN_ALL: Allowance = Allowance { at_once: 100.0, every: Duration::from_secs(1) };

/// The tries that are left.
#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(of: Allowance, now: Instant) -> Bucket {
        Bucket { left: of.at_once, at: now }
    }

    fn fill(&mut self, of: Allowance, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.left = (self.left + passed.as_secs_f64() / of.every.as_secs_f64()).min(of.at_once);
        self.at = now;
    }

    /// How long it takes until there is a try.
    fn wait(&self, of: Allowance) -> Option<Duration> {
        (self.left < 1.0).then(|| of.every.mul_f64(1.0 - self.left))
    }
}

struct Buckets<K> {
    of: Allowance,
    known: HashMap<K, Bucket>,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    fn new(of: Allowance) -> Buckets<K> {
        Buckets { of, known: HashMap::new() }
    }

    fn bucket(&mut self, key: &K, now: Instant) -> &mut Bucket {
        if self.known.len() >= MOST_KEYS && !self.known.contains_key(key) {
            self.forget(now);
        }
        let of = self.of;
        let bucket = self.known.entry(key.clone()).or_insert_with(|| Bucket::full(of, now));
        bucket.fill(of, now);
        bucket
    }

    /// Makes room: those that are full again are as good as unknown. If none is, the one that is nearest to it.
    fn forget(&mut self, now: Instant) {
        let of = self.of;
        self.known.retain(|_, bucket| {
            bucket.fill(of, now);
            bucket.left < of.at_once
        });
        if self.known.len() >= MOST_KEYS {
            let fullest = self.known.iter().max_by(|(_, a), (_, b)| a.left.total_cmp(&b.left));
            if let Some(key) = fullest.map(|(key, _)| key.clone()) {
                self.known.remove(&key);
            }
        }
    }
}

/// What was tried.
#[derive(Clone, Debug)]
pub(super) struct Try {
    name: String,
    network: IpAddr,
    is_familiar: bool,
}

/// All tries.
pub(super) struct Tries {
    addresses: Buckets<IpAddr>,
    names: Buckets<String>,
    all: Bucket,
    /// Names with the networks from which they have logged in, the last one at the end.
    familiar: Vec<(String, IpAddr)>,
}

impl Tries {
    pub(super) fn new(now: Instant) -> Tries {
        let (addresses, names) = (Buckets::new(PER_ADDRESS), Buckets::new(PER_NAME));
        Tries { addresses, names, all: Bucket::full(IN_ALL, now), familiar: Vec::new() }
    }

    /// Takes a try. It is given back if it goes well.
    ///
    /// # Errors
    /// How long to wait until there is one. Then none is taken.
    pub(super) fn take(&mut self, name: &str, address: IpAddr, now: Instant) -> Result<Try, Duration> {
        let network = network(address);
        let is_familiar = self.familiar.iter().any(|(of, from)| of == name && *from == network);
        self.all.fill(IN_ALL, now);
        let of_address = self.addresses.bucket(&network, now).wait(PER_ADDRESS);
        let others = if is_familiar {
            None
        } else {
            self.names.bucket(&name.to_owned(), now).wait(PER_NAME).max(self.all.wait(IN_ALL))
        };
        if let Some(wait) = of_address.max(others) {
            return Err(wait);
        }
        let tried = Try { name: name.to_owned(), network, is_familiar };
        self.add(&tried, -1.0, now);
        Ok(tried)
    }

    /// The try has gone well.
    pub(super) fn went_well(&mut self, tried: Try, now: Instant) {
        self.add(&tried, 1.0, now);
        let place = (tried.name, tried.network);
        self.familiar.retain(|one| *one != place);
        let own: Vec<usize> =
            self.familiar.iter().enumerate().filter(|(_, (name, _))| *name == place.0).map(|(at, _)| at).collect();
        if own.len() >= MOST_FAMILIAR_OF_ONE || self.familiar.len() >= MOST_FAMILIAR {
            self.familiar.remove(own.first().copied().unwrap_or(0));
        }
        self.familiar.push(place);
    }

    fn add(&mut self, tried: &Try, tries: f64, now: Instant) {
        self.addresses.bucket(&tried.network, now).left += tries;
        if !tried.is_familiar {
            self.names.bucket(&tried.name, now).left += tries;
            self.all.left += tries;
        }
    }
}

/// What one person has of addresses: an IPv4 address, or a network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number))
    }

    #[test]
    fn an_address_has_ten_tries_and_then_one_each_six_seconds_and_others_keep_theirs() {
        let now = Instant::now();
        let mut tries = Tries::new(now);
        for number in 0..10 {
            assert!(tries.take(&format!("name {number}"), address(1), now).is_ok());
        }
        let wait = tries.take("name", address(1), now).unwrap_err();
        assert!(wait <= PER_ADDRESS.every && wait > Duration::from_secs(5), "{wait:?}");
        assert!(tries.take("name", address(2), now).is_ok(), "somebody else");
        assert!(tries.take("name", address(1), now + PER_ADDRESS.every).is_ok(), "later");
        assert!(tries.take("name", address(1), now + PER_ADDRESS.every).is_err());
        let of_a_network = |last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last));
        for last in 0..10 {
            assert!(tries.take(&format!("other {last}"), of_a_network(last), now).is_ok());
        }
        assert!(tries.take("other", of_a_network(11), now).is_err(), "one network is one person");
    }

    #[test]
    fn whoever_tries_a_name_from_everywhere_is_slowed_and_does_not_keep_its_owner_out() {
        let now = Instant::now();
        let mut tries = Tries::new(now);
        let own = tries.take("ada", address(0), now).unwrap();
        tries.went_well(own, now);
        let tried = (1..1_000).filter(|number| tries.take("ada", address(*number), now).is_ok()).count();
        assert_eq!(tried, 20);
        let own = tries.take("ada", address(0), now).expect("from where she logs in");
        tries.went_well(own, now);
        let others = (1_000..2_000).filter(|number| tries.take(&number.to_string(), address(*number), now).is_ok());
        assert_eq!(others.count(), 80, "in all, a hundred");
        assert!(tries.take("ada", address(0), now).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_room_is_made_by_forgetting_who_tried_least() {
        let now = Instant::now();
        let mut buckets = Buckets::new(PER_ADDRESS);
        buckets.bucket(&address(0), now).left = 0.0;
        for number in 1..3 * u32::try_from(MOST_KEYS).unwrap() {
            buckets.bucket(&address(number), now).left -= 1.0;
        }
        assert!(buckets.known.len() <= MOST_KEYS);
        assert!(buckets.bucket(&address(0), now).left < 1.0, "the one who tried most is remembered");
        let mut tries = Tries::new(now);
        for number in 0..100 {
            let tried = tries.take("ada", address(number), now).unwrap();
            tries.went_well(tried, now);
        }
        assert_eq!(tries.familiar.len(), MOST_FAMILIAR_OF_ONE);
    }
}
