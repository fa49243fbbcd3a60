//! Reading what people did: who published, switched, paused, resumed, replayed, resolved, tested and changed
//! signing. An auditor's rights suffice. `of_tests` has what is particular to tests of actions.

mod of_tests;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use sqlx::PgConnection;
use uuid::Uuid;

use self::of_tests::{add_tests, first_test, may_read_tests, tests_before};
use super::history::named_columns;
use super::matching::prepare;
use super::{LOOK_TIMEOUT, Store, StoreError};
use crate::domain::act::{Act, ActKey};
use crate::domain::action_test::TestState;
use crate::domain::delivery::State;

/// The largest number of acts that one look reads: with a rare agent or person, it may find none among them.
pub const MOST_LOOKED_AT: i64 = 10_000;
/// An agent with no more deliveries than this has few: what was done to one of them is recognised by a list of their ids.
const FEW: i64 = 5_000;

/// Which acts to find. Every criterion that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct ActFilter {
    /// One of these.
    pub acts: Option<Vec<Act>>,
    /// The agent, compared exactly. What was done to a host is no agent's.
    pub agent: Option<String>,
    /// Who did it: the person as that person wrote it, or the database user.
    pub by: Option<String>,
    /// At this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
}

named_columns! {
    /// What somebody did.
    #[derive(Clone, Debug, Serialize)]
    #[allow(missing_docs, reason = "docs/auditing.md has the one description")]
    pub struct ActRow {
        at: DateTime<Utc>,
        act: Act,
        agent: Option<String>,
        action: Option<String>,
        version: Option<i32>,
        host: Option<String>,
        delivery_id: Option<Uuid>,
        replayed_as: Option<Uuid>,
        resolved_as: Option<State>,
        person: Option<String>,
        db_user: Option<String>,
        reason: Option<String>,
        key: Key,
        test_id: Option<Uuid>,
        test_state: Option<TestState>,
    }
}

/// The record of an act, as the database names it; with its time, it is the act's key.
#[derive(Clone, Debug)]
pub struct Key(pub ActKey);

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// What a look has found.
#[derive(Debug)]
pub struct ActsFound {
    /// The acts, the newest first.
    pub acts: Vec<ActRow>,
    /// The act behind which a look for the rest goes on; `None` if there is no rest.
    pub rest_after: Option<ActKey>,
}

/// Makes a statement about the newest acts before the key `$before`. `$select` and `$behind` are the SQL before and after
/// them.
macro_rules! newest {
    // Tests in the order of their ids, which is that of their times and records: by the primary key, up to the limit.
    (with_tests, $($rest:tt)*) => {
        newest!(
            r#"
                UNION ALL (SELECT 'tested', to_timestamp(('x' || left(replace(test_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0),
                           ('test-' || test_id) COLLATE "C", NULL::bigint, action_version, agent, NULL::text, NULL::uuid, NULL::uuid,
                           NULL::text, tested_by, db_user, reason
                    FROM (SELECT * FROM postcall.action_test
                          WHERE test_id >= $6 AND test_id < $7 AND ($1::text[] IS NULL OR 'tested' = ANY ($1))
                          ORDER BY test_id DESC LIMIT $5) AS test)"#,
            $($rest)*
        )
    };
    // For users who may not read tests: the database refuses a statement that only names them.
    (without_tests, $($rest:tt)*) => {
        newest!(
            r#"
                UNION ALL (SELECT 'tested', NULL::timestamptz, NULL::text COLLATE "C", NULL::bigint, NULL::integer, NULL::text,
                                  NULL::text, NULL::uuid, NULL::uuid, NULL::text, NULL::text, NULL::text, NULL::text
                           WHERE false AND $6::uuid < $7::uuid)"#,
            $($rest)*
        )
    };
    ($tests:literal, $row:path, $select:literal, $filter:expr, $before:expr, $behind:literal $(, $more:expr)*) => {
        newest!(
            @ $tests, $row, $select, $filter, $before, $behind, [$($more),*],
            // - Each arm reads one table's index by time backwards, up to the limit of the look; so a page costs as much as is
            //   looked at, however many acts there are. Without limits of their own, the arms would be read completely.
            // - Records of one moment are in the order of their names, bytewise, whatever the database's collation is.
            // - An arm that $1 does not ask for is removed by the planner, which plans with the actual values.
            r#") AS act WHERE at >= $2 AND at <= $3 AND (at < $3 OR record < $4) ORDER BY at DESC, record DESC LIMIT $5)"#
        )
    };
    (@ $tests:literal, $row:path, $select:literal, $filter:expr, $before:expr, $behind:literal, [$($more:expr),*], $within:literal) => {
        sqlx::query_as!(
            $row,
            $select
                + r#" FROM (
            SELECT * FROM (
                (SELECT * FROM (
                    SELECT 'published' AS act, published_at AS at, ('version-' || action_id || '.' || version) COLLATE "C" AS record,
                           action_id, version, NULL::text AS agent, NULL::text AS host, NULL::uuid AS delivery_id,
                           NULL::uuid AS replayed_as, NULL::text AS resolved_as, published_by AS person, db_user, reason
                    FROM postcall.action_version
                    WHERE ($1::text[] IS NULL OR 'published' = ANY ($1))"#
                + $within
                + r#"
                UNION ALL (SELECT * FROM (
                    SELECT CASE WHEN enabled THEN 'enabled' ELSE 'disabled' END AS act, switched_at AS at,
                           ('switch-' || switch_id) COLLATE "C" AS record, action_id, NULL::integer, NULL::text, NULL::text,
                           NULL::uuid, NULL::uuid, NULL::text, switched_by, db_user, reason
                    FROM postcall.action_switch
                    WHERE ($1::text[] IS NULL OR $1 && ARRAY['enabled', 'disabled'])"#
                + $within
                + r#"
                UNION ALL (SELECT * FROM (
                    SELECT 'paused' AS act, paused_at AS at, ('pause-' || pause_id) COLLATE "C" AS record,
                           action_id, NULL::integer, agent, host, NULL::uuid, NULL::uuid, NULL::text, paused_by, db_user, reason
                    FROM postcall.pause
                    WHERE ($1::text[] IS NULL OR 'paused' = ANY ($1))"#
                + $within
                + r#"
                UNION ALL (SELECT * FROM (
                    SELECT 'resumed' AS act, resumed_at AS at, ('resume-' || pause_end.pause_id) COLLATE "C" AS record,
                           (SELECT action_id FROM postcall.pause WHERE pause.pause_id = pause_end.pause_id), NULL::integer,
                           (SELECT agent FROM postcall.pause WHERE pause.pause_id = pause_end.pause_id),
                           (SELECT host FROM postcall.pause WHERE pause.pause_id = pause_end.pause_id),
                           NULL::uuid, NULL::uuid, NULL::text, resumed_by, db_user, reason
                    FROM postcall.pause_end
                    WHERE ($1::text[] IS NULL OR 'resumed' = ANY ($1))"#
                + $within
                + r#"
                UNION ALL (SELECT * FROM (
                    SELECT 'replayed' AS act, created_at AS at, ('replay-' || delivery_id) COLLATE "C" AS record,
                           NULL::bigint, NULL::integer, NULL::text, NULL::text, replay_of, delivery_id, NULL::text, replayed_by,
                           db_user, reason
                    FROM postcall.replay
                    WHERE ($1::text[] IS NULL OR 'replayed' = ANY ($1))"#
                + $within
                + r#"
                UNION ALL (SELECT * FROM (
                    SELECT 'resolved' AS act, resolved_at AS at, ('finding-' || delivery_id) COLLATE "C" AS record,
                           NULL::bigint, NULL::integer, NULL::text, NULL::text, delivery_id, NULL::uuid, state, resolved_by, db_user,
                           reason
                    FROM postcall.resolution
                    WHERE source = 'person' AND ($1::text[] IS NULL OR 'resolved' = ANY ($1))"#
                + $within
                + r#"
                UNION ALL (SELECT * FROM (
                    SELECT 'signing_' || change AS act, changed_at AS at, ('signing-' || change_id) COLLATE "C" AS record,
                           NULL::bigint, NULL::integer, agent, NULL::text, NULL::uuid, NULL::uuid, NULL::text, changed_by, db_user,
                           reason
                    FROM postcall.signing_change
                    WHERE ($1::text[] IS NULL OR $1 && ARRAY['signing_enabled', 'signing_rotated', 'signing_disabled'])"#
                + $within
                + $tests
                + r#") AS newest
            ORDER BY at DESC, record DESC LIMIT $5
            ) AS newest "#
                + $behind,
            $filter.acts.as_deref() as Option<&[Act]>,
            $filter.since.unwrap_or(DateTime::UNIX_EPOCH),
            $before.at,
            $before.record,
            MOST_LOOKED_AT,
            first_test($filter),
            tests_before($before)
            $(, $more)*
        )
    };
}

struct Found {
    at: DateTime<Utc>,
    act: Act,
    record: String,
    agent: Option<String>,
    action: Option<String>,
    version: Option<i32>,
    host: Option<String>,
    delivery_id: Option<Uuid>,
    replayed_as: Option<Uuid>,
    resolved_as: Option<State>,
    person: Option<String>,
    db_user: Option<String>,
    reason: Option<String>,
}

struct Looked {
    at: DateTime<Utc>,
    record: String,
}

impl Store {
    /// Returns up to `limit` acts that match and come after the act `after`, the newest first. Looks at no more than
    /// [`MOST_LOOKED_AT`] acts.
    pub async fn acts(
        &self,
        filter: &ActFilter,
        after: Option<&ActKey>,
        limit: usize,
    ) -> Result<ActsFound, StoreError> {
        let before = start(filter, after);
        // One snapshot, so that what was looked at is what was counted.
        let mut snapshot = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        prepare(&mut snapshot, LOOK_TIMEOUT.min(self.statement_timeout)).await?;
        // Dispatchers may read all acts but tests. Whoever asks for tests by name is refused by the database.
        let tests = match filter.acts.as_deref() {
            Some(acts) => acts.contains(&Act::Tested),
            None => may_read_tests(&mut snapshot).await?,
        };
        let few = match &filter.agent {
            Some(agent) => few_deliveries(&mut snapshot, agent).await?,
            None => None,
        };
        let mut acts = matching(&mut snapshot, filter, few.as_deref(), &before, (limit, tests)).await?;
        if tests {
            add_tests(&mut snapshot, &mut acts).await?;
        }
        let rest_after = match acts.last() {
            Some(last) if acts.len() >= limit => Some(last.key.0.clone()),
            _ => last_looked_at(&mut snapshot, filter, &before, tests).await?,
        };
        snapshot.commit().await?;
        Ok(ActsFound { acts, rest_after })
    }
}

/// The ids of an agent's deliveries that have ended, if there are no more than [`FEW`].
async fn few_deliveries(snapshot: &mut PgConnection, agent: &str) -> Result<Option<Vec<Uuid>>, sqlx::Error> {
    // The agent's part of the index on agent and id, alone, and no further than the limit.
    let ids = sqlx::query_scalar!(
        r#"SELECT delivery_id FROM postcall.delivery WHERE agent = $1 ORDER BY delivery_id DESC LIMIT $2"#,
        agent,
        FEW + 1
    )
    .fetch_all(snapshot)
    .await?;
    Ok(Some(ids).filter(|ids| i64::try_from(ids.len()).is_ok_and(|found| found <= FEW)))
}

/// The key before which acts are looked for.
fn start(filter: &ActFilter, after: Option<&ActKey>) -> ActKey {
    // No record's name is empty, so this excludes those of the moment itself.
    let until = filter.until.map(|at| ActKey { at, record: String::new() });
    // Farther than any time that the database may hold, and within what it can compare.
    let end = || ActKey { at: DateTime::from_timestamp(253_402_300_800, 0).unwrap_or_default(), record: String::new() };
    match (after, until) {
        (Some(after), Some(until)) if until.at <= after.at => until,
        (Some(after), _) => after.clone(),
        (None, until) => until.unwrap_or_else(end),
    }
}

async fn matching(
    snapshot: &mut PgConnection,
    filter: &ActFilter,
    few: Option<&[Uuid]>,
    before: &ActKey,
    (limit, tests): (usize, bool),
) -> Result<Vec<ActRow>, sqlx::Error> {
    // - The action of a delivery is looked up by key, in scalar subqueries: of a join, the planner could make one that reads
    //   all of history. A replay may outlive what it repeats.
    // - Of an agent with few deliveries, $11 has the ids of all of them: then an act of another one is passed over without a look
    //   at its delivery, which lies anywhere in history. The planner makes a hash table of the list, because it plans with the
    //   actual values.
    macro_rules! found {
        ($tests:ident) => {
            newest!(
                $tests,
                Found,
                r#"
        SELECT at AS "at!", act AS "act!: Act", record AS "record!",
               coalesce(agent, (SELECT action.agent FROM postcall.action WHERE action.action_id = known.action_id)) AS agent,
               (SELECT action.name FROM postcall.action WHERE action.action_id = known.action_id) AS action,
               version, host, delivery_id, replayed_as, resolved_as AS "resolved_as: State", person,
               db_user, reason
        FROM (SELECT at, act, record, agent, version, host, delivery_id, replayed_as, resolved_as, person, db_user, reason,
                     coalesce(
                         action_id,
                         (SELECT ended.action_id FROM postcall.delivery AS ended WHERE ended.delivery_id = newest.delivery_id),
                         (SELECT ended.action_id FROM postcall.delivery AS ended WHERE ended.delivery_id = newest.replayed_as)
                     ) AS action_id"#,
                filter,
                before,
                r#"
            WHERE ($1::text[] IS NULL OR act = ANY ($1)) AND ($8::text IS NULL OR person = $8 OR db_user = $8)
            AND ($11::uuid[] IS NULL OR agent = $9 OR delivery_id = ANY ($11) OR replayed_as = ANY ($11)
                 OR action_id = ANY (ARRAY(SELECT action.action_id FROM postcall.action WHERE action.agent = $9)))
        ) AS known
        WHERE $9::text IS NULL OR $11::uuid[] IS NOT NULL OR agent = $9
           OR action_id = ANY (ARRAY(SELECT action.action_id FROM postcall.action WHERE action.agent = $9))
        ORDER BY at DESC, record DESC LIMIT $10
        "#,
                filter.by,
                filter.agent,
                i64::try_from(limit).unwrap_or(i64::MAX),
                few
            )
            .fetch_all(snapshot)
            .await?
        };
    }
    let found = if tests { found!(with_tests) } else { found!(without_tests) };
    Ok(found.into_iter().map(ActRow::from).collect())
}

/// The last act that such a look reads, if it does not read all.
async fn last_looked_at(
    snapshot: &mut PgConnection,
    filter: &ActFilter,
    before: &ActKey,
    tests: bool,
) -> Result<Option<ActKey>, sqlx::Error> {
    // The same look, to its end.
    macro_rules! last {
        ($tests:ident) => {
            newest!(
                $tests,
                Looked,
                r#"SELECT at AS "at!", record AS "record!""#,
                filter,
                before,
                "ORDER BY at DESC, record DESC OFFSET $5 - 1 LIMIT 1"
            )
            .fetch_optional(snapshot)
            .await?
        };
    }
    let last = if tests { last!(with_tests) } else { last!(without_tests) };
    Ok(last.map(|Looked { at, record }| ActKey { at, record }))
}

impl From<Found> for ActRow {
    fn from(found: Found) -> ActRow {
        ActRow {
            at: found.at,
            act: found.act,
            agent: found.agent,
            action: found.action,
            version: found.version,
            host: found.host,
            delivery_id: found.delivery_id,
            replayed_as: found.replayed_as,
            resolved_as: found.resolved_as,
            person: found.person,
            db_user: found.db_user,
            reason: found.reason,
            key: Key(ActKey { at: found.at, record: found.record }),
            test_id: None,
            test_state: None,
        }
    }
}
