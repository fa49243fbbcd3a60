//! Resolves names to addresses as the system's own resolver does, but without its threads. If the servers of one name
//! are silent, only attempts that ask for that name are held up.
//!
//! A name is looked up in this order:
//!
//! 1. `files`, `hosts`: in the hosts file;
//! 2. among the names that never leave this machine: `localhost` is the loopback, `invalid` (RFC 6761) and `onion`
//!    (RFC 7686) do not exist;
//! 3. `cache`: among fresh answers;
//! 4. at the name servers of `resolv_conf`. `shared`: attempts that ask for the same name at the same time share one
//!    question. `query_queue` and `group`: a question waits for one of a bounded number of places, and one domain holds only a
//!    few of them. Then `asking` goes through names and servers, `exchange` talks to one server, and `message` reads
//!    its replies.
//!
//! `preference` sorts the addresses.
//!
//! # Bounds
//!
//! A question holds one socket. So there are never more sockets than attempts that look up a name, and never more than
//! [`OPEN`] for new names and [`OPEN_KNOWN`] for names that have answered before. A flood of new names does not touch
//! the places of names in use. Waiting costs nothing but the attempt's own time. However many silent names came before,
//! about a thousand domains a second get a place ([`OPEN`] every `query_queue::SLICE`).
//!
//! Three limits remain. Names of one domain wait for each other, even if different people share the domain. If very
//! many other names are looked up, an answer is forgotten and has to be asked for again. If thousands of silent names
//! of different domains are in flight, a new name waits for some seconds.
//!
//! # What differs from the system's resolver
//!
//! This resolver ignores sources other than files and DNS (nsswitch.conf(5): mDNS, LDAP, …), `RES_OPTIONS` and
//! `LOCALDOMAIN`, `sortlist`, `edns0` and `trust-ad`. After a silent or failing name server it does not try the next
//! search domain. It sends unanswered questions again after a second.

mod asking;
mod cache;
mod exchange;
mod files;
mod group;
mod hosts;
mod message;
mod preference;
mod query_queue;
mod resolv_conf;
mod shared;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::time::Instant;

use self::cache::{Cache, LookUpResult};
pub use self::files::NameSources;
use self::files::{Files, Snapshot};
use self::group::group;
use self::query_queue::{Full, QueryQueue, QueueLimits};
use self::shared::Questions;
use super::SetupError;

/// How many addresses of one name are kept, for each family and in the hosts file. Further ones are ignored.
const MAX_ADDRESSES: usize = 32;

/// How many questions are open at a time for names that have not answered lately.
const OPEN: usize = 512;
/// How many questions are open at a time for names that have answered lately.
const OPEN_KNOWN: usize = 128;
/// How many questions of one domain are open at a time, of either kind.
const OPEN_PER_GROUP: usize = 32;
/// How many questions wait for a place, of either kind. One dispatcher may have as many requests in flight.
const WAITING: usize = 10_000;
/// How many questions of one domain wait, of either kind. So one domain cannot fill the queue for others.
const WAITING_PER_GROUP: usize = 1_000;

/// Why there are no addresses. The texts do not hold the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookUpError {
    /// The name does not exist (NXDOMAIN).
    #[error("the host's name does not exist")]
    NoSuchName,
    /// The name exists, but has neither A nor AAAA records.
    #[error("the host's name has no address")]
    NoAddress,
    /// The name cannot be asked for, because a label is empty or too long.
    #[error("the host's name is not a name that can be looked up")]
    NotAName,
    /// No name server answered in the time that the configuration gives it.
    #[error("no name server answered")]
    Silent,
    /// Name servers answered that they cannot or will not look up the name.
    #[error("the name servers could not answer")]
    Failing,
    /// This machine has no sockets left.
    #[error("no socket was left to ask a name server")]
    NoSocket,
    /// Too many names of the same domain wait to be asked for.
    #[error("too many names of the same domain are waiting to be looked up")]
    DomainCrowded,
    /// Too many names wait to be asked for.
    #[error("too many names are waiting to be looked up")]
    Crowded,
}

impl From<Full> for LookUpError {
    fn from(full: Full) -> LookUpError {
        match full {
            Full::Group => LookUpError::DomainCrowded,
            Full::All => LookUpError::Crowded,
        }
    }
}

/// Looks up names. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Names {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    files: Files,
    cache: Cache,
    /// The open questions, by the name as it was asked for and the generation of the files.
    questions: Questions<(String, u64), LookUpResult>,
    queue: QueryQueue,
    known: QueryQueue,
}

impl Names {
    /// Uses the system's configuration: `/etc/resolv.conf` and `/etc/hosts`, which are read again when they change.
    ///
    /// # Errors
    /// Returns an error if one of the files exists and cannot be read.
    pub(super) fn system() -> Result<Names, SetupError> {
        Names::from_sources(NameSources::default())
    }

    /// Does the same as [`Names::system`] with the files of `sources`.
    ///
    /// # Errors
    /// Returns an error if one of the files exists and cannot be read.
    pub(super) fn from_sources(sources: NameSources) -> Result<Names, SetupError> {
        let limits = |open| QueueLimits {
            open,
            open_per_group: OPEN_PER_GROUP,
            waiting: WAITING,
            waiting_per_group: WAITING_PER_GROUP,
        };
        let inner = Inner {
            files: Files::read(sources, Instant::now()).map_err(|(path, source)| SetupError::Names { path, source })?,
            cache: Cache::new(),
            questions: Questions::new(),
            queue: QueryQueue::new(limits(OPEN)),
            known: QueryQueue::new(limits(OPEN_KNOWN)),
        };
        Ok(Names { inner: Arc::new(inner) })
    }

    /// All addresses of `host`, in the order in which they should be tried. Dropping the future ends the question, unless
    /// others wait for its answer.
    ///
    /// # Errors
    /// Returns why there are no addresses.
    pub(super) async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, LookUpError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let host = host.to_ascii_lowercase();
        let files = self.inner.files.current(Instant::now());
        let bare = host.strip_suffix('.').unwrap_or(&host);
        if let Some(addresses) = files.hosts.get(bare) {
            return Ok(preference::by_preference(addresses.to_vec()));
        }
        if let Some(answer) = without_asking(bare) {
            return answer;
        }
        if let Some(answer) = self.inner.cache.fresh(&host, files.generation, Instant::now()) {
            return answer;
        }
        let key = (host.clone(), files.generation);
        self.inner.questions.answer(key, || Arc::clone(&self.inner).ask(host, files)).await
    }
}

impl Inner {
    /// Asks the name servers, as soon as there is a place, and keeps the answer.
    async fn ask(self: Arc<Inner>, host: String, files: Arc<Snapshot>) -> LookUpResult {
        let queue = if self.cache.is_known(&host, Instant::now()) { &self.known } else { &self.queue };
        let found = loop {
            let place = queue.enter(group(&host)).await?;
            tokio::select! {
                found = asking::ask(&files.directions, &host) => break found,
                // A question that loses its place is asked again later. The name server may have found the answer by
                // then.
                () = place.wanted() => {}
            }
        };
        match found {
            Ok(found) => {
                let addresses = preference::by_preference(found.addresses);
                self.cache.keep(&host, addresses.clone(), found.ttl, files.generation, Instant::now());
                Ok(addresses)
            }
            Err(error) => {
                self.cache.keep_error(&host, error, files.generation, Instant::now());
                Err(error)
            }
        }
    }
}

/// The answer that follows from the last label alone, for the names that never leave this machine.
fn without_asking(host: &str) -> Option<LookUpResult> {
    match host.rsplit('.').next()? {
        "localhost" => Some(Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])),
        "invalid" | "onion" => Some(Err(LookUpError::NoSuchName)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_never_leave_this_machine_are_answered_without_asking() {
        let loopback: Vec<IpAddr> = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        for (host, answer) in [
            ("localhost", Some(Ok(loopback.clone()))),
            ("a.localhost", Some(Ok(loopback))),
            ("a.invalid", Some(Err(LookUpError::NoSuchName))),
            ("a.onion", Some(Err(LookUpError::NoSuchName))),
            ("localhost.example", None),
        ] {
            assert_eq!(without_asking(host), answer, "{host}");
        }
    }
}
