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
use crate::domain::chain::chain;
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
/// The wake-up is requested for so long: for longer than the sleep, so that the request never ends before the next look.
const WAKE_UP: Duration = SLEEP.saturating_add(Duration::from_millis(500));

/// The pause between two looks where no call sends notifications.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// After this many looks, the scout asks again whether calls send notifications. They fit into one sleep.
const POLLS: u32 = 20;

/// What the next wait is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Look again after this pause.
    Dozing(Duration),
    /// Request the wake-up.
    Drowsy,
    /// The wake-up has been requested, and the look after the request is done: sleep.
    Asleep,
    /// No call sends notifications: look this many times before asking again.
    Polling(u32),
}

impl Depth {
    /// The wait after a pause. Pauses grow up to `longest`.
    fn after_dozing(pause: Duration, longest: Duration) -> Depth {
        let next = pause * 3 / 2;
        if next <= longest { Depth::Dozing(next) } else { Depth::Drowsy }
    }
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
            debug!(error = %chain(&error), "could not cancel the wake-up; it ends by itself");
        }
    }

    /// Returns when it is time to look again. Cancel-safe.
    pub(super) async fn wait(&mut self, session: &mut Session) {
        match self.depth {
            Depth::Dozing(pause) => {
                tokio::time::sleep(pause).await;
                self.depth = Depth::after_dozing(pause, self.longest_pause);
            }
            // Request the wake-up first, then look once more, and only then sleep. A call that commits in between sends
            // a notification.
            Depth::Drowsy => match self.request_wake_up(session).await {
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
                self.depth = left.checked_sub(1).map_or(Depth::Drowsy, Depth::Polling);
            }
        }
    }

    async fn request_wake_up(&mut self, session: &mut Session) -> Result<WakeUp, StoreError> {
        let answer = session.request_wake_up(WAKE_UP).await?;
        if answer == WakeUp::Unavailable || self.listener.is_some() {
            return Ok(answer);
        }
        // Connecting may take longer than the wake-up was requested for, so it is requested again.
        self.listener = Some(self.store.call_listener(STATEMENT_TIMEOUT).await?);
        session.request_wake_up(WAKE_UP).await
    }

    async fn sleep(&mut self) {
        // Whatever ends the sleep, the next wait requests the wake-up anew or is a short one.
        self.depth = Depth::Drowsy;
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

#[cfg(test)]
mod tests {
    use super::super::tests::{Database, Receiver, in_time};
    use super::*;

    #[test]
    fn pauses_grow_by_half_up_to_a_bound_and_then_the_wake_up_is_requested() {
        let after =
            |micros, longest| Depth::after_dozing(Duration::from_micros(micros), Duration::from_micros(longest));
        assert_eq!(after(1_000, 1_500), Depth::Dozing(Duration::from_micros(1_500)));
        assert_eq!(after(1_000, 1_499), Depth::Drowsy);
    }

    /// How many connections listen for calls.
    async fn listeners(database: &mut Database) -> i64 {
        let listening =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        sqlx::query_scalar(listening).fetch_one(&mut database.connection).await.unwrap()
    }

    /// Whether a notification was requested, and not withdrawn since.
    async fn is_requested(database: &mut Database) -> bool {
        let until = "SELECT last_value > 0 FROM postcall.bell";
        sqlx::query_scalar(until).fetch_one(&mut database.connection).await.unwrap()
    }

    #[tokio::test]
    async fn it_sleeps_by_one_listener_until_a_call_wakes_it_and_then_withdraws_its_request_once() {
        let mut database = Database::new().await;
        let receiver = Receiver::holding().await;
        let mut session = database.store.session(STATEMENT_TIMEOUT);
        let mut idle = IdleWait::new(database.store.clone());
        let mut waits = Vec::new();
        in_time(async {
            while idle.depth != Depth::Asleep && waits.len() < 10 {
                waits.push(idle.depth);
                idle.wait(&mut session).await;
            }
        })
        .await;
        let dozes = [1_000, 1_500, 2_250].map(|micros| Depth::Dozing(Duration::from_micros(micros)));
        assert_eq!(waits, [&dozes[..], &[Depth::Drowsy]].concat());
        assert!(is_requested(&mut database).await);
        let begun = std::time::Instant::now();
        idle.wait(&mut session).await;
        assert!(begun.elapsed() >= SLEEP && idle.depth == Depth::Drowsy, "nothing has come");
        idle.wait(&mut session).await;
        assert_eq!((idle.depth, listeners(&mut database).await), (Depth::Asleep, 1));
        database.calls_for(&receiver, 1).await;
        let woken = async {
            // Again, if it took so long that the request was over.
            while !idle.is_still_requested {
                idle.wait(&mut session).await;
                if idle.depth == Depth::Asleep {
                    database.calls_for(&receiver, 1).await;
                }
            }
        };
        in_time(woken).await;
        assert_eq!(idle.depth, Depth::Dozing(SHORTEST_PAUSE));
        idle.cancel_wake_up(&mut session).await;
        assert!(!is_requested(&mut database).await);
        session.request_wake_up(WAKE_UP).await.unwrap();
        idle.cancel_wake_up(&mut session).await;
        assert!(is_requested(&mut database).await, "that of another one is left alone");
        idle.depth = Depth::Drowsy;
        idle.over();
        assert_eq!(idle.depth, Depth::Dozing(SHORTEST_PAUSE));
    }

    #[tokio::test]
    async fn where_no_call_sends_notifications_it_polls_without_a_listener_and_asks_again_after_so_many_looks() {
        let mut database = Database::new().await;
        let name: String =
            sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut database.connection).await.unwrap();
        let poll = format!("ALTER DATABASE {name} SET postcall.wake_up = 'poll'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(poll)).execute(&mut database.connection).await.unwrap();
        let mut session = database.store.session(STATEMENT_TIMEOUT);
        let mut idle = IdleWait::new(database.store.clone());
        idle.depth = Depth::Drowsy;
        idle.wait(&mut session).await;
        assert_eq!((idle.depth, idle.longest_pause), (Depth::Polling(POLLS), POLL_PAUSE));
        assert_eq!((idle.listener.is_none(), listeners(&mut database).await), (true, 0));
        for left in (0..POLLS).rev() {
            idle.wait(&mut session).await;
            assert_eq!(idle.depth, Depth::Polling(left));
        }
        idle.wait(&mut session).await;
        assert_eq!(idle.depth, Depth::Drowsy);
    }
}
