//! Which lanes have work. A lane is what waits for one action.
//!
//! Rows that were claimed stay in the queue's indexes until vacuum clears them away, and while somebody holds a snapshot it
//! cannot. No look here reads the remains of a lane whose cursor it is told, except the one that looks for what lies behind
//! the cursors.

use uuid::Uuid;

use super::StoreError;
use super::session::Session;

/// Deliveries of an agent that are looked at for the last one of an action.
const LATE_DELIVERIES: i64 = 10;

/// A lane in which something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSeen {
    /// The action.
    pub action_id: i64,
    /// Its newest version; 0 if there is no such action.
    pub version: i32,
    /// Whether it is enabled.
    pub enabled: bool,
}

/// What has arrived lately.
#[derive(Clone, Debug)]
pub struct Arrivals {
    /// The lanes, each once.
    pub lanes: Vec<LaneSeen>,
    /// Deliveries that were looked at.
    pub looked_at: usize,
    /// The newest of them.
    pub newest: Option<Uuid>,
    /// The least id of a delivery that was made within the margin before this look, by the database's clock.
    pub floor: Uuid,
}

/// Up to where a lane's deliveries have been claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneCursor {
    /// The action.
    pub action_id: i64,
    /// The last id.
    pub after: Uuid,
}

/// What a look at a lane with a cursor has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneChecked {
    /// The lane.
    pub lane: LaneSeen,
    /// The oldest delivery that waits at or before the cursor, if any does.
    pub behind: Option<Uuid>,
}

/// What is to be known of a lane before its deliveries are claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneAbout {
    /// The lane.
    pub lane: LaneSeen,
    /// The agent that the action belongs to.
    pub agent: String,
    /// The beginning of its URL template: enough for a scheme, a host and a port.
    pub url: String,
    /// Whether its last delivery was answered; `None` if history has none of late, or it says nothing about that.
    pub answered: Option<bool>,
}

impl Session {
    /// Looks at what was inserted after the delivery `after`, `limit` deliveries at most. `margin_ms` is for
    /// [`Arrivals::floor`].
    pub async fn arrivals(&mut self, after: Uuid, limit: usize, margin_ms: u32) -> Result<Arrivals, StoreError> {
        // By the primary key, which is the order of insertion: its cost follows what has arrived, whatever else waits.
        let statement = sqlx::query!(
            r#"
            WITH newest AS MATERIALIZED (
                SELECT delivery_id, action_id FROM postcall.waiting
                WHERE delivery_id > $1 ORDER BY delivery_id LIMIT $2
            )
            SELECT postcall.uuid_v7_floor(clock_timestamp() - make_interval(secs => $3::float8 / 1000)) AS "floor!",
                   (SELECT count(*) FROM newest) AS "looked_at!",
                   (SELECT delivery_id FROM newest ORDER BY delivery_id DESC LIMIT 1) AS newest,
                   lane.action_id AS "action_id?",
                   coalesce(action.version, 0) AS "version!", coalesce(action.enabled, true) AS "enabled!"
            FROM (VALUES (true)) AS always (yes)
            LEFT JOIN (SELECT DISTINCT action_id FROM newest) AS lane ON always.yes
            LEFT JOIN postcall.action ON action.action_id = lane.action_id
            "#,
            after,
            i64::try_from(limit).unwrap_or(i64::MAX),
            f64::from(margin_ms),
        );
        let rows = self.fetch_all(statement).await?;
        let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let (looked_at, newest, floor) = (usize::try_from(first.looked_at).unwrap_or(0), first.newest, first.floor);
        let seen = |action_id, version, enabled| LaneSeen { action_id, version, enabled };
        let lanes = rows.iter().filter_map(|row| Some(seen(row.action_id?, row.version, row.enabled))).collect();
        Ok(Arrivals { lanes, looked_at, newest, floor })
    }

    /// The next lanes behind `after` in which something waits, in the order of their numbers and `limit` at most. Passes
    /// over the lanes `known`, which are in order, and looks no further than the last of them, which may be [`i64::MAX`].
    pub async fn lanes_with_work(
        &mut self,
        after: i64,
        known: &[i64],
        limit: usize,
    ) -> Result<Vec<LaneSeen>, StoreError> {
        // A loose index scan: from each lane, one look-up finds the next, whatever the number of rows between. Each is
        // bounded by the next known lane, so it reads nothing of that one.
        let statement = sqlx::query!(
            r#"
            WITH RECURSIVE step (action_id, gap, found) AS (
                SELECT $1::bigint, 1, false
                UNION ALL
                SELECT coalesce(next.action_id, ($2::bigint[])[step.gap]),
                       step.gap + CASE WHEN next.action_id IS NULL THEN 1 ELSE 0 END,
                       next.action_id IS NOT NULL
                FROM step
                LEFT JOIN LATERAL (
                    SELECT waiting.action_id FROM postcall.waiting
                    WHERE waiting.action_id > step.action_id AND waiting.action_id < ($2::bigint[])[step.gap]
                    ORDER BY waiting.action_id, waiting.delivery_id LIMIT 1
                ) AS next ON true
                WHERE step.gap <= cardinality($2::bigint[])
            )
            SELECT lane.action_id AS "action_id!", coalesce(action.version, 0) AS "version!",
                   coalesce(action.enabled, true) AS "enabled!"
            FROM (SELECT action_id FROM step WHERE found LIMIT $3) AS lane
            LEFT JOIN postcall.action ON action.action_id = lane.action_id
            "#,
            after,
            known,
            i64::try_from(limit).unwrap_or(i64::MAX),
        );
        let rows = self.fetch_all(statement).await?;
        Ok(rows
            .into_iter()
            .map(|row| LaneSeen { action_id: row.action_id, version: row.version, enabled: row.enabled })
            .collect())
    }

    /// Which of these lanes have work, ahead of their cursors or behind them: of a transaction that committed late, or
    /// given back.
    pub async fn check_lanes(&mut self, lanes: &[LaneCursor]) -> Result<Vec<LaneChecked>, StoreError> {
        let (action_ids, cursors): (Vec<i64>, Vec<Uuid>) =
            lanes.iter().map(|lane| (lane.action_id, lane.after)).unzip();
        // Two look-ups a lane. The one behind the cursor wades through what was claimed and is not vacuumed yet; that is
        // what it is for, and why its caller makes it seldom.
        let statement = sqlx::query!(
            r#"
            SELECT lane.action_id AS "action_id!", behind.delivery_id AS "behind?",
                   coalesce(action.version, 0) AS "version!", coalesce(action.enabled, true) AS "enabled!"
            FROM unnest($1::bigint[], $2::uuid[]) AS lane (action_id, after)
            LEFT JOIN LATERAL (
                SELECT delivery_id FROM postcall.waiting
                WHERE waiting.action_id = lane.action_id AND delivery_id <= lane.after ORDER BY delivery_id LIMIT 1
            ) AS behind ON true
            LEFT JOIN LATERAL (
                SELECT delivery_id FROM postcall.waiting
                WHERE waiting.action_id = lane.action_id AND delivery_id > lane.after ORDER BY delivery_id LIMIT 1
            ) AS ahead ON true
            LEFT JOIN postcall.action ON action.action_id = lane.action_id
            WHERE behind.delivery_id IS NOT NULL OR ahead.delivery_id IS NOT NULL
            "#,
            &action_ids,
            &cursors,
        );
        let rows = self.fetch_all(statement).await?;
        let checked = |action_id, version, enabled, behind| {
            let lane = LaneSeen { action_id, version, enabled };
            LaneChecked { lane, behind }
        };
        Ok(rows.into_iter().map(|row| checked(row.action_id, row.version, row.enabled, row.behind)).collect())
    }

    /// What is to be known of these lanes. Actions that do not exist are left out.
    pub async fn lanes_about(&mut self, action_ids: &[i64]) -> Result<Vec<LaneAbout>, StoreError> {
        // - By primary keys. A host name has 253 characters at most, so 300 hold whatever can be a host and a port.
        // - Of history a few rows of the agent, by the index of agents: those of this very version say how its host is.
        let statement = sqlx::query!(
            r#"
            SELECT action.action_id, action.agent, action.version, enabled, left(action_version.url, 300) AS "url!",
                   (SELECT CASE WHEN late.response_code IS NOT NULL THEN true WHEN late.error_kind = 'timeout' THEN false END
                    FROM (SELECT delivery_id, action_id, action_version, response_code, error_kind FROM postcall.delivery
                          WHERE delivery.agent = action.agent ORDER BY delivery_id DESC LIMIT $2) AS late
                    WHERE late.action_id = action.action_id AND late.action_version = action.version
                    ORDER BY late.delivery_id DESC LIMIT 1) AS answered
            FROM postcall.action JOIN postcall.action_version USING (action_id, version)
            WHERE action.action_id = ANY ($1)
            "#,
            action_ids,
            LATE_DELIVERIES,
        );
        let rows = self.fetch_all(statement).await?;
        Ok(rows
            .into_iter()
            .map(|row| LaneAbout {
                lane: LaneSeen { action_id: row.action_id, version: row.version, enabled: row.enabled },
                agent: row.agent,
                url: row.url,
                answered: row.answered,
            })
            .collect())
    }
}
