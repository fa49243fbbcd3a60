//! Which dispatchers run, and their leases. All times come from the database's clock.

use std::time::Duration;

use sqlx::types::Json;
use sqlx::{Connection, PgConnection};

use super::StoreError;
use super::session::Session;
use crate::domain::policy::Policy;

/// The longest lease that a dispatcher can have. It bounds how late the deliveries of a dispatcher that died are given
/// up.
pub const LONGEST_LEASE: Duration = Duration::from_secs(600);

/// The result of renewing a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts for its full length again, from the moment at which the statement ran.
    Renewed,
    /// Another dispatcher declared this one lost. It can never use its id again.
    Lost,
}

/// A dispatcher that wants to start.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// Host name and process id, for people.
    pub name: &'a str,
    /// The program's version.
    pub version: &'a str,
    /// How long it counts as alive without a renewal.
    pub lease: Duration,
    /// Its policy: which hosts it may send to.
    pub policy: &'a Policy,
    /// Which dispatchers keep it from registering if their policy differs.
    pub standing: Standing,
}

/// Which living dispatchers keep a newcomer with a different policy from registering. The newcomer "stands back" before
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every living dispatcher.
    BehindAll,
    /// Living dispatchers that registered after this id, which the newcomer had before it was lost.
    BehindLaterThan(i32),
    /// None: the policy is being changed on purpose.
    BeforeAll,
}

/// A living dispatcher whose policy is different or unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its id.
    pub dispatcher_id: i32,
    /// Host name and process id.
    pub name: String,
    /// Its program's version.
    pub version: String,
    /// Its policy; `None` if its release did not record one.
    pub policy: Option<Policy>,
    /// How long its lease still lasts if it is not renewed.
    pub lease_left: Duration,
}

/// The result of registering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registering {
    /// It is registered.
    Registered {
        /// Its id, which is new at every registration.
        dispatcher_id: i32,
        /// Living dispatchers with a different or unknown policy; at most [`MOST_NEIGHBOURS`].
        others: Vec<Neighbour>,
    },
    /// It is not registered, because these dispatchers have a different policy; at most [`MOST_NEIGHBOURS`] are named.
    StandsBack(Vec<Neighbour>),
}

/// The largest number of other dispatchers that are named.
pub const MOST_NEIGHBOURS: i64 = 8;

/// How often a registration is tried at most when others register at the same moment.
const MOST_TRIES: u32 = 100;
/// The longest wait before such a try.
const LONGEST_PAUSE_MS: u64 = 20;

impl Session {
    /// Registers a dispatcher that starts now, unless it stands back because other dispatchers have a different policy.
    ///
    /// If two dispatchers with different policies start at the same moment, one of them registers.
    pub async fn register(&mut self, newcomer: Newcomer<'_>) -> Result<Registering, StoreError> {
        for _ in 1..MOST_TRIES {
            match self.register_once(newcomer).await {
                // Another dispatcher registered in between, so there is progress.
                Err(error) if error.is_serialization_failure() => {}
                result => return result,
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=LONGEST_PAUSE_MS))).await;
        }
        self.register_once(newcomer).await
    }

    async fn register_once(&mut self, newcomer: Newcomer<'_>) -> Result<Registering, StoreError> {
        let mut connection = self.take().await?;
        let rows = self.within(insert_dispatcher(&mut connection, newcomer)).await;
        let rows = self.keep(connection, rows)?;
        let registered = rows.first().and_then(|row| row.registered_id);
        let others = rows.into_iter().filter_map(LookedUp::neighbour).collect();
        Ok(match registered {
            Some(dispatcher_id) => Registering::Registered { dispatcher_id, others },
            None => Registering::StandsBack(others),
        })
    }

    /// Renews a dispatcher's lease.
    ///
    /// # Errors
    /// Returns the database's error. The lease may or may not have been renewed.
    pub async fn renew(&mut self, dispatcher_id: i32, lease: Duration) -> Result<Renewal, StoreError> {
        // lost_at decides, not the time: a lease that is over may be renewed as long as nobody has declared the
        // dispatcher lost. The row lock orders a renewal and a declaration.
        let statement = sqlx::query!(
            r#"
            UPDATE postcall.dispatcher SET lease_until = clock_timestamp() + $2 * interval '1 millisecond'
            WHERE dispatcher_id = $1 AND lost_at IS NULL AND stopped_at IS NULL
            "#,
            dispatcher_id,
            millis(lease),
        );
        let renewed = self.execute(statement).await?;
        Ok(if renewed.rows_affected() == 1 { Renewal::Renewed } else { Renewal::Lost })
    }

    /// Records that a dispatcher stopped in an orderly way. From now on, others give up whatever it left in `sending`.
    pub async fn retire(&mut self, dispatcher_id: i32) -> Result<(), StoreError> {
        let statement = sqlx::query!(
            "UPDATE postcall.dispatcher SET stopped_at = clock_timestamp() WHERE dispatcher_id = $1 AND lost_at IS NULL",
            dispatcher_id
        );
        self.execute(statement).await?;
        Ok(())
    }
}

/// How far a lease may seem to exceed the longest lease, because clock readings of different statements differ.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// A row that [`insert_dispatcher`] returns: one row per neighbour, or a single row without a neighbour.
struct LookedUp {
    registered_id: Option<i32>,
    dispatcher_id: Option<i32>,
    name: Option<String>,
    version: Option<String>,
    policy: Option<String>,
    lease_left_ms: Option<f64>,
}

impl LookedUp {
    fn neighbour(self) -> Option<Neighbour> {
        Some(Neighbour {
            dispatcher_id: self.dispatcher_id?,
            name: self.name?,
            version: self.version?,
            // A policy that cannot be read counts as unknown.
            policy: self.policy.and_then(|policy| serde_json::from_str(&policy).ok()),
            lease_left: Duration::from_secs_f64((self.lease_left_ms? / 1_000.0).max(0.0)),
        })
    }
}

async fn insert_dispatcher(
    connection: &mut PgConnection,
    newcomer: Newcomer<'_>,
) -> Result<Vec<LookedUp>, sqlx::Error> {
    // SERIALIZABLE: if two dispatchers look at the same moment, find nobody and insert themselves, the server lets only
    // one commit. So the look-up and the insert are one step without a lock, and nobody waits.
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
    let standing = match newcomer.standing {
        Standing::BehindAll => 0,
        Standing::BehindLaterThan(dispatcher_id) => dispatcher_id,
        Standing::BeforeAll => i32::MAX,
    };
    // One statement: the row is inserted only if there is no neighbour before which the newcomer has to stand back.
    // jsonb is compared by meaning, not by text.
    let rows = sqlx::query_as!(
        LookedUp,
        r#"
        WITH neighbour AS MATERIALIZED (
            SELECT dispatcher_id, name, version, policy, lease_until,
                   policy IS NOT NULL AND dispatcher_id > $5 AS decides
            FROM postcall.dispatcher
            WHERE stopped_at IS NULL AND lost_at IS NULL AND lease_until > clock_timestamp()
              -- No dispatcher has a longer lease, so a row that says so is none.
              AND lease_until < clock_timestamp() + $7 * interval '1 millisecond'
              AND policy IS DISTINCT FROM $4
        ),
        registered AS (
            INSERT INTO postcall.dispatcher (name, version, lease_until, policy, knows_secrets, knows_signing, knows_sealed_versions)
            SELECT $1, $2, clock_timestamp() + $3 * interval '1 millisecond', $4, true, true, true
            WHERE NOT EXISTS (SELECT FROM neighbour WHERE decides)
            RETURNING dispatcher_id
        )
        SELECT registered.dispatcher_id AS "registered_id?", neighbour.dispatcher_id AS "dispatcher_id?",
               neighbour.name AS "name?", neighbour.version AS "version?", neighbour.policy::text AS "policy?",
               (extract(epoch FROM neighbour.lease_until - clock_timestamp()) * 1000)::float8 AS "lease_left_ms?"
        FROM (VALUES (1)) AS always LEFT JOIN registered ON true
        LEFT JOIN (SELECT * FROM neighbour ORDER BY decides DESC, dispatcher_id DESC LIMIT $6) AS neighbour
            ON registered.dispatcher_id IS NOT NULL OR neighbour.decides
        "#,
        newcomer.name,
        newcomer.version,
        millis(newcomer.lease),
        Json(newcomer.policy) as _,
        standing,
        MOST_NEIGHBOURS,
        millis(LONGEST_LEASE + CLOCKS_APART),
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(rows)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
