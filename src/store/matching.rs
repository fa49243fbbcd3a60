//! Finds the deliveries that match a filter: their ids, or their number.
//!
//! The statements here do not use the view, although they could. The planner sees all of the view's arms at once, and
//! then reads some of them completely and sorts them before it returns a page. Here each arm has the page's limit of
//! its own, so the planner plans each for a few rows, with the index that finds these first.

use std::ops::Range;
use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::history::HistoryFilter;
use super::open_rule::with_is_open;
use crate::domain::delivery::State;
use crate::domain::error_kind::ErrorKind;

struct Matching {
    delivery_id: Uuid,
}

struct Count {
    count: i64,
}

/// Makes a statement about the newest deliveries that match, or about the oldest. `$order` says which, at the end of each
/// arm, and `$lane_order` at the end of a lane; `$before` and `$behind` are the SQL before and after the arms. The arms are those of the view, with few columns
/// and with the states that the view shows. Parameters: $1 to $10 and $14 are the filter, $11 and $12 the ids to search,
/// $13 the limit of each arm.
macro_rules! arms {
    ($row:path, $before:literal, $filter:expr, $states:expr, $ids:expr, $limit:expr, $order:literal, $lane_order:literal,
     $behind:literal) => {
        with_is_open!(
            arms;
            @ $row, $before, $filter, $states, $ids, $limit, $order, $lane_order, $behind,
            // - An absent criterion is `NULL IS NULL`. The planner removes it, because it plans with the actual values;
            //   see [`prepare`]. It also removes an arm whose state is not requested.
            // - Time limits apply to created_at and also to the time-ordered id, so that whole partitions and most of
            //   the index are skipped.
            // - $14 leaves out what is not open. `open_rule` has that condition, which stands behind this one.
            // - $15 is a state that is asked for alone. Of an equality, the planner knows that the index of what was not
            //   delivered has its rows in the order of a page; of a list in $3 it does not, and reads and sorts all of them.
            r#"
                WHERE ($1::text IS NULL OR agent = $1)
                  AND ($2::text IS NULL OR action_id = ANY (ARRAY(
                      SELECT action.action_id FROM postcall.action WHERE action.name = $2)))
                  AND ($3::text[] IS NULL OR state = ANY ($3))
                  AND ($15::text IS NULL OR state = $15)
                  AND ($4::text IS NULL OR call_sid = $4)
                  AND ($5::uuid IS NULL OR call_id = $5)
                  AND ($6::text IS NULL OR error_kind = $6)
                  AND ($7::int2 IS NULL OR response_code = $7)
                  AND ($8::timestamptz IS NULL OR created_at >= $8)
                  AND ($9::timestamptz IS NULL OR created_at < $9)
                  AND ($10::uuid[] IS NULL OR delivery_id = ANY ($10))
                  AND delivery_id >= $11 AND delivery_id < $12
                  AND (NOT $14::bool OR
            "#,
        )
    };
    (@ $row:path, $before:literal, $filter:expr, $states:expr, $ids:expr, $limit:expr, $order:literal,
     $lane_order:literal, $behind:literal, $matches:literal, $is_open:literal) => {
        sqlx::query_as!(
            $row,
            // The queue comes first, in a step of its own. Among the other arms, which are merged in order, the planner
            // would read it in index order. If nothing in it matches, that takes twice as long as a plain scan. What waits of
            // an agent is read lane by lane, by the index of the lanes: what others have waiting costs nothing. Its rows are compared and
            // ordered as pairs, because no other index has that order: of an equality, the planner would hope to find the lane's rows
            // among the newest of all. That no agent is asked for stands in one list of conditions with all others: a plain scan of two
            // lists that are both false is planned for parallel workers, which are started to find nothing.
            // The provider's id of a call that waits is cut, as the index of the queue by it has it; nothing is cut off but by somebody's hand.
            r#"
            WITH queued AS MATERIALIZED (
                (SELECT delivery_id
                 FROM (SELECT delivery_id, call_id, left(call_sid, 256) AS call_sid, agent, action_id, 'waiting'::text AS state,
                              NULL::text AS error_kind, NULL::int2 AS response_code, created_at
                       FROM postcall.waiting) AS candidate
            "#
                + $matches
                + $is_open
                + ")"
                + " AND $1::text IS NULL"
                + $order
                + r#")
                UNION ALL
                (SELECT of_lane.delivery_id
                 FROM postcall.action AS lane
                 CROSS JOIN LATERAL (
                     SELECT delivery_id
                     FROM (SELECT delivery_id, call_id, left(call_sid, 256) AS call_sid, agent, action_id, 'waiting'::text AS state,
                                  NULL::text AS error_kind, NULL::int2 AS response_code, created_at
                           FROM postcall.waiting
                           WHERE (waiting.action_id, waiting.delivery_id) >= (lane.action_id, $11)
                             AND (waiting.action_id, waiting.delivery_id) < (lane.action_id, $12)) AS candidate
            "#
                + $matches
                + $is_open
                + ")"
                + $lane_order
                + r#") AS of_lane
                 WHERE lane.agent = $1))
            "#
                + $before
                + r#"
            ((SELECT delivery_id
              FROM (SELECT delivery_id, call_id, call_sid, agent, action_id, state, error_kind, response_code, created_at
                    FROM postcall.delivery
                    WHERE state <> 'unknown') AS candidate
            "#
                + $matches
                + $is_open
                + ")"
                + $order
                + r#")
             UNION ALL
             (SELECT delivery_id
              FROM (SELECT delivery_id, call_id, call_sid, agent, action_id, 'unknown'::text AS state, error_kind,
                           NULL::int2 AS response_code, created_at
                    FROM postcall.delivery
                    WHERE state = 'unknown' AND NOT EXISTS (
                        SELECT FROM postcall.resolution WHERE resolution.delivery_id = delivery.delivery_id)) AS candidate
            "#
                + $matches
                + $is_open
                + ")"
                + $order
                + r#")
             UNION ALL
             (SELECT delivery_id
              FROM (SELECT delivery.delivery_id, call_id, call_sid, agent, action_id, learnt.state, learnt.error_kind,
                           learnt.response_code, created_at
                    FROM postcall.resolution AS learnt
                    JOIN postcall.delivery ON delivery.delivery_id = learnt.delivery_id
                    WHERE delivery.state = 'unknown' AND (learnt.source = 'claim' OR NOT EXISTS (
                        SELECT FROM postcall.resolution AS late
                        WHERE late.delivery_id = learnt.delivery_id AND late.source = 'claim'))) AS candidate
            "#
                + $matches
                + $is_open
                + ")"
                + $order
                + r#")
             UNION ALL
             (SELECT delivery_id
              FROM (SELECT delivery_id, call_id, sid AS call_sid, agent, action_id, 'sending'::text AS state,
                           NULL::text AS error_kind, NULL::int2 AS response_code, created_at
                    FROM postcall.sending) AS candidate
            "#
                + $matches
                + $is_open
                + ")"
                + $order
                + r#")
             UNION ALL
             (SELECT delivery_id FROM queued))
            "#
                + $behind,
            $filter.agent,
            $filter.action,
            $states.list() as Option<&[State]>,
            $filter.kept_call_sid(),
            $filter.call_id,
            $filter.error_kind as Option<ErrorKind>,
            $filter.response_code,
            $filter.since,
            $filter.until,
            $filter.delivery_ids.as_deref(),
            $ids.start,
            $ids.end,
            $limit,
            $filter.open,
            $states.alone() as Option<State>,
        )
    };
}

/// The states that one statement asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked<'a> {
    /// All of them, if there is no list.
    List(Option<&'a [State]>),
    Alone(State),
}

impl<'a> Asked<'a> {
    fn list(self) -> Option<&'a [State]> {
        if let Asked::List(states) = self { states } else { None }
    }

    fn alone(self) -> Option<State> {
        if let Asked::Alone(state) = self { Some(state) } else { None }
    }

    /// The statements that find what is in one of these states: one for each, because each of them is found by an index in the
    /// order of a page. A single one suffices where most rows match, or where the deliveries are named.
    fn each(filter: &HistoryFilter, states: Option<&'a [State]>) -> Vec<Asked<'a>> {
        match states {
            Some(states) if filter.delivery_ids.is_none() && !states.contains(&State::Delivered) => {
                states.iter().map(|state| Asked::Alone(*state)).collect()
            }
            states => vec![Asked::List(states)],
        }
    }
}

/// Returns up to `limit` ids of deliveries that match, the newest first. The transaction should have one snapshot: otherwise, a
/// delivery that changes its state meanwhile may be found in none.
pub(super) async fn ids(
    connection: &mut PgConnection,
    filter: &HistoryFilter,
    ids: &Range<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    // Pages are cut by id, not by OFFSET: a page costs the same however far down it is, and rows that arrive meanwhile do
    // not shift it.
    let states = filter.possible_states();
    let mut found = Vec::new();
    for asked in Asked::each(filter, states.as_deref()) {
        let rows = arms!(
            Matching,
            r#"SELECT delivery_id AS "delivery_id!" FROM"#,
            filter,
            asked,
            ids,
            limit,
            " ORDER BY delivery_id DESC LIMIT $13",
            " ORDER BY action_id DESC, delivery_id DESC LIMIT $13",
            "AS matching ORDER BY delivery_id DESC LIMIT $13"
        )
        .fetch_all(&mut *connection)
        .await?;
        found.extend(rows.into_iter().map(|row| row.delivery_id));
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// As [`ids`], but of the deliveries that match the oldest ones, the oldest first.
pub(super) async fn oldest_ids(
    connection: &mut PgConnection,
    filter: &HistoryFilter,
    ids: &Range<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    // The same indexes, read in the other direction.
    let states = filter.possible_states();
    let mut found = Vec::new();
    for asked in Asked::each(filter, states.as_deref()) {
        let rows = arms!(
            Matching,
            r#"SELECT delivery_id AS "delivery_id!" FROM"#,
            filter,
            asked,
            ids,
            limit,
            " ORDER BY delivery_id LIMIT $13",
            " ORDER BY action_id, delivery_id LIMIT $13",
            "AS matching ORDER BY delivery_id LIMIT $13"
        )
        .fetch_all(&mut *connection)
        .await?;
        found.extend(rows.into_iter().map(|row| row.delivery_id));
    }
    found.sort_unstable();
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// Counts the matching deliveries whose shown state is `state`; at most `limit` in each arm and in total.
pub(super) async fn count(
    connection: &mut PgConnection,
    filter: &HistoryFilter,
    state: State,
    limit: i64,
) -> Result<i64, sqlx::Error> {
    // LIMIT ends the count as it ends a page.
    let (asked, ids) = (Asked::Alone(state), filter.possible_ids(None));
    let row = arms!(
        Count,
        r#"SELECT least(count(*), $13) AS "count!" FROM"#,
        filter,
        asked,
        ids,
        limit,
        " ORDER BY delivery_id DESC LIMIT $13",
        " ORDER BY action_id DESC, delivery_id DESC LIMIT $13",
        "AS matching"
    )
    .fetch_one(connection)
    .await?;
    Ok(row.count)
}

/// Sets the transaction's settings to what the statements about history rely on, whatever the defaults of server,
/// database or role are.
///
/// - Always a plan for the actual values: a generic plan could not use any index.
/// - No JIT compilation: it takes longer than any of these statements.
pub(super) async fn prepare(transaction: &mut PgConnection, statement_timeout: Duration) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"SELECT set_config('plan_cache_mode', 'force_custom_plan', true) AS "plan",
                  set_config('jit', 'off', true) AS "jit", set_config('statement_timeout', $1, true) AS "timeout""#,
        format!("{}ms", statement_timeout.as_millis())
    )
    .fetch_one(transaction)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_asked_for_one_by_one_unless_most_rows_match_or_the_deliveries_are_named() {
        let (all, named) = (
            HistoryFilter::default(),
            HistoryFilter { delivery_ids: Some(vec![Uuid::nil()]), ..HistoryFilter::default() },
        );
        let few = [State::Failed, State::Unknown];
        let most = [State::Failed, State::Delivered];
        assert_eq!(Asked::each(&all, Some(&few)), few.map(Asked::Alone));
        for (filter, states) in [(&all, Some(&most)), (&named, Some(&few)), (&named, Some(&most)), (&all, None)] {
            let states = states.map(|states| &states[..]);
            assert_eq!(Asked::each(filter, states), [Asked::List(states)]);
        }
        assert_eq!((Asked::List(Some(&few)).list(), Asked::List(Some(&few)).alone()), (Some(&few[..]), None));
        assert_eq!(
            (Asked::Alone(State::Failed).list(), Asked::Alone(State::Failed).alone()),
            (None, Some(State::Failed))
        );
    }
}
