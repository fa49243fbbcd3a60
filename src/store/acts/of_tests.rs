//! Tests of actions among what people did: they are found by their ids, which have the time.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ActFilter, ActRow};
use crate::domain::act::ActKey;
use crate::domain::action_test::TestState;
use crate::store::history::floor;

/// What the records of tests begin with, before the test's id.
const TEST: &str = "test-";

/// The id at which the tests begin that were made at the time from which acts are looked for.
pub(super) fn first_test(filter: &ActFilter) -> Uuid {
    let since = filter.since.unwrap_or(DateTime::UNIX_EPOCH);
    // An id has the millisecond in which it was made, and counts as its beginning.
    let is_whole = since.timestamp_subsec_micros().is_multiple_of(1_000);
    floor(if is_whole { since } else { since + TimeDelta::milliseconds(1) })
}

/// The id before which those tests end that come before this act.
pub(super) fn tests_before(before: &ActKey) -> Uuid {
    if let Some(id) = before.record.strip_prefix(TEST).and_then(|id| id.parse().ok()) {
        return id;
    }
    let is_later = !before.at.timestamp_subsec_micros().is_multiple_of(1_000) || TEST < before.record.as_str();
    floor(if is_later { before.at + TimeDelta::milliseconds(1) } else { before.at })
}

/// Whether the user may read tests.
pub(super) async fn may_read_tests(snapshot: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // Asks the catalog only.
    let may = sqlx::query_scalar!(r#"SELECT has_table_privilege('postcall.action_test_history', 'SELECT') AS "may!""#);
    may.fetch_one(snapshot).await
}

/// Says of each test among `acts` which action it was, and what became of it.
pub(super) async fn add_tests(snapshot: &mut PgConnection, acts: &mut [ActRow]) -> Result<(), sqlx::Error> {
    let id = |act: &ActRow| act.key.0.record.strip_prefix(TEST).and_then(|id| id.parse::<Uuid>().ok());
    let ids: Vec<Uuid> = acts.iter().filter_map(id).collect();
    // By the primary key, one look-up for each.
    let tests = sqlx::query!(
        r#"
        SELECT test_id AS "test_id!", action AS "action!", state AS "state!: TestState"
        FROM postcall.action_test_history WHERE test_id = ANY ($1)
        "#,
        &ids,
    )
    .fetch_all(snapshot)
    .await?;
    let tests: HashMap<Uuid, _> = tests.into_iter().map(|test| (test.test_id, test)).collect();
    for act in acts {
        if let Some(test) = id(act).and_then(|id| tests.get(&id)) {
            (act.test_id, act.test_state) = (Some(test.test_id), Some(test.state));
            act.action = Some(test.action.clone());
        }
    }
    Ok(())
}
