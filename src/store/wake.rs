//! The wake-up: how a sleeping dispatcher learns of a new call. In the database it is the sequence `postcall.bell`;
//! `migrations/*_bell.up.sql` explains its design.

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
    /// This database has the setting `postcall.wake_up = 'poll'`: no call ever sends a notification, because its
    /// platform prepares transactions, and a transaction that has sent a notification cannot be prepared.
    Unavailable,
}

/// Listens for new calls, on a connection of its own that is renewed when it breaks.
pub struct CallListener {
    listener: PgListener,
}

impl CallListener {
    /// Waits for a notification. Cancel-safe: a notification that arrives between two waits ends the next wait at once.
    ///
    /// # Errors
    /// Returns an error if the connection broke and could not be renewed; the next wait tries again.
    pub async fn notified(&mut self) -> Result<(), StoreError> {
        // `try_recv` returns None when the connection broke and was renewed. A notification may have been missed then,
        // so this counts as one.
        self.listener.try_recv().await?;
        Ok(())
    }
}

impl Store {
    /// Begins to listen, on a connection from the pool. Waits no longer than `timeout`.
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
    /// Requests a notification for the next new call within `sleep`. After this, the caller must look for work once
    /// more before it sleeps: a call that was committed before this request sends no notification.
    pub async fn request_wake_up(&mut self, sleep: Duration) -> Result<WakeUp, StoreError> {
        // - Both sides of the comparison use the database's clock, so that dispatchers' clocks do not matter.
        // - The platform's sessions see the same setting if it is set for the database or the server.
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

    /// Withdraws the request: a dispatcher is awake, so new calls need not send notifications.
    pub async fn cancel_wake_up(&mut self) -> Result<(), StoreError> {
        let statement = sqlx::query!("SELECT setval('postcall.bell', 0)");
        self.fetch_one(statement).await?;
        Ok(())
    }
}
