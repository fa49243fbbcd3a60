//! The databases that the console serves: one, or several of one platform. What is needed to read and to change one belongs to it
//! alone: sessions, places of pages, the live tail, tests. So a database that is slow, silent or gone keeps no page of another waiting.
//!
//! Pages of one of several databases stand below `/in/NAME`; those of the only one stand where they always stood.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::export::EXPORTS;
use super::failure::Trouble;
use super::frame::{Choice, Frame, Of};
use super::glance::Glances;
use super::live::Live;
use super::people::{LinkRefused, Stores};
use super::route::Address;
use super::testing::Testing;
use super::words::shown;
use crate::domain::percent::encoded;
use crate::service::action_test::Tester;

/// The most pages of a database that are read at the same time; each has one session.
pub const PAGES: usize = 4;
/// How long a page waits until it may be read.
pub(super) const WAIT: Duration = Duration::from_secs(5);
/// The most pages of one of several databases that are read, and exports that begin, together with those that wait for it. A
/// further one is refused at once, so that a database that does not answer has no more than these of the connections of browsers.
pub(super) const MOST_PAGES_OF_ONE: usize = 14;

/// One database, with what belongs to it alone.
pub struct Database {
    /// `None` if it is the only one.
    name: Option<String>,
    /// What stands before the path of each of its pages.
    root: String,
    opened: OnceLock<Opened>,
    places: Places,
    pub(super) exports: Arc<Semaphore>,
    pub(super) health: Semaphore,
    pub(super) live: Arc<Live>,
    pub(super) glances: Glances,
    pub(super) testing: Testing,
}

/// What is there once a database could be opened.
struct Opened {
    stores: Stores,
    clock: Clock,
}

/// All of them, in the order in which they were given.
pub(super) struct Databases(Vec<Arc<Database>>);

impl Databases {
    /// The only database, which is open. `now` is its time.
    pub(super) fn one(stores: Stores, now: DateTime<Utc>, tester: Option<Arc<Tester>>) -> Databases {
        let only = Database::new(None, tester);
        only.opens(stores, now);
        Databases(vec![Arc::new(only)])
    }

    /// Several databases with these names, none of which is open.
    pub(super) fn several(names: Vec<String>, tester: Option<&Arc<Tester>>) -> Databases {
        Databases(names.into_iter().map(|name| Arc::new(Database::new(Some(name), tester.cloned()))).collect())
    }

    pub(super) fn all(&self) -> &[Arc<Database>] {
        &self.0
    }

    /// The one with this name; that without a name is the only one.
    pub(super) fn named(&self, name: Option<&str>) -> Option<&Arc<Database>> {
        self.0.iter().find(|database| database.name.as_deref() == name)
    }

    /// Whether there are several, which have names.
    pub(super) fn are_several(&self) -> bool {
        self.named(None).is_none()
    }

    /// The time of this database, in seconds since 1970. As long as it was not opened, another one stands in for it: nothing of it can
    /// be shown then.
    ///
    /// # Errors
    /// If there is no such database, or no clock at all so far.
    pub(super) fn now_of(&self, name: Option<&str>) -> Result<i64, LinkRefused> {
        let own = self.named(name).ok_or(LinkRefused::Forged)?;
        let opened = own.opened.get().or_else(|| self.0.iter().find_map(|other| other.opened.get()));
        opened.map(|opened| opened.clock.now()).ok_or(LinkRefused::NoClock)
    }

    /// The frame of what is said before it is known who asks: it has no more than the address itself.
    pub(super) fn frame_of(&self, address: Option<&Address>) -> Frame {
        // Whether the console changes anything is no secret, and the foot of each page says it.
        let writes = |one: &Arc<Database>| one.opened.get().is_none_or(|opened| opened.stores.writes());
        let plain = Frame { writes: self.0.iter().any(writes), ..Frame::default() };
        if !self.are_several() {
            return plain;
        }
        match address.and_then(|address| address.database.as_deref()) {
            Some(name) => Frame { root: root_of(name), ..plain },
            None => Frame { of: Of::All, ..plain },
        }
    }

    /// The frame of what is about this database; without one, of what is about all.
    pub(super) fn frame(&self, about: Option<&Database>, has_roles: bool) -> Frame {
        let choice = |database: &Arc<Database>| {
            let name = shown(database.name.as_deref()?).into_owned();
            let is_current = about.is_some_and(|one| one.name == database.name);
            Some(Choice { name, address: format!("{}/", database.root), is_current })
        };
        let writes = |one: &Database| one.opened.get().is_none_or(|opened| opened.stores.writes());
        Frame {
            has_roles,
            // What is about all only reads, and says so of none.
            writes: about.is_none_or(writes),
            of: if about.is_some() { Of::One } else { Of::All },
            root: about.map(|one| one.root.clone()).unwrap_or_default(),
            database: about.and_then(|one| one.name.as_deref()).map(|name| shown(name).into_owned()),
            choices: self.0.iter().filter_map(choice).collect(),
            ..Frame::default()
        }
    }
}

impl Database {
    fn new(name: Option<String>, tester: Option<Arc<Tester>>) -> Database {
        let root = name.as_deref().map(root_of).unwrap_or_default();
        let most = if name.is_some() { MOST_PAGES_OF_ONE } else { usize::MAX };
        Database {
            live: Live::new(name.clone(), root.clone()),
            name,
            root,
            opened: OnceLock::new(),
            places: Places::new(most),
            exports: Arc::new(Semaphore::new(EXPORTS)),
            health: Semaphore::new(1),
            glances: Glances::default(),
            testing: Testing::new(tester),
        }
    }

    /// Its pages can be read from now on. `now` is the time by its clock. A second time changes nothing.
    pub fn opens(&self, stores: Stores, now: DateTime<Utc>) {
        let clock = Clock { began: now, at: Clock::since_boot() };
        let _already = self.opened.set(Opened { stores, clock });
    }

    /// Its name, if it is one of several.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What stands before the path of each of its pages.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// By what it is read and changed.
    ///
    /// # Errors
    /// If it could not be opened so far.
    pub(super) fn stores(&self) -> Result<&Stores, Trouble> {
        self.opened.get().map(|opened| &opened.stores).ok_or(Trouble::NotOpened)
    }

    /// A place for a page: whoever has it finds a session free.
    ///
    /// # Errors
    /// If there is none in time, or too many wait for one.
    pub(super) async fn place(&self) -> Result<Place<'_>, Trouble> {
        self.places.one().await
    }

    /// Counts an export that begins, or waits until it may, as a page.
    ///
    /// # Errors
    /// If as many as may be are read or wait.
    pub(super) fn there(&self) -> Result<There<'_>, Trouble> {
        self.places.there()
    }
}

/// What stands before the path of each page of the database with this name.
fn root_of(name: &str) -> String {
    format!("/in/{}", encoded(name))
}

/// Places for pages, of which so many are read at the same time, and so many more may wait.
pub(super) struct Places {
    reading: Semaphore,
    /// How many are read or wait.
    there: AtomicUsize,
    most: usize,
}

/// A place, as long as it is held.
pub(super) struct Place<'p> {
    _reading: SemaphorePermit<'p>,
    _there: There<'p>,
}

/// One that is read or waits.
pub(super) struct There<'p>(&'p AtomicUsize);

impl Places {
    fn new(most: usize) -> Places {
        Places { reading: Semaphore::new(PAGES), there: AtomicUsize::new(0), most }
    }

    /// For pages that concern several databases.
    pub(super) fn of_all() -> Places {
        Places::new(MOST_PAGES_OF_ONE)
    }

    /// A place.
    ///
    /// # Errors
    /// If there is none in time, or too many wait for one.
    pub(super) async fn one(&self) -> Result<Place<'_>, Trouble> {
        let there = self.there()?;
        match timeout(WAIT, self.reading.acquire()).await {
            Ok(Ok(reading)) => Ok(Place { _reading: reading, _there: there }),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Trouble::Busy),
        }
    }

    fn there(&self) -> Result<There<'_>, Trouble> {
        let before = self.there.fetch_add(1, Ordering::Relaxed);
        let there = There(&self.there);
        if before < self.most { Ok(there) } else { Err(Trouble::Busy) }
    }
}

impl Drop for There<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A database's time, without asking it each time.
struct Clock {
    began: DateTime<Utc>,
    /// At that time, by the clock of the machine that also counts when it sleeps.
    at: Duration,
}

impl Clock {
    fn since_boot() -> Duration {
        // This clock is always there.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
    }

    fn now(&self) -> i64 {
        let passed = Clock::since_boot().saturating_sub(self.at);
        self.began.timestamp().saturating_add(i64::try_from(passed.as_secs()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_is_refused_at_once_if_as_many_as_may_be_are_read_or_wait() {
        let places = Places::new(PAGES + 1);
        let mut read = Vec::new();
        for _ in 0..PAGES {
            read.push(places.one().await.unwrap_or_else(|_| panic!("a place is free")));
        }
        let mut waits = Box::pin(places.one());
        assert!(futures_util::poll!(waits.as_mut()).is_pending());
        assert!(matches!(futures_util::poll!(Box::pin(places.one())), std::task::Poll::Ready(Err(Trouble::Busy))));
        drop(read.pop());
        assert!(waits.await.is_ok());
        assert!(matches!(futures_util::poll!(Box::pin(places.one())), std::task::Poll::Ready(Ok(_))));
    }

    #[test]
    fn each_database_is_found_by_its_own_name_and_by_no_other() {
        let several = Databases::several(vec!["north".to_owned(), "host:5432/south".to_owned()], None);
        assert!(several.are_several() && several.named(None).is_none() && several.named(Some("")).is_none());
        let south = several.named(Some("host:5432/south")).unwrap();
        assert_eq!(south.root(), "/in/host%3A5432%2Fsouth");
        assert!(matches!(south.stores(), Err(Trouble::NotOpened)));
        assert_eq!(several.now_of(Some("north")), Err(LinkRefused::NoClock));
        assert_eq!(several.now_of(None), Err(LinkRefused::Forged));
        let frame = several.frame(Some(south), false);
        let current: Vec<_> = frame.choices.iter().map(|one| (one.address.as_str(), one.is_current)).collect();
        assert_eq!(current, [("/in/north/", false), ("/in/host%3A5432%2Fsouth/", true)]);
    }
}
