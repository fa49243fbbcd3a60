//! Which dispatchers run, and their leases. All times are the database's.

use std::time::Duration;

use sqlx::types::Json;
use sqlx::{Connection, PgConnection};

use super::StoreError;
use super::session::Session;
use crate::domain::policy::Policy;

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

/// A dispatcher that wants to start.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// Host name and process id, for people.
    pub name: &'a str,
    /// The program's version.
    pub version: &'a str,
    /// How long it counts as alive without being heard of.
    pub lease: Duration,
    /// What it may call.
    pub policy: &'a Policy,
    /// Before whose policy it stands back.
    pub standing: Standing,
}

/// Before whose policy a newcomer with another one stands back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Before that of every living dispatcher.
    BehindAll,
    /// Before that of living dispatchers that registered after this id, which the newcomer had before it was lost.
    BehindLaterThan(i32),
    /// Before none: the policy is being changed on purpose.
    BeforeAll,
}

/// A living dispatcher whose policy is another one, or is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its id.
    pub dispatcher_id: i32,
    /// Host name and process id.
    pub name: String,
    /// Its program's version.
    pub version: String,
    /// What it may call; `None` if its release did not say.
    pub policy: Option<Policy>,
    /// How long it counts as alive if it is not heard of any more.
    pub lease_left: Duration,
}

/// What registering came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registering {
    /// It is registered.
    Registered {
        /// Its id, new every time.
        dispatcher_id: i32,
        /// Others that live and judge differently, or by rules that are not known; no more than [`MOST_NEIGHBOURS`].
        others: Vec<Neighbour>,
    },
    /// It stands back before the policy of these; no more than [`MOST_NEIGHBOURS`] are named.
    StandsBack(Vec<Neighbour>),
}

/// How many other dispatchers are named at most.
pub const MOST_NEIGHBOURS: i64 = 8;

/// How often a registration is tried again because others registered at the same moment.
const MOST_TRIES: u32 = 100;
/// The longest pause before such a try.
const LONGEST_PAUSE_MS: u64 = 20;

impl Session {
    /// Registers a dispatcher that starts now, unless it has to stand back before others' policy.
    ///
    /// Of two that start at the same moment with different policies, one registers.
    pub async fn register(&mut self, newcomer: Newcomer<'_>) -> Result<Registering, StoreError> {
        let mut tries = 1;
        loop {
            match self.register_once(newcomer).await {
                // Somebody else registered in between, so there is progress.
                Err(error) if error.is_serialization_failure() && tries < MOST_TRIES => tries += 1,
                result => return result,
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=LONGEST_PAUSE_MS))).await;
        }
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
    /// Only those of the database; the lease may or may not have been renewed.
    pub async fn renew(&mut self, dispatcher_id: i32, lease: Duration) -> Result<Renewal, StoreError> {
        // lost_at decides, and not the time: a lease that is over may be renewed as long as nobody has drawn
        // consequences. The row lock puts renewal and declaration in an order.
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

    /// Notes that a dispatcher stopped in good order. Whatever it left in `sending` is given up from now on.
    pub async fn retire(&mut self, dispatcher_id: i32) -> Result<(), StoreError> {
        let statement = sqlx::query!(
            "UPDATE postcall.dispatcher SET stopped_at = clock_timestamp() WHERE dispatcher_id = $1 AND lost_at IS NULL",
            dispatcher_id
        );
        self.execute(statement).await?;
        Ok(())
    }
}

/// How much longer than the longest lease one may look while two statements run.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// What [`insert_dispatcher`] finds: one row per neighbour, or one row without any.
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
            // One that cannot be read counts as one that was not said.
            policy: self.policy.and_then(|policy| serde_json::from_str(&policy).ok()),
            lease_left: Duration::from_secs_f64((self.lease_left_ms? / 1_000.0).max(0.0)),
        })
    }
}

async fn insert_dispatcher(
    connection: &mut PgConnection,
    newcomer: Newcomer<'_>,
) -> Result<Vec<LookedUp>, sqlx::Error> {
    // SERIALIZABLE: of two that look at the same moment, find nobody, and insert themselves, the server lets one commit. So
    // the look and the insert are one step without a lock that anybody could hold, and nobody waits.
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
    let standing = match newcomer.standing {
        Standing::BehindAll => 0,
        Standing::BehindLaterThan(dispatcher_id) => dispatcher_id,
        Standing::BeforeAll => i32::MAX,
    };
    // One statement: whoever must be stood back before keeps the row from being inserted. jsonb is compared by its meaning.
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
            INSERT INTO postcall.dispatcher (name, version, lease_until, policy)
            SELECT $1, $2, clock_timestamp() + $3 * interval '1 millisecond', $4
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
