//! Reads the log of sealed history, for those who verify it and make proofs of it.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::seal::{Kind, Place};

/// A slice of the log, without its leaves.
#[derive(Clone, Debug)]
pub struct Slice {
    /// How many leaves the log has with it.
    pub size: i64,
    /// The number of its first leaf.
    pub first_leaf: i64,
    /// The place up to which the log then holds every row.
    pub through: Place,
    /// The root of all leaves up to its end.
    pub root: Vec<u8>,
    /// The roots of the largest complete subtrees.
    pub frontier: Vec<u8>,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// When it was sealed.
    pub sealed_at: DateTime<Utc>,
}

/// The leaves of one or several slices, in order.
#[derive(Clone, Debug, Default)]
pub struct Leaves {
    /// The kind of each row, a byte each.
    pub kinds: Vec<u8>,
    /// The id of each row, 16 bytes each.
    pub ids: Vec<u8>,
    /// The hashes, 32 bytes each.
    pub hashes: Vec<u8>,
}

/// How far history is sealed.
#[derive(Clone, Debug)]
pub struct SealState {
    /// When the newest slice was sealed; `None` if nothing ever was.
    pub sealed_at: Option<DateTime<Utc>>,
    /// How long ago the oldest delivery ended that is not sealed.
    pub oldest_unsealed: Option<TimeDelta>,
    /// How long ago the oldest checkpoint was made that was not exported to a URL; `None` if all were, or none ever was.
    pub oldest_unexported: Option<TimeDelta>,
}

impl Store {
    /// How far history is sealed.
    pub async fn sealing(&self) -> Result<SealState, StoreError> {
        // The newest slice by its key, the first delivery behind its place by the index of transactions, and the first slice behind what
        // was exported by its key.
        let row = sqlx::query!(
            r#"
            SELECT newest.sealed_at AS "sealed_at?",
                   extract(epoch FROM clock_timestamp() - (
                       SELECT finished_at FROM postcall.delivery
                       WHERE (xact, delivery_id) > (newest.through_xact, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
                       ORDER BY xact, delivery_id LIMIT 1))::float8 AS age,
                   extract(epoch FROM clock_timestamp() - (
                       SELECT sealed_at FROM postcall.seal_slice
                       WHERE size > (SELECT exported_size FROM postcall.seal_turn) ORDER BY size LIMIT 1))::float8 AS unexported
            FROM (SELECT 1) AS one
            LEFT JOIN (SELECT sealed_at, through_xact FROM postcall.seal_slice ORDER BY size DESC LIMIT 1) AS newest ON true
            "#
        )
        .fetch_one(&self.pool)
        .await?;
        let [oldest_unsealed, oldest_unexported] =
            [row.age, row.unexported].map(|age| age.map(|seconds| TimeDelta::seconds(seconds as i64)));
        Ok(SealState { sealed_at: row.sealed_at, oldest_unsealed, oldest_unexported })
    }

    /// The slices behind this size of the log, in order, at most `limit`.
    pub async fn slices_after(&self, size: i64, limit: i64) -> Result<Vec<Slice>, StoreError> {
        // A page by the primary key. The leaves, which lie elsewhere, are not read.
        let slices = sqlx::query!(
            r#"
            SELECT size, first_leaf, through_xact, through_kind, through_id, root, frontier, checkpoint, sealed_at
            FROM postcall.seal_slice WHERE size > $1 ORDER BY size LIMIT $2
            "#,
            size,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        let slices = slices.into_iter().map(|row| Slice {
            size: row.size,
            first_leaf: row.first_leaf,
            through: Place { xact: row.through_xact, kind: row.through_kind, id: row.through_id },
            root: row.root,
            frontier: row.frontier,
            checkpoint: row.checkpoint,
            sealed_at: row.sealed_at,
        });
        Ok(slices.collect())
    }

    /// The newest slice.
    pub async fn newest_slice(&self) -> Result<Option<Slice>, StoreError> {
        // The last entry of the primary key.
        let newest = sqlx::query_scalar!(r#"SELECT max(size) FROM postcall.seal_slice"#).fetch_one(&self.pool).await?;
        match newest {
            Some(size) => Ok(self.slices_after(size - 1, 1).await?.into_iter().next()),
            None => Ok(None),
        }
    }

    /// The slice that holds the leaf of a row at this place, if the row is sealed.
    pub async fn slice_of(&self, place: &Place) -> Result<Option<Slice>, StoreError> {
        // The first slice that ends there or behind it, by the index of places.
        let size = sqlx::query_scalar!(
            r#"
            SELECT size FROM postcall.seal_slice WHERE (through_xact, through_kind, through_id) >= ($1, $2, $3)
            ORDER BY through_xact, through_kind, through_id LIMIT 1
            "#,
            place.xact,
            place.kind,
            place.id
        )
        .fetch_optional(&self.pool)
        .await?;
        match size {
            Some(size) => Ok(self.slices_after(size - 1, 1).await?.into_iter().next()),
            None => Ok(None),
        }
    }

    /// The leaves of the slices that end behind the size `from` of the log, up to the one that ends at `to` or behind it.
    pub async fn leaves(&self, from: i64, to: i64) -> Result<Leaves, StoreError> {
        // By the primary key, bounded at both ends: no slice has more leaves than that. Whoever calls it bounds the range.
        let slices = sqlx::query!(
            r#"
            SELECT kinds, ids, hashes FROM postcall.seal_slice
            WHERE size > $1 AND size <= $2::bigint + 65536 AND first_leaf < $2 ORDER BY size
            "#,
            from,
            to
        )
        .fetch_all(&self.pool)
        .await?;
        let mut leaves = Leaves::default();
        for slice in slices {
            leaves.kinds.extend(slice.kinds);
            leaves.ids.extend(slice.ids);
            leaves.hashes.extend(slice.hashes);
        }
        Ok(leaves)
    }

    /// The number of the first leaf of the slice that holds this leaf.
    pub async fn first_leaf_around(&self, leaf: i64) -> Result<Option<i64>, StoreError> {
        // By the primary key.
        let first = sqlx::query_scalar!(
            "SELECT first_leaf FROM postcall.seal_slice WHERE size > $1 ORDER BY size LIMIT 1",
            leaf
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(first)
    }

    /// Nodes of one level, from one position up to another, with their positions.
    pub async fn seal_nodes(&self, level: i16, from: i64, to: i64) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        // By the primary key.
        let nodes = sqlx::query!(
            "SELECT position, hash FROM postcall.seal_node WHERE level = $1 AND position >= $2 AND position < $3",
            level,
            from,
            to
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(nodes.into_iter().map(|node| (node.position, node.hash)).collect())
    }

    /// The roots that the log had at these sizes, with the sizes. Where no slice ended, there is none.
    pub async fn roots_at(&self, sizes: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        // By the primary key.
        let roots = sqlx::query!("SELECT size, root FROM postcall.seal_slice WHERE size = ANY ($1)", sizes)
            .fetch_all(&self.pool)
            .await?;
        Ok(roots.into_iter().map(|row| (row.size, row.root)).collect())
    }

    /// History from before this time was removed because it was old, as far as that is recorded.
    pub async fn pruned_until(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        // A row for each time that history was removed: at most some a day. The owner may have written one that is no time.
        let until = sqlx::query_scalar!("SELECT max(least(history_begins, '10000-01-01Z')) FROM postcall.pruning")
            .fetch_one(&self.pool)
            .await?;
        Ok(until)
    }

    /// Whether a delivery from before this time, by its id, is in history.
    pub async fn has_deliveries_before(&self, time: DateTime<Utc>) -> Result<bool, StoreError> {
        // The first entry of the primary key of each partition that is that old.
        let has = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM postcall.delivery WHERE delivery_id < postcall.uuid_v7_floor($1)) AS "has!""#,
            time
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(has)
    }

    /// The number of the next transaction, as rows have it, and the time.
    pub async fn next_transaction(&self) -> Result<(i64, DateTime<Utc>), StoreError> {
        let row = sqlx::query!(
            r#"
            SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint + ahead AS "next!", clock_timestamp() AS "now!"
            FROM postcall.seal_turn
            "#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok((row.next, row.now))
    }

    /// The place of a delivery that has ended.
    pub async fn place_of_delivery(&self, delivery_id: Uuid) -> Result<Option<Place>, StoreError> {
        // By the primary key.
        let xact = sqlx::query_scalar!("SELECT xact FROM postcall.delivery WHERE delivery_id = $1", delivery_id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(xact.map(|xact| Place { xact, kind: Kind::Delivery.number().into(), id: delivery_id }))
    }
}
