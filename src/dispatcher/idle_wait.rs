//! What the scout does when nothing has arrived: it looks again soon, then less and less often, and then sleeps
//! until a new call wakes it.
//!
//! While calls keep coming, frequent looks keep waits short without any NOTIFY. When calls stop, sleeping spares the
//! database. Under load no dispatcher sleeps, so the platform's inserts send no notification.
//!
//! If a setting of the database says that no call sends notifications (`postcall.wake_up = 'poll'`), the scout does not
//! sleep, and looks twenty times a second. If one transaction alone inserts without a notification, its calls are found
//! when the sleep ends.

use std::time::Duration;

use tracing::{debug, warn};

use super::STATEMENT_TIMEOUT;
use crate::store::session::Session;
use crate::store::wake::{CallListener, WakeUp};
use crate::store::{Store, StoreError};

/// The pause after work was found.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// When pauses have grown past this, the dispatcher sleeps instead. That is after three looks that found nothing.
const LONGEST_PAUSE: Duration = Duration::from_micros(2_500);
/// The pause after a failed attempt to listen.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);
/// The longest sleep. A call waits this long at most if its notification is missed.
const SLEEP: Duration = Duration::from_secs(1);
/// The wake-up is requested for this much longer than the sleep, so that the request never ends before the next look.
const WAKE_UP_MARGIN: Duration = Duration::from_millis(500);

/// The pause between two looks where no call sends notifications.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// After this many looks, the scout asks again whether calls send notifications. They fit into one sleep.
const POLLS: u32 = 20;

/// What the next wait is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Look again after this pause.
    Dozing(Duration),
    /// The wake-up has been requested, and the look after the request is done: sleep.
    Asleep,
    /// No call sends notifications: look this many times before asking again.
    Polling(u32),
}

/// Waits between two looks that find nothing.
pub(super) struct IdleWait {
    store: Store,
    listener: Option<CallListener>,
    depth: Depth,
    /// The longest pause between two looks before the wake-up is requested.
    longest_pause: Duration,
    /// Whether the request that woke this dispatcher is still in the database.
    is_still_requested: bool,
}

impl IdleWait {
    pub(super) fn new(store: Store) -> IdleWait {
        IdleWait {
            store,
            listener: None,
            depth: Depth::Dozing(SHORTEST_PAUSE),
            longest_pause: LONGEST_PAUSE,
            is_still_requested: false,
        }
    }

    /// Work was found, so the next wait is a short one.
    pub(super) fn over(&mut self) {
        self.depth = Depth::Dozing(SHORTEST_PAUSE);
    }

    /// Withdraws the request that has woken this dispatcher. Call it after the look, because the look must not wait for
    /// it.
    pub(super) async fn cancel_wake_up(&mut self, session: &mut Session) {
        if std::mem::take(&mut self.is_still_requested)
            && let Err(error) = session.cancel_wake_up().await
        {
            debug!(%error, "could not cancel the wake-up; it ends by itself");
        }
    }

    /// Returns when it is time to look again. Cancel-safe.
    pub(super) async fn wait(&mut self, session: &mut Session) {
        match self.depth {
            Depth::Dozing(pause) if pause <= self.longest_pause => {
                tokio::time::sleep(pause).await;
                self.depth = Depth::Dozing(pause * 3 / 2);
            }
            // Request the wake-up first, then look once more, and only then sleep. A call that commits in between sends
            // a notification.
            Depth::Dozing(_) => match self.request_wake_up(session).await {
                Ok(WakeUp::Requested) => {
                    self.longest_pause = LONGEST_PAUSE;
                    self.depth = Depth::Asleep;
                }
                Ok(WakeUp::Unavailable) => {
                    self.longest_pause = POLL_PAUSE;
                    self.depth = Depth::Polling(POLLS);
                }
                Err(error) => {
                    warn!(%error, "cannot listen for new calls; polling instead");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            },
            Depth::Asleep => self.sleep().await,
            Depth::Polling(left) => {
                tokio::time::sleep(POLL_PAUSE).await;
                self.depth = left.checked_sub(1).map_or(Depth::Dozing(POLL_PAUSE * 2), Depth::Polling);
            }
        }
    }

    async fn request_wake_up(&mut self, session: &mut Session) -> Result<WakeUp, StoreError> {
        let answer = session.request_wake_up(SLEEP + WAKE_UP_MARGIN).await?;
        if answer == WakeUp::Unavailable || self.listener.is_some() {
            return Ok(answer);
        }
        // Connecting may take longer than the wake-up was requested for, so it is requested again.
        self.listener = Some(self.store.call_listener(STATEMENT_TIMEOUT).await?);
        session.request_wake_up(SLEEP + WAKE_UP_MARGIN).await
    }

    async fn sleep(&mut self) {
        // Whatever ends the sleep, the next wait requests the wake-up anew or is a short one.
        self.depth = Depth::Dozing(LONGEST_PAUSE * 2);
        let Some(listener) = &mut self.listener else { return };
        match tokio::time::timeout(SLEEP, listener.notified()).await {
            Ok(Ok(())) => {
                (self.depth, self.is_still_requested) = (Depth::Dozing(SHORTEST_PAUSE), true);
            }
            Ok(Err(error)) => {
                debug!(%error, "the listener's connection broke");
                self.listener = None;
            }
            Err(_elapsed) => {}
        }
    }
}
