//! What the scout does when nothing has arrived: it looks again soon, then less and less often, and then sleeps
//! until the bell rings.
//!
//! Looking often while calls keep coming makes for short waits without any NOTIFY; sleeping when they stop spares the
//! database. Under load nobody sleeps, so the platform's inserts never ring.
//!
//! Where the database says that nobody rings (`postcall.wake_up = 'poll'`), it goes on looking, twenty times a second.
//! A single transaction that does not ring is found when the sleep ends.

use std::time::Duration;

use tracing::{debug, warn};

use super::PATIENCE;
use crate::store::session::Session;
use crate::store::wake::{Bell, Ring};
use crate::store::{Store, StoreError};

/// The pause after work was found.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// When pauses have grown past this, the dispatcher sleeps instead: after three looks that found nothing.
const LONGEST_PAUSE: Duration = Duration::from_micros(2_500);
/// The pause after listening was not possible.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);
/// A sleep's longest duration: what a call waits at most if its ring is missed.
const SLEEP: Duration = Duration::from_secs(1);
/// The bell is asked for a little longer than the sleep, so that it is never silent before the next look.
const BELL_MARGIN: Duration = Duration::from_millis(500);

/// The pause between two looks where nobody rings.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// Looks until it is asked again whether somebody rings: as many as fit into a sleep.
const POLLS: u32 = 20;

/// How deep the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Look again after this pause.
    Dozing(Duration),
    /// The bell has been asked for; the look after that is done, so sleep.
    Asleep,
    /// Nobody rings; look so many times before asking again.
    Polling(u32),
}

/// Rests between two looks at an empty queue.
pub(super) struct Rest {
    store: Store,
    bell: Option<Bell>,
    depth: Depth,
    /// The longest pause between two looks before it is asked for the bell; shorter where nobody rings.
    longest_pause: Duration,
    /// Whether the bell has woken somebody and rings on.
    rings_on: bool,
}

impl Rest {
    pub(super) fn new(store: Store) -> Rest {
        Rest { store, bell: None, depth: Depth::Dozing(SHORTEST_PAUSE), longest_pause: LONGEST_PAUSE, rings_on: false }
    }

    /// Work was found: the next rest begins light.
    pub(super) fn over(&mut self) {
        self.depth = Depth::Dozing(SHORTEST_PAUSE);
    }

    /// Stops the bell if it has woken somebody. Not before the look that it woke for, which must not wait for this.
    pub(super) async fn silence(&mut self, session: &mut Session) {
        if std::mem::take(&mut self.rings_on)
            && let Err(error) = session.silence_bell().await
        {
            debug!(%error, "could not silence the bell; it stops by itself");
        }
    }

    /// Returns when it is time to look again. Cancel-safe.
    pub(super) async fn rest(&mut self, session: &mut Session) {
        match self.depth {
            Depth::Dozing(pause) if pause <= self.longest_pause => {
                tokio::time::sleep(pause).await;
                self.depth = Depth::Dozing(pause * 3 / 2);
            }
            // First ask to be woken, then look once more, and only then sleep: what commits in between rings.
            Depth::Dozing(_) => match self.ask_for_bell(session).await {
                Ok(Ring::Asked) => {
                    self.longest_pause = LONGEST_PAUSE;
                    self.depth = Depth::Asleep;
                }
                Ok(Ring::Never) => {
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

    async fn ask_for_bell(&mut self, session: &mut Session) -> Result<Ring, StoreError> {
        let asked = session.ask_to_be_rung(SLEEP + BELL_MARGIN).await?;
        if asked == Ring::Never || self.bell.is_some() {
            return Ok(asked);
        }
        // Connecting may take longer than what was asked for.
        self.bell = Some(self.store.bell(PATIENCE).await?);
        session.ask_to_be_rung(SLEEP + BELL_MARGIN).await
    }

    async fn sleep(&mut self) {
        // Whatever ends the sleep, the next rest asks for the bell anew or starts light.
        self.depth = Depth::Dozing(LONGEST_PAUSE * 2);
        let Some(bell) = &mut self.bell else { return };
        match tokio::time::timeout(SLEEP, bell.rung()).await {
            Ok(Ok(())) => {
                (self.depth, self.rings_on) = (Depth::Dozing(SHORTEST_PAUSE), true);
            }
            Ok(Err(error)) => {
                debug!(%error, "the bell's connection broke");
                self.bell = None;
            }
            Err(_elapsed) => {}
        }
    }
}
