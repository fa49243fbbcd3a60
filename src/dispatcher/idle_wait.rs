//! What the scout does when nothing has arrived: it looks again soon, then less and less often, and then sleeps
//! until a new call wakes it.
//!
//! Looking often while calls keep coming makes for short waits without any NOTIFY; sleeping when they stop spares the
//! database. Under load nobody sleeps, so the platform's inserts send no notification.
//!
//! Where the database says that no call sends notifications (`postcall.wake_up = 'poll'`), it goes on looking, twenty
//! times a second. What a single transaction inserts without a notification is found when the sleep ends.

use std::time::Duration;

use tracing::{debug, warn};

use super::STATEMENT_TIMEOUT;
use crate::domain::chain::chain;
use crate::store::session::Session;
use crate::store::wake::{CallListener, WakeUp};
use crate::store::{Store, StoreError};

/// The pause after work was found.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// When pauses have grown past this, the dispatcher sleeps instead: after three looks that found nothing.
const LONGEST_PAUSE: Duration = Duration::from_micros(2_500);
/// The pause after listening was not possible.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);
/// A sleep's longest duration: what a call waits at most if its notification is missed.
const SLEEP: Duration = Duration::from_secs(1);
/// The wake-up is requested for a little longer than the sleep, so that it never ends before the next look.
const WAKE_UP_MARGIN: Duration = Duration::from_millis(500);

/// The pause between two looks where no call sends notifications.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// Looks until it is asked again whether calls send notifications: as many as fit into a sleep.
const POLLS: u32 = 20;

/// What the next wait is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Look again after this pause.
    Dozing(Duration),
    /// The wake-up has been requested; the look after that is done, so sleep.
    Asleep,
    /// No call sends notifications; look so many times before asking again.
    Polling(u32),
}

/// Waits between two looks at an empty queue.
pub(super) struct IdleWait {
    store: Store,
    listener: Option<CallListener>,
    depth: Depth,
    /// The longest pause between two looks before the wake-up is requested.
    longest_pause: Duration,
    /// Whether the request that woke this dispatcher still stands.
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

    /// Work was found: the next wait is a short one.
    pub(super) fn over(&mut self) {
        self.depth = Depth::Dozing(SHORTEST_PAUSE);
    }

    /// Withdraws a request that has woken this dispatcher. Not before the look that it woke for, which must not wait for this.
    pub(super) async fn cancel_wake_up(&mut self, session: &mut Session) {
        if std::mem::take(&mut self.is_still_requested)
            && let Err(error) = session.cancel_wake_up().await
        {
            debug!(error = %chain(&error), "could not cancel the wake-up; it ends by itself");
        }
    }

    /// Returns when it is time to look again. Cancel-safe.
    pub(super) async fn wait(&mut self, session: &mut Session) {
        match self.depth {
            Depth::Dozing(pause) if pause <= self.longest_pause => {
                tokio::time::sleep(pause).await;
                self.depth = Depth::Dozing(pause * 3 / 2);
            }
            // First ask to be woken, then look once more, and only then sleep: what commits in between sends a
            // notification.
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
                    warn!(error = %chain(&error), "cannot listen for new calls; polling instead");
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
        // Connecting may take longer than what was asked for.
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
                debug!(error = %chain(&error), "the listener's connection broke");
                self.listener = None;
            }
            Err(_elapsed) => {}
        }
    }
}
