//! The log of sealed history: slices of leaves, and the nodes from which proofs are made.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::session::Session;
use super::{Store, StoreError};
use crate::domain::seal::Place;

/// The end of the log: its newest slice without its leaves.
#[derive(Clone, Debug)]
pub struct LogEnd {
    /// How many leaves the log has.
    pub size: i64,
    /// The place up to which it holds every row.
    pub through: Place,
    /// The roots of the largest complete subtrees.
    pub frontier: Vec<u8>,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// When it was sealed.
    pub sealed_at: DateTime<Utc>,
}

/// A checkpoint of the log, as it stands there: nobody has looked whether it is signed.
#[derive(Clone, Debug)]
pub struct LoggedCheckpoint {
    /// How many leaves the log had.
    pub size: i64,
    /// The signed note.
    pub note: String,
}

/// A slice to be added to the log.
#[derive(Debug)]
pub struct NewSlice {
    /// The number of its first leaf: how many leaves the log has without it.
    pub first_leaf: i64,
    /// How many leaves the log has with it.
    pub size: i64,
    /// The place up to which the log then holds every row.
    pub through: Place,
    /// The kind of each leaf's row.
    pub kinds: Vec<u8>,
    /// The id of each leaf's row.
    pub ids: Vec<u8>,
    /// The hashes.
    pub hashes: Vec<u8>,
    /// The roots of the largest complete subtrees.
    pub frontier: Vec<u8>,
    /// The root.
    pub root: Vec<u8>,
    /// The signed checkpoint.
    pub checkpoint: String,
    /// How many fields a delivery has in this release.
    pub leaf_fields: i16,
    /// The nodes that it completes, of the levels that are kept: level, position and hash.
    pub nodes: Vec<(i16, i64, Vec<u8>)>,
}

/// The result of adding a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in the log, since this time.
    Sealed(DateTime<Utc>),
    /// Somebody else has added a slice in its place.
    Overtaken,
}

impl Session {
    /// Takes the turn to seal, or keeps it, for `lease` from now. Says whether it is the turn of `sealer`.
    pub async fn take_turn_to_seal(&mut self, sealer: Uuid, lease: Duration) -> Result<bool, StoreError> {
        // By the database's clock. It saves work only: that a leaf is sealed once is held by the log itself. Nobody takes the turn for
        // longer than that: whoever writes that it is his until the end of time keeps nothing from being sealed.
        let statement = sqlx::query!(
            r#"
            UPDATE postcall.seal_turn SET held_by = $1, held_until = clock_timestamp() + make_interval(secs => $2)
            WHERE held_by = $1 OR held_until IS NULL OR held_until < clock_timestamp()
               OR held_until > clock_timestamp() + make_interval(secs => $2)
            "#,
            sealer,
            lease.as_secs_f64(),
        );
        Ok(self.execute(statement).await?.rows_affected() == 1)
    }

    /// Gives the turn back, so that another need not wait for the end of the lease.
    pub async fn leave_turn_to_seal(&mut self, sealer: Uuid) -> Result<(), StoreError> {
        // Only one's own: whoever holds it by now keeps it.
        let statement =
            sqlx::query!("UPDATE postcall.seal_turn SET held_until = clock_timestamp() WHERE held_by = $1", sealer);
        self.execute(statement).await.map(drop)
    }

    /// The end of the log; `None` if nothing was sealed yet.
    pub async fn log_end(&mut self) -> Result<Option<LogEnd>, StoreError> {
        // The newest slice, by the primary key; not its leaves, which lie elsewhere.
        let statement = sqlx::query!(
            r#"
            SELECT size, through_xact, through_kind, through_id, frontier, checkpoint, sealed_at
            FROM postcall.seal_slice ORDER BY size DESC LIMIT 1
            "#
        );
        let end = self.fetch_optional(statement).await?;
        Ok(end.map(|end| LogEnd {
            size: end.size,
            through: Place { xact: end.through_xact, kind: end.through_kind, id: end.through_id },
            frontier: end.frontier,
            checkpoint: end.checkpoint,
            sealed_at: end.sealed_at,
        }))
    }

    /// The root that the log had at this size; `None` if no slice ended there.
    pub async fn log_root(&mut self, size: i64) -> Result<Option<Vec<u8>>, StoreError> {
        // By the primary key.
        let statement = sqlx::query_scalar!("SELECT root FROM postcall.seal_slice WHERE size = $1", size);
        self.fetch_optional(statement).await
    }

    /// The checkpoints behind this size of the log, in order, at most `limit`.
    pub async fn checkpoints_after(&mut self, size: i64, limit: i64) -> Result<Vec<LoggedCheckpoint>, StoreError> {
        // A page by the primary key. The leaves, which lie elsewhere, are not read.
        let statement = sqlx::query_as!(
            LoggedCheckpoint,
            "SELECT size, checkpoint AS note FROM postcall.seal_slice WHERE size > $1 ORDER BY size LIMIT $2",
            size,
            limit
        );
        self.fetch_all(statement).await
    }

    /// How many leaves the log had at the newest checkpoint that was exported to a URL, as the last sealer noted it; `None` if none was.
    pub async fn exported_size(&mut self) -> Result<Option<i64>, StoreError> {
        // One row.
        self.fetch_one(sqlx::query_scalar!("SELECT exported_size FROM postcall.seal_turn")).await
    }

    /// Notes that the checkpoints up to this size were exported to a URL.
    pub async fn note_exported(&mut self, sealer: Uuid, size: i64) -> Result<(), StoreError> {
        // Only by the one whose turn it is: one that was slow says nothing of what another one has exported meanwhile. Smaller than what
        // stands there it may be: the log of a restored backup begins anew at an earlier size.
        let statement =
            sqlx::query!("UPDATE postcall.seal_turn SET exported_size = $2 WHERE held_by = $1", sealer, size);
        self.execute(statement).await.map(drop)
    }

    /// Of the slices that a key signed, the sizes of the log with the first and with the last of them; `None` if there is none. `mark` is how
    /// the signatures of that key begin (the room `seal` makes it). The signatures themselves are not looked at.
    pub async fn signed_with(&mut self, mark: &str) -> Result<Option<(i64, i64)>, StoreError> {
        // Two entries of an index of its own, which has this expression.
        let statement = sqlx::query!(
            r#"
            SELECT min(size) AS first, max(size) AS last FROM postcall.seal_slice
            WHERE substring(split_part(checkpoint, E'\n\n', 2) FROM '^\S+ (\S+ \S{5})') = $1
            "#,
            mark
        );
        let row = self.fetch_one(statement).await?;
        Ok(row.first.zip(row.last))
    }

    /// Adds a slice to the log, with the nodes that it completes. If somebody else has added one in its place, nothing is added.
    pub async fn add_slice(&mut self, slice: &NewSlice) -> Result<Added, StoreError> {
        let levels: Vec<i16> = slice.nodes.iter().map(|(level, ..)| *level).collect();
        let positions: Vec<i64> = slice.nodes.iter().map(|(_, position, _)| *position).collect();
        let hashes: Vec<Vec<u8>> = slice.nodes.iter().map(|(.., hash)| hash.clone()).collect();
        // One statement, so that the slice and its nodes are there together. Two who add at the same time have the same first leaf:
        // the second waits for the first, and then adds nothing.
        let statement = sqlx::query_scalar!(
            r#"
            WITH slice AS (
                INSERT INTO postcall.seal_slice
                    (size, first_leaf, through_xact, through_kind, through_id, kinds, ids, hashes, frontier, root, checkpoint,
                     leaf_fields)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                ON CONFLICT DO NOTHING
                RETURNING sealed_at
            ), node AS (
                INSERT INTO postcall.seal_node (level, position, hash)
                SELECT level, position, hash
                FROM slice, unnest($13::smallint[], $14::bigint[], $15::bytea[]) AS completed (level, position, hash)
            )
            SELECT sealed_at FROM slice
            "#,
            slice.size,
            slice.first_leaf,
            slice.through.xact,
            slice.through.kind,
            slice.through.id,
            slice.kinds,
            slice.ids,
            slice.hashes,
            slice.frontier,
            slice.root,
            slice.checkpoint,
            slice.leaf_fields,
            &levels,
            &positions,
            &hashes,
        );
        Ok(self.fetch_optional(statement).await?.map_or(Added::Overtaken, Added::Sealed))
    }
}

impl Store {
    /// Whether this user may add to the log.
    pub async fn may_seal(&self) -> Result<bool, StoreError> {
        // Asks the catalog. The columns are granted together.
        let may =
            sqlx::query_scalar!(r#"SELECT has_column_privilege('postcall.seal_slice', 'root', 'INSERT') AS "may!""#)
                .fetch_one(&self.pool)
                .await?;
        Ok(may)
    }
}
