//! How many connections to one target are opened at the same time.
//!
//! If a host cannot be reached, every request that tries to connect fails. Requests that come together would all try
//! before the first of them has failed. So only a few connections to one target are opened at once. The other requests
//! wait for a connection that comes free, or for their turn to open one. When a few connections in a row could not be
//! opened, the waiting requests are sent away, and nothing of them was attempted. Their deliveries can wait until the
//! host can be reached again.
//!
//! The number of connections that may be opened at once grows while opening succeeds, for instance to a server that
//! closes each connection after one request. It is small again after a failure or a pause.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::Moment;
use super::target::Target;

/// How many connections to one target are opened at once in the beginning.
const FIRST: usize = 4;
/// How many connections to one target are opened at once at most.
const MOST: usize = 64;
/// After this many opened connections, one more may be opened at once.
const OPENED_TO_GROW: usize = 4;
/// After this long without a new connection, the number is small again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);
/// After this many failures in a row, the waiting requests are sent away.
const FAILURES_IN_A_ROW: usize = 3;
/// With at least this many doors, unused ones are removed before the table grows.
const MANY: usize = 1_024;

/// The doors of all targets. `None` inside means that there are no doors, and every request opens a connection at once.
#[derive(Debug, Default)]
pub(super) struct Doors {
    doors: Option<Mutex<HashMap<Target, Door>>>,
}

/// The door of one target.
#[derive(Debug)]
struct Door {
    opening: usize,
    most: usize,
    /// How many connections were opened since `most` last grew.
    opened: usize,
    /// How many connections in a row could not be opened.
    failures: usize,
    /// How often the waiting requests were sent away. This concerns requests that came before the number last grew.
    sent_away: u64,
    waiting: usize,
    /// Signals that something has changed for the waiting requests.
    changed: Arc<Notify>,
    used: Moment,
}

/// What a request that waits at a door has to do.
enum Look {
    /// Open a connection.
    Open,
    /// Wait for this signal, and look again.
    Wait(Arc<Notify>),
    /// Go away, because the target cannot be reached.
    SentAway,
}

/// The right to open one connection. If it is dropped without [`Opening::connected`], the connection counts as one that
/// could not be opened.
#[derive(Debug)]
pub(super) struct Opening {
    doors: Arc<Doors>,
    target: Target,
    connected: bool,
}

/// A request that waits at a door.
#[derive(Debug)]
pub(super) struct Waiting {
    doors: Arc<Doors>,
    target: Target,
    since: u64,
}

/// The target cannot be reached, and nothing was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreachable;

impl Doors {
    /// Makes doors, or no doors if `exist` is `false`.
    pub(super) fn new(exist: bool) -> Doors {
        Doors { doors: exist.then(Mutex::default) }
    }

    /// Waits for the right to open a connection to `target`, or until `ready` returns something to use instead.
    /// Cancel-safe.
    pub(super) async fn open<T>(
        self: &Arc<Doors>,
        target: &Target,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<Way<T>, Unreachable> {
        let opening = || Opening { doors: self.clone(), target: target.clone(), connected: false };
        if let Some(ready) = ready() {
            return Ok(Way::Ready(ready));
        }
        let Some(waiting) = self.wait(target) else { return Ok(Way::Open(opening())) };
        loop {
            match waiting.look() {
                Look::Open => return Ok(Way::Open(opening())),
                Look::SentAway => return Err(Unreachable),
                Look::Wait(changed) => {
                    let mut changed = std::pin::pin!(changed.notified());
                    changed.as_mut().enable();
                    // Look once more, because something may have changed before the notification was enabled.
                    if let Some(ready) = ready() {
                        return Ok(Way::Ready(ready));
                    }
                    match waiting.look() {
                        Look::Open => return Ok(Way::Open(opening())),
                        Look::SentAway => return Err(Unreachable),
                        Look::Wait(_) => changed.await,
                    }
                    if let Some(ready) = ready() {
                        return Ok(Way::Ready(ready));
                    }
                }
            }
        }
    }

    /// Notes that a connection to `target` has come free.
    pub(super) fn one_is_free(&self, target: &Target) {
        if let Some(doors) = self.lock()
            && let Some(door) = doors.get(target).filter(|door| door.waiting > 0)
        {
            door.changed.notify_one();
        }
    }

    /// Notes that `target` was reached by other means, for instance by a probe.
    pub(super) fn reached(&self, target: &Target) {
        if let Some(mut doors) = self.lock()
            && let Some(door) = doors.get_mut(target)
        {
            door.connected();
        }
    }

    /// Begins to wait at the door of `target`. `None` if there are no doors.
    fn wait(self: &Arc<Doors>, target: &Target) -> Option<Waiting> {
        let mut doors = self.lock()?;
        // Unused doors are removed only when the table would have to grow, so that the cost is that of growing.
        if doors.len() >= MANY && doors.len() == doors.capacity() {
            let now = Moment::now();
            doors.retain(|_, door| !door.is_forgotten(now));
        }
        let door = doors.entry(target.clone()).or_insert_with(Door::new);
        door.waiting += 1;
        Some(Waiting { doors: self.clone(), target: target.clone(), since: door.sent_away })
    }

    fn lock(&self) -> Option<MutexGuard<'_, HashMap<Target, Door>>> {
        self.doors.as_ref().map(|doors| doors.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How to get to a target.
#[derive(Debug)]
pub(super) enum Way<T> {
    /// An open connection is ready.
    Ready(T),
    /// A connection may be opened.
    Open(Opening),
}

impl Waiting {
    fn look(&self) -> Look {
        let Some(mut doors) = self.doors.lock() else { return Look::Open };
        let Some(door) = doors.get_mut(&self.target) else { return Look::Open };
        if door.sent_away > self.since {
            return Look::SentAway;
        }
        if door.begin(Moment::now()) { Look::Open } else { Look::Wait(door.changed.clone()) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mut doors) = self.doors.lock()
            && let Some(door) = doors.get_mut(&self.target)
        {
            door.waiting = door.waiting.saturating_sub(1);
            // It may have taken a signal and then left for another reason, so the signal is passed on.
            door.changed.notify_one();
        }
    }
}

impl Opening {
    /// Notes that the connection is open.
    pub(super) fn connected(mut self) {
        self.connected = true;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(mut doors) = self.doors.lock()
            && let Some(door) = doors.get_mut(&self.target)
        {
            door.opening = door.opening.saturating_sub(1);
            if self.connected { door.connected() } else { door.failed() }
        }
    }
}

impl Door {
    fn new() -> Door {
        Door {
            opening: 0,
            most: FIRST,
            opened: 0,
            failures: 0,
            sent_away: 0,
            waiting: 0,
            changed: Arc::new(Notify::new()),
            used: Moment::now(),
        }
    }

    /// Whether one more connection may be opened. If so, it counts as being opened.
    fn begin(&mut self, now: Moment) -> bool {
        if now.saturating_since(self.used) >= FORGOTTEN_AFTER && self.opening == 0 {
            self.most = self.most.min(FIRST);
        }
        let begins = self.opening < self.most;
        if begins {
            self.opening += 1;
            self.used = now;
        }
        begins
    }

    fn connected(&mut self) {
        (self.failures, self.opened) = (0, self.opened + 1);
        if self.most < FIRST || (self.opened >= OPENED_TO_GROW && self.most < MOST) {
            (self.most, self.opened) = (self.most + 1, 0);
        }
        self.changed.notify_waiters();
    }

    fn failed(&mut self) {
        (self.most, self.opened) = (1, 0);
        self.failures += 1;
        if self.failures >= FAILURES_IN_A_ROW {
            self.sent_away += 1;
        }
        self.changed.notify_waiters();
    }

    fn is_forgotten(&self, now: Moment) -> bool {
        self.opening == 0 && self.waiting == 0 && now.saturating_since(self.used) >= FORGOTTEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use url::Host;

    use super::*;

    fn target() -> Target {
        Target { tls: false, host: Host::Domain("h.example".to_owned()), port: 80 }
    }

    fn open(doors: &Arc<Doors>) -> Option<Opening> {
        match doors.open(&target(), || None::<()>).now_or_never() {
            Some(Ok(Way::Open(opening))) => Some(opening),
            _ => None,
        }
    }

    #[test]
    fn a_few_are_opened_at_once_and_more_while_that_goes_well() {
        let doors = Arc::new(Doors::new(true));
        let mut opening: Vec<Opening> = std::iter::from_fn(|| open(&doors)).collect();
        assert_eq!(opening.len(), FIRST);
        for _ in 0..OPENED_TO_GROW {
            opening.pop().unwrap().connected();
        }
        assert_eq!(std::iter::from_fn(|| open(&doors)).map(Opening::connected).take(1_000).count(), 1_000);
        let opening: Vec<Opening> = std::iter::from_fn(|| open(&doors)).collect();
        assert_eq!(opening.len(), MOST);
    }

    #[test]
    fn after_failures_in_a_row_those_that_wait_are_sent_away_and_the_next_one_tries() {
        let doors = Arc::new(Doors::new(true));
        let mut opening: Vec<Opening> = std::iter::from_fn(|| open(&doors)).collect();
        let target = target();
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(doors.open(&target, || None::<()>))).collect();
        waiting.iter_mut().for_each(|waiting| assert!(waiting.as_mut().now_or_never().is_none()));
        for _ in 0..FAILURES_IN_A_ROW {
            drop(opening.pop());
        }
        for waiting in &mut waiting {
            assert!(matches!(waiting.as_mut().now_or_never(), Some(Err(Unreachable))));
        }
        drop((opening, waiting));
        let one = open(&doors);
        assert!(one.is_some() && open(&doors).is_none(), "one at a time");
        drop(one);
        open(&doors).unwrap().connected();
        assert!(open(&doors).is_some());
    }

    #[test]
    fn a_connection_that_comes_free_serves_one_that_waits() {
        let doors = Arc::new(Doors::new(true));
        let _opening: Vec<Opening> = std::iter::from_fn(|| open(&doors)).collect();
        let free = std::cell::Cell::new(None);
        let target = target();
        let mut waiting = Box::pin(doors.open(&target, || free.take()));
        assert!(waiting.as_mut().now_or_never().is_none());
        free.set(Some(7));
        doors.one_is_free(&target);
        assert!(matches!(waiting.as_mut().now_or_never(), Some(Ok(Way::Ready(7)))));
    }

    #[test]
    fn where_there_are_no_doors_everybody_opens_at_once() {
        let doors = Arc::new(Doors::new(false));
        assert_eq!(std::iter::from_fn(|| open(&doors)).take(1_000).count(), 1_000);
    }
}
