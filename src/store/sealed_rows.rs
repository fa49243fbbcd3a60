//! The rows that are sealed, in the order in which they are sealed.

use sqlx::PgConnection;
use uuid::Uuid;

use super::session::Session;
use super::{Store, StoreError};
use crate::domain::seal::Place;

/// A row that is sealed, or is to be sealed.
#[derive(Clone, Debug)]
pub struct SealedRow {
    /// Its place.
    pub place: Place,
    /// Its fields, in Postgres' binary form of a record; [`crate::domain::seal::Kind`] says which.
    pub record: Vec<u8>,
}

/// Rows that are not sealed yet.
#[derive(Debug)]
pub struct Unsealed {
    /// The rows, in order.
    pub rows: Vec<SealedRow>,
    /// The place up to which these are all rows that there are, and that there will ever be.
    pub through: Place,
    /// Whether these are all that can be sealed now.
    pub complete: bool,
    /// Whether the server has counted fewer transactions than the log knows: it counts anew.
    pub counts_anew: bool,
}

struct Found {
    xact: i64,
    kind: i32,
    id: Uuid,
    record: Vec<u8>,
}

/// The rows of all kinds behind one place and up to another, at most `limit` of each.
///
/// - Each kind by its own index, so that the statement reads what it returns, however long history is and whatever its partitions
///   are. A place between kinds is before or behind all rows of a kind that its transaction wrote.
/// - Merged by the caller: a sort in the database would go to disk.
/// - record_send: the fields as one value, which is read several times faster than 28 values. Its fields are those that
///   src/seal/fields.rs names, in that order; new ones are added at the end.
macro_rules! rows_of_all_kinds {
    ($after:expr, $through:expr, $limit:expr) => {
        sqlx::query_as!(
            Found,
            r#"
            (SELECT xact AS "xact!", 1 AS "kind!", delivery_id AS "id!",
                    record_send(ROW(delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version,
                       dispatcher_id, latency_ms, dns_ms, connected_ms, head_ms, request_bytes, response_bytes, response_code,
                       agent, state, error_kind, error_detail, call_sid, method, url, request_sha256, response_sha256,
                       body_end, unresolved, request_head_hmac)) AS "record!"
             FROM postcall.delivery
             WHERE (xact, delivery_id) > ($1::bigint - (1 > $2::int)::int, CASE WHEN $2 = 1 THEN $3::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
               AND (xact, delivery_id) <= ($4::bigint - (1 > $5::int)::int, CASE WHEN $5 = 1 THEN $6::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
             ORDER BY xact, delivery_id LIMIT $7)
            UNION ALL
            (SELECT xact, 2, delivery_id,
                    record_send(ROW(delivery_id, source, state, resolved_by, reason, resolved_at, db_user, method, url, request_bytes,
                       request_sha256, unresolved, error_kind, error_detail, response_code, response_bytes, response_sha256,
                       body_end, latency_ms, dns_ms, connected_ms, head_ms, request_head_hmac))
             FROM postcall.resolution
             WHERE (xact, delivery_id) > ($1::bigint - (2 > $2::int)::int, CASE WHEN $2 = 2 THEN $3::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
               AND (xact, delivery_id) <= ($4::bigint - (2 > $5::int)::int, CASE WHEN $5 = 2 THEN $6::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END) AND source = 'claim'
             ORDER BY xact, delivery_id LIMIT $7)
            UNION ALL
            (SELECT xact, 3, delivery_id,
                    record_send(ROW(delivery_id, source, state, resolved_by, reason, resolved_at, db_user, method, url, request_bytes,
                       request_sha256, unresolved, error_kind, error_detail, response_code, response_bytes, response_sha256,
                       body_end, latency_ms, dns_ms, connected_ms, head_ms, request_head_hmac))
             FROM postcall.resolution
             WHERE (xact, delivery_id) > ($1::bigint - (3 > $2::int)::int, CASE WHEN $2 = 3 THEN $3::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
               AND (xact, delivery_id) <= ($4::bigint - (3 > $5::int)::int, CASE WHEN $5 = 3 THEN $6::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END) AND source IS DISTINCT FROM 'claim'
             ORDER BY xact, delivery_id LIMIT $7)
            UNION ALL
            (SELECT xact, 4, delivery_id,
                    record_send(ROW(delivery_id, replay_of, message_id, replayed_by, reason, created_at, db_user))
             FROM postcall.replay
             WHERE (xact, delivery_id) > ($1::bigint - (4 > $2::int)::int, CASE WHEN $2 = 4 THEN $3::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
               AND (xact, delivery_id) <= ($4::bigint - (4 > $5::int)::int, CASE WHEN $5 = 4 THEN $6::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
             ORDER BY xact, delivery_id LIMIT $7)
            UNION ALL
            (SELECT xact, 5, (lpad(to_hex(action_id), 16, '0') || lpad(to_hex(version), 16, '0'))::uuid,
                    record_send(ROW(action_id, version,
                       (SELECT action.agent FROM postcall.action WHERE action.action_id = action_version.action_id),
                       (SELECT action.name FROM postcall.action WHERE action.action_id = action_version.action_id),
                       method, timeout_ms, published_at, published_by, db_user, reason,
                       postcall.version_digest(action_id, version)))
             FROM postcall.action_version
             WHERE (xact, (lpad(to_hex(action_id), 16, '0') || lpad(to_hex(version), 16, '0'))::uuid) > ($1::bigint - (5 > $2::int)::int, CASE WHEN $2 = 5 THEN $3::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
               AND (xact, (lpad(to_hex(action_id), 16, '0') || lpad(to_hex(version), 16, '0'))::uuid) <= ($4::bigint - (5 > $5::int)::int, CASE WHEN $5 = 5 THEN $6::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
             ORDER BY xact, (lpad(to_hex(action_id), 16, '0') || lpad(to_hex(version), 16, '0'))::uuid LIMIT $7)
            UNION ALL
            (SELECT xact, 6, lpad(to_hex(switch_id), 32, '0')::uuid,
                    record_send(ROW(switch_id, action_id, enabled, switched_at, switched_by, db_user, reason))
             FROM postcall.action_switch
             WHERE (xact, lpad(to_hex(switch_id), 32, '0')::uuid) > ($1::bigint - (6 > $2::int)::int, CASE WHEN $2 = 6 THEN $3::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
               AND (xact, lpad(to_hex(switch_id), 32, '0')::uuid) <= ($4::bigint - (6 > $5::int)::int, CASE WHEN $5 = 6 THEN $6::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
             ORDER BY xact, lpad(to_hex(switch_id), 32, '0')::uuid LIMIT $7)
            UNION ALL
            (SELECT xact, 7, lpad(to_hex(pause_id), 32, '0')::uuid,
                    record_send(ROW(pause_id, agent, action_id, host, reason, paused_by, paused_at, db_user))
             FROM postcall.pause
             WHERE (xact, lpad(to_hex(pause_id), 32, '0')::uuid) > ($1::bigint - (7 > $2::int)::int, CASE WHEN $2 = 7 THEN $3::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
               AND (xact, lpad(to_hex(pause_id), 32, '0')::uuid) <= ($4::bigint - (7 > $5::int)::int, CASE WHEN $5 = 7 THEN $6::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
             ORDER BY xact, lpad(to_hex(pause_id), 32, '0')::uuid LIMIT $7)
            UNION ALL
            (SELECT xact, 8, lpad(to_hex(pause_id), 32, '0')::uuid,
                    record_send(ROW(pause_id, reason, resumed_by, resumed_at, db_user))
             FROM postcall.pause_end
             WHERE (xact, lpad(to_hex(pause_id), 32, '0')::uuid) > ($1::bigint - (8 > $2::int)::int, CASE WHEN $2 = 8 THEN $3::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
               AND (xact, lpad(to_hex(pause_id), 32, '0')::uuid) <= ($4::bigint - (8 > $5::int)::int, CASE WHEN $5 = 8 THEN $6::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
             ORDER BY xact, lpad(to_hex(pause_id), 32, '0')::uuid LIMIT $7)
            UNION ALL
            (SELECT xact, 9, lpad(to_hex(pruning_id), 32, '0')::uuid,
                    record_send(ROW(pruning_id, history_begins, pruned_at, db_user))
             FROM postcall.pruning
             WHERE (xact, lpad(to_hex(pruning_id), 32, '0')::uuid) > ($1::bigint - (9 > $2::int)::int, CASE WHEN $2 = 9 THEN $3::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
               AND (xact, lpad(to_hex(pruning_id), 32, '0')::uuid) <= ($4::bigint - (9 > $5::int)::int, CASE WHEN $5 = 9 THEN $6::uuid ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END)
             ORDER BY xact, lpad(to_hex(pruning_id), 32, '0')::uuid LIMIT $7)
        "#,
            $after.xact,
            i32::from($after.kind),
            $after.id,
            $through.xact,
            i32::from($through.kind),
            $through.id,
            i64::try_from($limit).unwrap_or(i64::MAX)
        )
    };
}

/// The rows behind one place and up to another, in order, at most `limit`.
async fn rows_between(
    connection: &mut PgConnection,
    after: &Place,
    through: &Place,
    limit: usize,
) -> Result<Vec<SealedRow>, sqlx::Error> {
    let found = rows_of_all_kinds!(after, through, limit).fetch_all(connection).await?;
    let placed = |Found { xact, kind, id, record }| {
        let kind = i16::try_from(kind).unwrap_or(i16::MAX);
        SealedRow { place: Place { xact, kind, id }, record }
    };
    let mut rows: Vec<SealedRow> = found.into_iter().map(placed).collect();
    rows.sort_unstable_by_key(|row| row.place);
    rows.truncate(limit);
    Ok(rows)
}

/// Every transaction before the first number has ended, and what it wrote can be seen. The second number is that of the next one.
async fn horizon(connection: &mut PgConnection) -> Result<(i64, i64), sqlx::Error> {
    // The oldest transaction that has not ended, of all databases of the server. Prepared transactions have not ended.
    let row = sqlx::query!(
        r#"
        SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + ahead AS "horizon!",
               pg_snapshot_xmax(pg_current_snapshot())::text::bigint + ahead AS "next!"
        FROM postcall.seal_turn
        "#
    )
    .fetch_one(connection)
    .await?;
    Ok((row.horizon, row.next))
}

/// As the first number of [`horizon`], of the transactions of this database alone: one of another database writes nothing here.
async fn horizon_of_this_database(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    // The snapshot is older than what is read of locks and sessions. So a transaction that has ended meanwhile has no lock any more, and counts as
    // one of this database. Every running transaction holds the lock of its own number; a prepared one has no session.
    sqlx::query_scalar!(
        r#"
        WITH elsewhere AS MATERIALIZED (
            SELECT held.transactionid AS xact
            FROM pg_locks AS held JOIN pg_stat_activity AS session ON session.pid = held.pid
            WHERE held.locktype = 'transactionid' AND held.mode = 'ExclusiveLock' AND held.granted
              AND session.datid <> (SELECT oid FROM pg_database WHERE datname = current_database())
            UNION ALL
            SELECT transaction FROM pg_prepared_xacts WHERE database <> current_database()
        )
        SELECT coalesce((SELECT min(running.xact::text::bigint)
                         FROM pg_snapshot_xip(pg_current_snapshot()) AS running (xact)
                         WHERE NOT EXISTS (SELECT FROM elsewhere WHERE elsewhere.xact = running.xact::xid)),
                        pg_snapshot_xmax(pg_current_snapshot())::text::bigint) + ahead AS "horizon!"
        FROM postcall.seal_turn
        "#
    )
    .fetch_one(connection)
    .await
}

impl Session {
    /// Returns the rows behind `after` that can be sealed: those of transactions before the oldest one of this database that has not ended. At
    /// most `limit`.
    pub async fn unsealed(&mut self, after: &Place, limit: usize) -> Result<Unsealed, StoreError> {
        let mut connection = self.take().await?;
        // The horizon comes first: what was committed before it can be seen by every later statement.
        let found = self
            .within(async {
                let (oldest, next) = horizon(&mut connection).await?;
                let mut through = Place::before(oldest);
                let mut rows = rows_between(&mut connection, after, &through, limit).await?;
                // Whose transactions run is looked up only if some keep all rows from being sealed.
                if rows.is_empty() && oldest != next {
                    through = Place::before(horizon_of_this_database(&mut connection).await?);
                    rows = rows_between(&mut connection, after, &through, limit).await?;
                }
                Ok((rows, through, next <= after.xact))
            })
            .await;
        let (rows, horizon, counts_anew) = self.keep(connection, found)?;
        let complete = rows.len() < limit;
        let through = rows.last().filter(|_| !complete).map_or(horizon, |last| last.place);
        Ok(Unsealed { rows, through, complete, counts_anew })
    }
}

impl Store {
    /// Rows without the number of a transaction, or with the one number that lies before [`Place::FIRST`]: at most `limit` of each
    /// table. No program writes them; the owner can, and no range of places has them.
    pub async fn rows_of_no_transaction(&self, limit: usize) -> Result<Vec<Place>, StoreError> {
        // Two entries of each index by transaction, if there are no such rows.
        let found = sqlx::query!(
            r#"
            (SELECT 1 AS "kind!", delivery_id AS "id!" FROM postcall.delivery
             WHERE xact IS NULL OR xact = -9223372036854775808 LIMIT $1)
            UNION ALL
            (SELECT CASE source WHEN 'claim' THEN 2 ELSE 3 END, delivery_id FROM postcall.resolution
             WHERE xact IS NULL OR xact = -9223372036854775808 LIMIT $1)
            UNION ALL
            (SELECT 4, delivery_id FROM postcall.replay WHERE xact IS NULL OR xact = -9223372036854775808 LIMIT $1)
            UNION ALL
            (SELECT 5, (lpad(to_hex(action_id), 16, '0') || lpad(to_hex(version), 16, '0'))::uuid FROM postcall.action_version
             WHERE xact IS NULL OR xact = -9223372036854775808 LIMIT $1)
            UNION ALL
            (SELECT 6, lpad(to_hex(switch_id), 32, '0')::uuid FROM postcall.action_switch
             WHERE xact IS NULL OR xact = -9223372036854775808 LIMIT $1)
            UNION ALL
            (SELECT 7, lpad(to_hex(pause_id), 32, '0')::uuid FROM postcall.pause
             WHERE xact IS NULL OR xact = -9223372036854775808 LIMIT $1)
            UNION ALL
            (SELECT 8, lpad(to_hex(pause_id), 32, '0')::uuid FROM postcall.pause_end
             WHERE xact IS NULL OR xact = -9223372036854775808 LIMIT $1)
            UNION ALL
            (SELECT 9, lpad(to_hex(pruning_id), 32, '0')::uuid FROM postcall.pruning
             WHERE xact IS NULL OR xact = -9223372036854775808 LIMIT $1)
            "#,
            i64::try_from(limit).unwrap_or(i64::MAX)
        )
        .fetch_all(&self.pool)
        .await?;
        let place = |kind: i32, id| Place { xact: i64::MIN, kind: i16::try_from(kind).unwrap_or(i16::MAX), id };
        Ok(found.into_iter().map(|row| place(row.kind, row.id)).collect())
    }

    /// The rows behind one place and up to another, in order, at most `limit`.
    pub async fn sealed_rows(
        &self,
        after: &Place,
        through: &Place,
        limit: usize,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(rows_between(&mut connection, after, through, limit).await?)
    }
}
