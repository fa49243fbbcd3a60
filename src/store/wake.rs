//! The wake-up: how a dispatcher that sleeps hears of a new call. In the database it is the sequence `postcall.bell`;
//! `migrations/*_bell.up.sql` says why it is built so.

use std::time::Duration;

use sqlx::postgres::PgListener;

use super::session::Session;
use super::{Store, StoreError};

/// The channel on which the outbox's trigger sends notifications.
const CHANNEL: &str = "postcall";

/// Whether a new call will wake the dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeUp {
    /// The next call sends a notification.
    Requested,
    /// This database says `postcall.wake_up = 'poll'`: no call ever sends a notification, because its platform
    /// prepares transactions, and a transaction that has notified cannot be prepared.
    Unavailable,
}

/// Listens for new calls, on a connection of its own that is renewed when it breaks.
pub struct CallListener {
    listener: PgListener,
}

impl CallListener {
    /// Waits for a notification. Cancel-safe: one that arrives between two waits ends the next wait at once.
    ///
    /// # Errors
    /// A connection that broke and could not be renewed; the next wait tries again.
    pub async fn notified(&mut self) -> Result<(), StoreError> {
        // `try_recv` answers None when the connection broke and was renewed: a notification may have been missed, so
        // this counts as one.
        self.listener.try_recv().await?;
        Ok(())
    }
}

impl Store {
    /// Begins to listen, on a connection of the pool. Waits no longer than `timeout`.
    pub async fn call_listener(&self, timeout: Duration) -> Result<CallListener, StoreError> {
        let listening = async {
            let mut listener = PgListener::connect_with(&self.pool).await?;
            listener.listen(CHANNEL).await?;
            Ok(CallListener { listener })
        };
        tokio::time::timeout(timeout, listening).await.map_err(|_elapsed| StoreError::Unanswered(timeout))?
    }
}

impl Session {
    /// Asks to be woken by the next new call within `sleep`. The caller must look for work once more after this, and
    /// only then sleep: a call that was committed before this request sends no notification.
    pub async fn request_wake_up(&mut self, sleep: Duration) -> Result<WakeUp, StoreError> {
        // - The database's clock on both sides of the comparison, so that dispatchers' clocks do not matter.
        // - The setting is the one that the platform's sessions get, too, if it is the database's or the server's.
        let statement = sqlx::query_scalar!(
            r#"
            SELECT CASE WHEN coalesce(current_setting('postcall.wake_up', true), '') <> 'poll'
                        THEN setval('postcall.bell', (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $1)
                   END
            "#,
            i64::try_from(sleep.as_millis()).unwrap_or(i64::MAX / 2)
        );
        Ok(match self.fetch_one(statement).await? {
            Some(_until) => WakeUp::Requested,
            None => WakeUp::Unavailable,
        })
    }

    /// Withdraws the request: somebody is awake, and new calls need not send notifications.
    pub async fn cancel_wake_up(&mut self) -> Result<(), StoreError> {
        let statement = sqlx::query!("SELECT setval('postcall.bell', 0)");
        self.fetch_one(statement).await?;
        Ok(())
    }
}
