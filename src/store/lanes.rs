//! Finds the lanes that have work. A lane is what waits for one action.
//!
//! Rows that were claimed stay in the queue's indexes until vacuum removes them, and vacuum cannot do so while somebody
//! holds an old snapshot. Where a statement here gets a lane's cursor, it does not read these dead entries. The
//! exception is [`Session::check_lanes`], which looks for deliveries behind the cursors.

use uuid::Uuid;

use super::StoreError;
use super::session::Session;

/// How many of an agent's newest deliveries in history are searched for the last one of an action.
const LATE_DELIVERIES: i64 = 10;

/// A lane in which a delivery waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSeen {
    /// The action.
    pub action_id: i64,
    /// Its newest version; 0 if there is no such action.
    pub version: i32,
    /// Whether the action is enabled; true if there is no such action.
    pub enabled: bool,
}

/// What has arrived since an earlier look.
#[derive(Clone, Debug)]
pub struct Arrivals {
    /// The lanes of the new deliveries, each once.
    pub lanes: Vec<LaneSeen>,
    /// How many deliveries were read.
    pub looked_at: usize,
    /// The newest of these deliveries; `None` if there are none.
    pub newest: Option<Uuid>,
    /// The smallest id that a delivery can have that was made within `margin_ms` before this look, by the database's
    /// clock.
    pub floor: Uuid,
}

/// The position in a lane up to which its deliveries have been claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneCursor {
    /// The action.
    pub action_id: i64,
    /// The last claimed id.
    pub after: Uuid,
}

/// What [`Session::check_lanes`] found about one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneChecked {
    /// The lane.
    pub lane: LaneSeen,
    /// The oldest delivery that waits at or before the cursor, if any does.
    pub behind: Option<Uuid>,
}

/// What a dispatcher needs to know about a lane before it claims its deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneAbout {
    /// The lane.
    pub lane: LaneSeen,
    /// The agent that the action belongs to.
    pub agent: String,
    /// The beginning of its URL template: enough for a scheme, a host and a port.
    pub url: String,
    /// Whether the last delivery of this version was answered: false if it timed out. `None` if recent history has
    /// none, or its outcome says nothing about the host.
    pub answered: Option<bool>,
}

impl Session {
    /// Reads the deliveries that were inserted after the delivery `after`, at most `limit`. `margin_ms` is for
    /// [`Arrivals::floor`].
    pub async fn arrivals(&mut self, after: Uuid, limit: usize, margin_ms: u32) -> Result<Arrivals, StoreError> {
        // Uses the primary key, which is in order of insertion: the cost depends only on what has arrived, whatever
        // else waits.
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

    /// Returns the next lanes after `after` in which a delivery waits, in the order of their action ids, at most
    /// `limit`. Skips the lanes `known`, which must be sorted, and stops at the last of them, which may be
    /// [`i64::MAX`].
    pub async fn lanes_with_work(
        &mut self,
        after: i64,
        known: &[i64],
        limit: usize,
    ) -> Result<Vec<LaneSeen>, StoreError> {
        // A loose index scan: from each lane, one look-up finds the next, whatever the number of rows between. Each
        // look-up stops before the next known lane, so it reads nothing of that lane.
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

    /// Returns those of these lanes that have work, ahead of their cursors or behind them. Deliveries behind a cursor
    /// come from a transaction that committed late, or were released.
    pub async fn check_lanes(&mut self, lanes: &[LaneCursor]) -> Result<Vec<LaneChecked>, StoreError> {
        let (action_ids, cursors): (Vec<i64>, Vec<Uuid>) =
            lanes.iter().map(|lane| (lane.action_id, lane.after)).unzip();
        // Two look-ups a lane. The one behind the cursor also reads the dead entries of claimed rows that are not
        // vacuumed yet. That is its purpose, and the reason why its caller makes it seldom.
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

    /// Returns what a dispatcher needs to know about these lanes. Actions that do not exist are left out.
    pub async fn lanes_about(&mut self, action_ids: &[i64]) -> Result<Vec<LaneAbout>, StoreError> {
        // - Uses primary keys. A host name has at most 253 characters, so 300 characters hold every possible scheme,
        //   host and port.
        // - From history, it reads a few rows of the agent, by the index of agents. Only rows of the current version
        //   say how its host answers.
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
