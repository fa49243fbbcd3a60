//! The bell: how a dispatcher that sleeps hears of a new call. `migrations/*_bell.up.sql` says why it is built so.

use std::time::Duration;

use sqlx::postgres::PgListener;

use super::session::Session;
use super::{Store, StoreError};

/// The notification channel on which the outbox's trigger rings.
const CHANNEL: &str = "postcall";

/// Whether somebody will ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// The next call rings.
    Asked,
    /// This database says `postcall.wake_up = 'poll'`: no call ever rings, because its platform prepares transactions, and
    /// a transaction that has notified cannot be prepared.
    Never,
}

/// Hears the bell, on a connection of its own that is renewed when it breaks.
pub struct Bell {
    listener: PgListener,
}

impl Bell {
    /// Waits for a ring. Cancel-safe: a ring that arrives between two waits ends the next one at once.
    ///
    /// # Errors
    /// A connection that broke and could not be renewed; the next wait tries again.
    pub async fn rung(&mut self) -> Result<(), StoreError> {
        // `try_recv` answers None when the connection broke and was renewed: a ring may have been missed, so it counts.
        self.listener.try_recv().await?;
        Ok(())
    }
}

impl Store {
    /// Begins to listen, on a connection of the pool. Waits no longer than `patience`.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn bell(&self, patience: Duration) -> Result<Bell, StoreError> {
        let listening = async {
            let mut listener = PgListener::connect_with(&self.pool).await?;
            listener.listen(CHANNEL).await?;
            Ok(Bell { listener })
        };
        tokio::time::timeout(patience, listening).await.map_err(|_elapsed| StoreError::Unanswered(patience))?
    }
}

impl Session {
    /// Asks for a ring at the next new call within `sleep`. The caller must look for work once more after this, and
    /// only then sleep: a call that was committed before is not rung for.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn ask_to_be_rung(&mut self, sleep: Duration) -> Result<Ring, StoreError> {
        // - The database's clock on both sides of the comparison, so that dispatchers' clocks do not matter.
        // - The setting is the one that the platform's sessions get, too, if it is the database's or the server's.
        let mut connection = self.take().await?;
        let asked = sqlx::query_scalar!(
            r#"
            SELECT CASE WHEN coalesce(current_setting('postcall.wake_up', true), '') <> 'poll'
                        THEN setval('postcall.bell', (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $1)
                   END
            "#,
            i64::try_from(sleep.as_millis()).unwrap_or(i64::MAX / 2)
        )
        .fetch_one(&mut connection);
        let asked = self.within(asked).await;
        Ok(match self.keep(connection, asked)? {
            Some(_until) => Ring::Asked,
            None => Ring::Never,
        })
    }

    /// Stops the ringing: somebody is awake.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn silence_bell(&mut self) -> Result<(), StoreError> {
        let mut connection = self.take().await?;
        let silenced = sqlx::query!("SELECT setval('postcall.bell', 0)").fetch_one(&mut connection);
        let silenced = self.within(silenced).await;
        self.keep(connection, silenced).map(drop)
    }
}
