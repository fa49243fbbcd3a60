//! Runs several dispatchers on one database, some of which die.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use super::accounts::Accounts;
use super::database::Database;
use super::process::Dispatcher;

/// The lease of these dispatchers: short, so that what is lost is found soon, and long enough for a busy machine.
pub const LEASE_MS: u64 = 2_000;

/// Dispatchers with the same settings. Those that still run are killed when it is dropped.
pub struct Fleet {
    url: String,
    places: usize,
    lease_ms: u64,
    /// Those that run.
    pub members: Vec<Dispatcher>,
    /// Ids of those that were killed.
    pub killed: BTreeSet<i32>,
}

impl Fleet {
    /// Starts `members` dispatchers of `places` requests in flight each on the database at `url`.
    pub async fn start(url: &str, members: usize, places: usize) -> Fleet {
        Fleet::with_lease(LEASE_MS, url, members, places).await
    }

    /// As [`Fleet::start`], with another lease.
    pub async fn with_lease(lease_ms: u64, url: &str, members: usize, places: usize) -> Fleet {
        let (members_wanted, members) = (members, Vec::new());
        let mut fleet = Fleet { url: url.to_owned(), places, lease_ms, members, killed: BTreeSet::new() };
        for _ in 0..members_wanted {
            fleet.add().await;
        }
        fleet
    }

    /// One more, which dispatches when this returns.
    pub async fn add(&mut self) {
        self.members.push(Dispatcher::start_leased(&self.url, self.lease_ms, self.places).await);
    }

    /// Kills one by SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self, index: usize) {
        let victim = self.members.remove(index);
        self.killed.insert(victim.id());
        victim.signal(Signal::SIGKILL);
        victim.ended().await;
    }

    /// Stops one in good order.
    pub async fn retire(&mut self, index: usize) {
        let member = self.members.remove(index);
        member.signal(Signal::SIGTERM);
        let (well, last) = member.ended().await;
        assert!(well, "{last}");
    }

    /// Waits until everything has come to an end, and stops those that still run.
    pub async fn finish(&mut self, database: &Database) {
        database.settled().await;
        while !self.members.is_empty() {
            self.retire(0).await;
        }
    }

    /// UnknownReason is no larger than it must be: at most the places of each that was killed, and none elsewhere.
    pub fn assert_doubt_is_bounded(&self, accounts: &Accounts) {
        for (dispatcher, doubts) in &accounts.doubts {
            let bound = if self.killed.contains(dispatcher) { self.places } else { 0 };
            assert!(*doubts <= bound, "dispatcher {dispatcher} left {doubts} doubts, {bound} at most");
        }
        println!("{} killed of {} places each, largest doubt {}", self.killed.len(), self.places, largest(accounts));
    }
}

fn largest(accounts: &Accounts) -> usize {
    accounts.doubts.values().copied().max().unwrap_or(0)
}
