//! Which dispatchers run, and their leases. All times are the database's.

use std::time::Duration;

use super::StoreError;
use super::session::Session;

/// The longest lease that a dispatcher can be given. What is in flight under it is given up no later than that.
pub const LONGEST_LEASE: Duration = Duration::from_secs(600);

/// What renewing a lease came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is good for its full length again, from when the statement ran.
    Renewed,
    /// Somebody declared this dispatcher lost. It never comes back under its id.
    Lost,
}

impl Session {
    /// Registers a dispatcher that starts now, with a lease of `lease`, and returns its id, new every time.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn register(&mut self, name: &str, version: &str, lease: Duration) -> Result<i32, StoreError> {
        let mut connection = self.take().await?;
        let id = sqlx::query_scalar!(
            r#"
            INSERT INTO postcall.dispatcher (name, version, lease_until)
            VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
            RETURNING dispatcher_id
            "#,
            name,
            version,
            millis(lease),
        )
        .fetch_one(&mut connection);
        let id = self.within(id).await;
        self.keep(connection, id)
    }

    /// Renews a dispatcher's lease.
    ///
    /// # Errors
    /// Only those of the database; the lease may or may not have been renewed.
    pub async fn renew(&mut self, dispatcher_id: i32, lease: Duration) -> Result<Renewal, StoreError> {
        // lost_at decides, and not the time: a lease that is over may be renewed as long as nobody has drawn
        // consequences. The row lock puts renewal and declaration in an order.
        let mut connection = self.take().await?;
        let renewed = sqlx::query!(
            r#"
            UPDATE postcall.dispatcher SET lease_until = clock_timestamp() + $2 * interval '1 millisecond'
            WHERE dispatcher_id = $1 AND lost_at IS NULL
            "#,
            dispatcher_id,
            millis(lease),
        )
        .execute(&mut connection);
        let renewed = self.within(renewed).await;
        let renewed = self.keep(connection, renewed)?;
        Ok(if renewed.rows_affected() == 1 { Renewal::Renewed } else { Renewal::Lost })
    }

    /// Notes that a dispatcher stopped in good order. Whatever it left in `sending` is given up from now on.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn retire(&mut self, dispatcher_id: i32) -> Result<(), StoreError> {
        let mut connection = self.take().await?;
        let retired = sqlx::query!(
            "UPDATE postcall.dispatcher SET stopped_at = clock_timestamp() WHERE dispatcher_id = $1 AND lost_at IS NULL",
            dispatcher_id
        )
        .execute(&mut connection);
        let retired = self.within(retired).await;
        self.keep(connection, retired).map(drop)
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
