//! What is shown of a delivery: whatever was recorded, and whatever was learnt later, the row makes sense as a whole,
//! and a search for what it shows finds it.

use postcall::domain::delivery::{Failure, State, UnknownReason};
use postcall::domain::error_kind::ErrorKind;
use postcall::store::history::HistoryFilter;

use crate::support::database::Database;

/// What history can hold: a state, an error kind, and a status code.
fn recorded() -> Vec<(State, Option<&'static str>, Option<i16>)> {
    let failed = Failure::ALL.map(|kind| (State::Failed, Some(kind.as_str()), None));
    let unknown = UnknownReason::ALL.map(|kind| (State::Unknown, Some(kind.as_str()), None));
    let others =
        [(State::Delivered, None, Some(204)), (State::Rejected, None, Some(302)), (State::Skipped, None, None)];
    [&failed[..], &unknown[..], &others[..]].concat()
}

/// What can be learnt late from the claim itself: the columns of a resolution.
const LATE: [Option<(State, &str)>; 6] = [
    None,
    Some((State::Delivered, "response_code => 200")),
    Some((State::Rejected, "response_code => 500")),
    Some((State::Failed, "error_kind => 'connect', error_detail => 'refused'")),
    Some((State::Failed, "error_kind => 'render', error_detail => 'no template', latency => NULL")),
    Some((State::Failed, "latency => NULL, sent => false")),
];

/// What a person can find out.
const FOUND: [Option<State>; 4] = [None, Some(State::Delivered), Some(State::Rejected), Some(State::Failed)];

/// Functions that write a row each, with what such a row has to have.
const WRITERS: &str = "
    CREATE FUNCTION record(state text, kind text, code smallint) RETURNS uuid LANGUAGE sql AS $$
        INSERT INTO postcall.delivery (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at,
            action_version, dispatcher_id, agent, state, error_kind, error_detail, method, url, response_code,
            response_bytes, response_sha256, body_end, latency_ms)
        SELECT postcall.uuid_v7(), postcall.uuid_v7(), postcall.uuid_v7(), 1, now(), now(), now(), 1, 1, 'a', $1, $2,
               CASE WHEN $2 IS NOT NULL THEN 'as recorded' END, 'POST', 'https://receiver.example/', $3,
               CASE WHEN $3 IS NOT NULL THEN 0 END, CASE WHEN $3 IS NOT NULL THEN sha256('') END,
               CASE WHEN $3 IS NOT NULL THEN 'complete' END,
               CASE WHEN $1 <> 'skipped' AND coalesce($2, '') NOT IN ('render', 'dispatcher_lost') THEN 5 END
        RETURNING delivery_id $$;
    CREATE FUNCTION learn(id uuid, state text, response_code smallint DEFAULT NULL, error_kind text DEFAULT NULL,
                          error_detail text DEFAULT NULL, latency integer DEFAULT 9, sent boolean DEFAULT true)
        RETURNS void LANGUAGE sql AS $$
        INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason, response_code, response_bytes,
            response_sha256, body_end, error_kind, error_detail, latency_ms, method, url)
        VALUES ($1, 'claim', $2, 'host-1:1', 'its late result', $3, CASE WHEN $3 IS NOT NULL THEN 2 END,
            CASE WHEN $3 IS NOT NULL THEN sha256('ok') END, CASE WHEN $3 IS NOT NULL THEN 'complete' END, $4, $5, $6,
            CASE WHEN $7 THEN 'POST' END, CASE WHEN $7 THEN 'https://receiver.example/late' END) $$";

/// The rules of history's CHECK constraints, as far as they can hold of what was learnt later: a finding has no status code, and
/// of what was found failed, or given up unsent, all that is known is that.
/// `{finals}`, `{failures}` and `{reasons}` are the names that the program has.
const RULES: [(&str, &str); 11] = [
    ("a state", "state IN ({finals})"),
    (
        "delivered means 2xx",
        "(state = 'delivered' AND resolved_from IS DISTINCT FROM 'person') = (coalesce(response_code, 0) BETWEEN 200 AND 299)",
    ),
    (
        "an answer means delivered or rejected",
        "(state IN ('delivered', 'rejected') AND resolved_from IS DISTINCT FROM 'person') = (response_code IS NOT NULL)",
    ),
    (
        "failed means certainly unsent",
        "state <> 'failed' OR coalesce(error_kind IN ({failures}), resolved_from IS NOT NULL)",
    ),
    (
        "unknown means perhaps received",
        "state <> 'unknown' OR (error_kind IN ({reasons}) AND resolved_from IS NULL)",
    ),
    ("only failed and unknown have an error", "error_kind IS NULL OR state IN ('failed', 'unknown')"),
    (
        "kind and detail come together",
        "(error_kind IS NULL) = (error_detail IS NULL) AND (recorded_error_kind IS NULL) = (recorded_error_detail IS NULL)",
    ),
    (
        "an attempt has a latency",
        "coalesce(recorded_error_kind, '') = 'dispatcher_lost' OR resolved_from IS NOT NULL
         OR (latency_ms IS NOT NULL) = (state <> 'skipped' AND coalesce(error_kind, '') <> 'render')",
    ),
    (
        "an answer has a body end and a digest",
        "(body_end IS NOT NULL) = (response_code IS NOT NULL) AND (response_sha256 IS NOT NULL) = (response_code IS NOT NULL)
         AND (response_bytes IS NOT NULL) = (response_code IS NOT NULL)",
    ),
    ("what was answered was sent", "response_code IS NULL OR (method IS NOT NULL AND url IS NOT NULL)"),
    (
        "what was not learnt later is as it was recorded",
        "resolved_from IS NOT NULL OR (state = recorded_state AND error_kind IS NOT DISTINCT FROM recorded_error_kind
                                       AND error_detail IS NOT DISTINCT FROM recorded_error_detail
                                       AND resolved_by IS NULL AND resolved_at IS NULL AND resolution_reason IS NULL)",
    ),
];

fn with_the_program_s_names(sql: &str) -> String {
    let list = |names: Vec<&str>| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let finals = State::ALL.into_iter().filter(|state| state.is_final()).map(State::as_str);
    sql.replace("{finals}", &list(finals.collect()))
        .replace("{failures}", &list(Failure::ALL.map(Failure::as_str).to_vec()))
        .replace("{reasons}", &list(UnknownReason::ALL.map(UnknownReason::as_str).to_vec()))
}

/// Every combination, in one database. Returns the state that each delivery ought to show.
async fn every_combination(database: &Database) -> Vec<(String, State)> {
    database.execute(WRITERS).await;
    let mut expected = Vec::new();
    let null = |text: Option<String>| text.unwrap_or_else(|| "NULL".to_owned());
    for (state, kind, code) in recorded() {
        for late in LATE {
            for found in FOUND {
                let kind = null(kind.map(|kind| format!("'{kind}'")));
                let code = null(code.map(|code| format!("{code}::smallint")));
                let id = database.text(&format!("SELECT record('{state}', {kind}, {code})::text")).await.unwrap();
                if let Some(found) = found {
                    let columns = "(delivery_id, source, state, resolved_by, reason)";
                    let values = format!("('{id}', 'person', '{found}', 'Ada', 'asked')");
                    database.execute(&format!("INSERT INTO postcall.resolution {columns} VALUES {values}")).await;
                }
                if let Some((late, more)) = late {
                    let more = more.replace("=> 200", "=> 200::smallint").replace("=> 500", "=> 500::smallint");
                    database.execute(&format!("SELECT learn('{id}', '{late}', {more})")).await;
                }
                // Only what is unknown can be resolved; the claim's own result outranks a finding.
                let later = late.map(|late| late.0).or(found).filter(|_| state == State::Unknown);
                expected.push((id, later.unwrap_or(state)));
            }
        }
    }
    expected
}

#[tokio::test]
async fn what_is_shown_obeys_the_rules_of_its_state_whatever_was_learnt_later() {
    let database = Database::new().await;
    let expected = every_combination(&database).await;
    assert_eq!(expected.len(), recorded().len() * LATE.len() * FOUND.len());
    for (id, state) in &expected {
        let shown =
            database.text(&format!("SELECT state FROM postcall.delivery_history WHERE delivery_id = '{id}'")).await;
        assert_eq!(shown.as_deref(), Some(state.as_str()), "{id}");
    }
    let rows = "SELECT count(*) FROM postcall.delivery_history";
    assert_eq!(database.number(rows).await, i64::try_from(expected.len()).unwrap(), "each is shown once");
    for (rule, sql) in RULES {
        let sql = with_the_program_s_names(sql);
        let breaks =
            format!("SELECT string_agg(h::text, E'\\n') FROM postcall.delivery_history AS h WHERE ({sql}) IS NOT true");
        assert_eq!(database.text(&breaks).await, None, "{rule}");
    }
}

#[tokio::test]
async fn what_is_told_of_an_error_or_an_attempt_comes_from_one_source_and_the_record_stays() {
    let database = Database::new().await;
    database.execute(WRITERS).await;
    let id = database.text("SELECT record('unknown', 'timeout', NULL)::text").await.unwrap();
    let story = "SELECT concat_ws('|', state, error_kind, error_detail, response_code, latency_ms, url, resolved_from,
                                  recorded_state, recorded_error_kind, recorded_error_detail) FROM postcall.delivery_history";
    let told = async || database.text(story).await.unwrap();
    assert_eq!(told().await, "unknown|timeout|as recorded|5|https://receiver.example/|unknown|timeout|as recorded");
    let finding = format!(
        "INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason)
         VALUES ('{id}', 'person', 'delivered', 'Ada', 'asked')"
    );
    database.execute(&finding).await;
    assert_eq!(told().await, "delivered|5|https://receiver.example/|person|unknown|timeout|as recorded");
    database
        .execute(&format!("SELECT learn('{id}', 'failed', error_kind => 'connect', error_detail => 'refused')"))
        .await;
    assert_eq!(
        told().await,
        "failed|connect|refused|9|https://receiver.example/late|claim|unknown|timeout|as recorded"
    );
}

#[tokio::test]
async fn each_is_found_by_the_state_the_error_and_the_code_that_it_shows() {
    let database = Database::new().await;
    every_combination(&database).await;
    let found = async |filter: HistoryFilter| {
        let rows = database.store.history(&filter, 1_000).await.unwrap();
        rows.iter().map(|row| row.delivery_id.to_string()).collect::<Vec<_>>()
    };
    let shown = async |condition: &str| -> Vec<String> {
        let sql = format!(
            "SELECT coalesce(string_agg(delivery_id::text, ' ' ORDER BY delivery_id DESC), '')
             FROM postcall.delivery_history WHERE {condition}"
        );
        database.text(&sql).await.unwrap().split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(found(HistoryFilter::default()).await, shown("true").await);
    for state in State::ALL {
        let filter = HistoryFilter { states: Some(vec![state]), ..HistoryFilter::default() };
        let ids = shown(&format!("state = '{state}'")).await;
        assert_eq!(found(filter.clone()).await, ids, "{state}");
        let counted = database.store.count_history(&filter, 1_000).await.unwrap();
        assert_eq!(counted.first().map_or(0, |counted| counted.count), i64::try_from(ids.len()).unwrap());
        // Counting ends one past what is wanted.
        let counted = database.store.count_history(&filter, 5).await.unwrap();
        assert_eq!(counted.first().map_or(0, |counted| counted.count), i64::try_from(ids.len().min(6)).unwrap());
    }
    for kind in ErrorKind::ALL {
        let filter = HistoryFilter { error_kind: Some(kind), ..HistoryFilter::default() };
        assert_eq!(found(filter).await, shown(&format!("error_kind = '{kind}'")).await, "{kind}");
    }
    for code in [200, 204, 302, 500, 404] {
        let filter = HistoryFilter { response_code: Some(code), ..HistoryFilter::default() };
        assert_eq!(found(filter).await, shown(&format!("response_code = {code}")).await, "{code}");
    }
}

#[tokio::test]
async fn a_row_whose_method_the_program_does_not_know_keeps_nobody_from_reading_the_others() {
    let database = Database::new().await;
    database.execute(WRITERS).await;
    for _ in 0..2 {
        database.text("SELECT record('delivered', NULL, 200::smallint)::text").await.unwrap();
    }
    let foreign = "INSERT INTO postcall.delivery SELECT (jsonb_populate_record(delivery, jsonb_build_object(
                       'delivery_id', postcall.uuid_v7(), 'method', 'PATCH'))).* FROM postcall.delivery LIMIT 1";
    database.execute(foreign).await;
    let rows = database.store.history(&HistoryFilter::default(), 10).await.unwrap();
    let methods: Vec<_> = rows.iter().filter_map(|row| row.method.as_deref()).collect();
    assert_eq!(methods, ["PATCH", "POST", "POST"]);
}
