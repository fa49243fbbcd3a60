//! Figures of the whole installation for metrics: each method is one short statement, and none costs more when more
//! waits or when history is longer. Counting stops at a limit, as in [`super::status`].

use sqlx::PgConnection;

use super::StoreError;
use super::held_back::oldest_unpaused;
use super::invariants::{Checked, Invariant, stuck, unguarded};
use super::partitions::{Headroom, headroom};
use super::session::Session;
use super::status::{Count, MOST_COUNTED, in_doubt, oldest_waiting, queue};

/// The largest number of rows of a default partition that are counted.
pub const MOST_COUNTED_DEFAULT_ROWS: i64 = 10_000;

/// How many dispatchers there are. Those that ended are counted for an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatcherCounts {
    /// Their lease is valid.
    pub alive: i64,
    /// Their lease is over, and no other dispatcher has declared them lost yet.
    pub overdue: i64,
    /// They stopped in an orderly way within the last hour.
    pub stopped: i64,
    /// They were declared lost within the last hour.
    pub lost: i64,
}

/// What waits and what is in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueFigures {
    /// How many deliveries wait.
    pub waiting: Count,
    /// The age of the oldest delivery that waits, in seconds; `None` if nothing waits.
    pub oldest_waiting: Option<f64>,
    /// The time since the oldest delivery in flight was claimed, in seconds; `None` if nothing is in flight.
    pub oldest_sending: Option<f64>,
    /// How many pauses are active.
    pub active_pauses: i64,
    /// How many of them hold a host.
    pub paused_hosts: i64,
}

/// The partitions of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionFigures {
    /// `outbox` or `delivery`.
    pub table: String,
    /// For how many seconds from now on each new row has a partition. Three periods ahead are looked at.
    pub headroom: f64,
    /// Rows in the default partition.
    pub default_rows: Count,
}

impl Session {
    /// Counts the dispatchers.
    pub async fn dispatcher_counts(&mut self) -> Result<DispatcherCounts, StoreError> {
        // The table has one row for every start there ever was. It is read completely, as a registration does.
        let statement = sqlx::query_as!(
            DispatcherCounts,
            r#"
            SELECT count(*) FILTER (WHERE ended_at IS NULL AND lease_until > clock_timestamp()) AS "alive!",
                   count(*) FILTER (WHERE ended_at IS NULL AND lease_until <= clock_timestamp()) AS "overdue!",
                   count(*) FILTER (WHERE stopped_at > clock_timestamp() - interval '1 hour') AS "stopped!",
                   count(*) FILTER (WHERE lost_at > clock_timestamp() - interval '1 hour') AS "lost!"
            FROM (SELECT lease_until, stopped_at, lost_at, coalesce(stopped_at, lost_at) AS ended_at
                  FROM postcall.dispatcher) AS dispatcher
            "#
        );
        self.fetch_one(statement).await
    }

    /// Counts what waits, and tells how old the oldest deliveries are.
    pub async fn queue_figures(&mut self) -> Result<QueueFigures, StoreError> {
        let mut connection = self.take().await?;
        let read = self.within(read_queue(&mut connection)).await;
        self.keep(connection, read)
    }

    /// The age of the oldest delivery that waits and that no pause holds back, in seconds; `None` if there is none.
    pub async fn oldest_unpaused(&mut self) -> Result<Option<f64>, StoreError> {
        let pauses = self.active_pauses().await?;
        let mut connection = self.take().await?;
        let read = self.within(oldest_unpaused(&mut connection, pauses)).await;
        self.keep(connection, read)
    }

    /// Counts the deliveries that are unknown and not resolved, among the newest that were recorded as unknown.
    pub async fn unknown_unresolved(&mut self) -> Result<Count, StoreError> {
        let mut connection = self.take().await?;
        let read = self.within(in_doubt(&mut connection)).await;
        self.keep(connection, read)
    }

    /// Tells for how long there are partitions, and how many rows had none.
    pub async fn partition_figures(&mut self) -> Result<Vec<PartitionFigures>, StoreError> {
        let mut connection = self.take().await?;
        let read = self.within(read_partitions(&mut connection)).await;
        self.keep(connection, read)
    }

    /// How old the oldest row of history is that is not sealed, in seconds; 0 if all are sealed. `None` if history is not sealed: nothing
    /// ever was, and this dispatcher does not do it (`seals`).
    pub async fn oldest_unsealed(&mut self, seals: bool) -> Result<Option<f64>, StoreError> {
        // The newest slice by its key, and of each table the first row behind it by the index of transactions. Removed history
        // (postcall.pruning), which a dispatcher may not read, is left out.
        let statement = sqlx::query_scalar!(
            r#"
            SELECT CASE WHEN sealed IS NOT NULL THEN greatest(0, coalesce(date_part('epoch', clock_timestamp() - least(
                       (SELECT finished_at FROM postcall.delivery WHERE xact > sealed ORDER BY xact LIMIT 1),
                       (SELECT resolved_at FROM postcall.resolution WHERE xact > sealed ORDER BY xact LIMIT 1),
                       (SELECT created_at FROM postcall.replay WHERE xact > sealed ORDER BY xact LIMIT 1),
                       (SELECT published_at FROM postcall.action_version WHERE xact > sealed ORDER BY xact LIMIT 1),
                       (SELECT switched_at FROM postcall.action_switch WHERE xact > sealed ORDER BY xact LIMIT 1),
                       (SELECT paused_at FROM postcall.pause WHERE xact > sealed ORDER BY xact LIMIT 1),
                       (SELECT resumed_at FROM postcall.pause_end WHERE xact > sealed ORDER BY xact LIMIT 1))), 0)) END AS age
            FROM (SELECT coalesce((SELECT through_xact FROM postcall.seal_slice ORDER BY size DESC LIMIT 1),
                                  CASE WHEN $1 THEN -1::bigint END) AS sealed) AS log
            "#,
            seals
        );
        self.fetch_one(statement).await
    }

    /// Counts the violations of the invariants that can be checked at any time: that nothing is stuck (it reads
    /// `sending`, which is small), and that all guards are on (it reads the catalog). The others need whole tables.
    pub async fn cheap_violations(&mut self) -> Result<Vec<(Invariant, i64)>, StoreError> {
        let mut connection = self.take().await?;
        let read = self.within(check_cheap(&mut connection)).await;
        self.keep(connection, read)
    }
}

async fn read_queue(connection: &mut PgConnection) -> Result<QueueFigures, sqlx::Error> {
    let counted = queue(connection).await?;
    let oldest = oldest_waiting(connection).await?;
    // `sending` holds no more than all dispatchers have in flight.
    let oldest_sending = sqlx::query_scalar!(
        "SELECT greatest(0, date_part('epoch', clock_timestamp() - min(claimed_at))) FROM postcall.sending \
         HAVING min(claimed_at) IS NOT NULL"
    )
    .fetch_optional(connection)
    .await?;
    Ok(QueueFigures {
        waiting: Count::up_to(MOST_COUNTED, counted.waiting),
        oldest_waiting: oldest.map(|oldest| oldest.age_ms as f64 / 1_000.0),
        oldest_sending: oldest_sending.flatten(),
        active_pauses: counted.active_pauses,
        paused_hosts: counted.paused_hosts,
    })
}

async fn read_partitions(connection: &mut PgConnection) -> Result<Vec<PartitionFigures>, sqlx::Error> {
    // Reads of each default partition no more rows than are counted.
    let rows = sqlx::query!(
        r#"
        SELECT (SELECT count(*) FROM (SELECT FROM postcall.outbox_default LIMIT $1) AS counted) AS "outbox!",
               (SELECT count(*) FROM (SELECT FROM postcall.delivery_default LIMIT $1) AS counted) AS "delivery!"
        "#,
        MOST_COUNTED_DEFAULT_ROWS + 1,
    )
    .fetch_one(&mut *connection)
    .await?;
    let figures = headroom(connection).await?.into_iter().map(|Headroom { table, seconds, .. }| {
        let rows = if table == "outbox" { rows.outbox } else { rows.delivery };
        PartitionFigures { table, headroom: seconds, default_rows: Count::up_to(MOST_COUNTED_DEFAULT_ROWS, rows) }
    });
    Ok(figures.collect())
}

async fn check_cheap(connection: &mut PgConnection) -> Result<Vec<(Invariant, i64)>, sqlx::Error> {
    let stuck = Checked::from(Invariant::NoneStuck, stuck(connection).await?);
    let unguarded = Checked::from(Invariant::GuardsOn, unguarded(connection).await?);
    Ok([stuck, unguarded].map(|checked| (checked.invariant, checked.violations)).to_vec())
}
