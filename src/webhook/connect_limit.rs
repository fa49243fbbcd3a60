//! How many connections to one target are opened at the same time.
//!
//! If a host cannot be reached, every request that tries to connect fails. Requests that come together would all try
//! before the first of them has failed. So only a few connections to one target are opened at once. The other requests
//! wait for a connection that comes free, or for their turn to open one. When a few connections in a row could not be
//! opened, the waiting requests are sent away, and nothing of them was attempted. Their deliveries can wait until the
//! host can be reached again.
//!
//! This is about requests that come together, and is forgotten within seconds. Whether a host is left alone until a probe
//! reaches it is decided by the room `scheduler` (`reach`), from attempts that have failed.
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
const SMALL_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// After this many failures in a row, the waiting requests are sent away.
const FAILURES_TO_SEND_AWAY: usize = 3;
/// With at least this many limits, unused ones are removed before the table grows.
const MANY: usize = 1_024;

/// The limits of all targets. `None` inside means that there are no limits, and every request opens a connection at once.
#[derive(Debug, Default)]
pub(super) struct ConnectLimits {
    limits: Option<Mutex<HashMap<Target, ConnectLimit>>>,
}

/// The limit of one target.
#[derive(Debug)]
struct ConnectLimit {
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

/// What a request that waits at a limit has to do.
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
    limits: Arc<ConnectLimits>,
    target: Target,
    connected: bool,
}

/// A request that waits at a limit.
#[derive(Debug)]
pub(super) struct Waiting {
    limits: Arc<ConnectLimits>,
    target: Target,
    since: u64,
}

/// The target cannot be reached, and nothing was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreachable;

impl ConnectLimits {
    /// Makes limits, or no limits if `exist` is `false`.
    pub(super) fn new(exist: bool) -> ConnectLimits {
        ConnectLimits { limits: exist.then(Mutex::default) }
    }

    /// Waits for the right to open a connection to `target`, or until `ready` returns something to use instead.
    /// Cancel-safe.
    pub(super) async fn open<T>(
        self: &Arc<ConnectLimits>,
        target: &Target,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<Way<T>, Unreachable> {
        let opening = || Opening { limits: self.clone(), target: target.clone(), connected: false };
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
        if let Some(limits) = self.lock()
            && let Some(limit) = limits.get(target).filter(|limit| limit.waiting > 0)
        {
            limit.changed.notify_one();
        }
    }

    /// Notes that `target` was reached by other means, for instance by a probe.
    pub(super) fn reached(&self, target: &Target) {
        if let Some(mut limits) = self.lock()
            && let Some(limit) = limits.get_mut(target)
        {
            limit.connected();
        }
    }

    /// Begins to wait at the limit of `target`. `None` if there are no limits.
    fn wait(self: &Arc<ConnectLimits>, target: &Target) -> Option<Waiting> {
        let mut limits = self.lock()?;
        // Unused limits are removed only when the table would have to grow, so that the cost is that of growing.
        if limits.len() >= MANY && limits.len() == limits.capacity() {
            let now = Moment::now();
            limits.retain(|_, limit| !limit.is_forgotten(now));
        }
        let limit = limits.entry(target.clone()).or_insert_with(ConnectLimit::new);
        limit.waiting += 1;
        Some(Waiting { limits: self.clone(), target: target.clone(), since: limit.sent_away })
    }

    fn lock(&self) -> Option<MutexGuard<'_, HashMap<Target, ConnectLimit>>> {
        self.limits.as_ref().map(|limits| limits.lock().unwrap_or_else(PoisonError::into_inner))
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
        let Some(mut limits) = self.limits.lock() else { return Look::Open };
        let Some(limit) = limits.get_mut(&self.target) else { return Look::Open };
        if limit.sent_away > self.since {
            return Look::SentAway;
        }
        if limit.begin(Moment::now()) { Look::Open } else { Look::Wait(limit.changed.clone()) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mut limits) = self.limits.lock()
            && let Some(limit) = limits.get_mut(&self.target)
        {
            limit.waiting = limit.waiting.saturating_sub(1);
            // It may have taken a signal and then left for another reason, so the signal is passed on.
            limit.changed.notify_one();
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
        if let Some(mut limits) = self.limits.lock()
            && let Some(limit) = limits.get_mut(&self.target)
        {
            limit.opening = limit.opening.saturating_sub(1);
            if self.connected { limit.connected() } else { limit.failed() }
        }
    }
}

impl ConnectLimit {
    fn new() -> ConnectLimit {
        ConnectLimit {
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
        if now.saturating_since(self.used) >= SMALL_AGAIN_AFTER && self.opening == 0 {
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
        if self.failures >= FAILURES_TO_SEND_AWAY {
            self.sent_away += 1;
        }
        self.changed.notify_waiters();
    }

    fn is_forgotten(&self, now: Moment) -> bool {
        self.opening == 0 && self.waiting == 0 && now.saturating_since(self.used) >= SMALL_AGAIN_AFTER
    }
}

#[cfg(test)]
mod tests;
