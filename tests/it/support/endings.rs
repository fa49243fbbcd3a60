//! Makes deliveries that have ended, without a dispatcher and a receiver.

use sqlx::AssertSqlSafe;

use super::database::Database;

/// Inserts `count` calls of agent a and lets their deliveries end in `state`, as a dispatcher would. Returns their ids,
/// the oldest first.
pub async fn ended(database: &Database, state: &str, count: i32) -> Vec<String> {
    sqlx::query("INSERT INTO postcall.outbox (agent, call) SELECT 'a', '{}' FROM generate_series(1, $1)")
        .bind(count)
        .execute(&database.pool)
        .await
        .unwrap();
    end_all(database, state).await
}

/// Lets everything that waits end in `state`.
pub async fn end_all(database: &Database, state: &str) -> Vec<String> {
    let sql = format!(
        "WITH moved AS (DELETE FROM postcall.waiting RETURNING *)
         INSERT INTO postcall.delivery
             (delivery_id, call_id, claim, action_id, created_at, claimed_at, finished_at, action_version, dispatcher_id,
              agent, call_sid, state, error_kind, latency_ms, response_code, response_bytes, response_sha256, body_end, method, url)
         SELECT delivery_id, call_id, gen_random_uuid(), action_id, created_at, now(), now(), 1, 1, agent, call_sid, state,
                CASE state WHEN 'failed' THEN 'dns' WHEN 'unknown' THEN 'timeout' END,
                CASE state WHEN 'skipped' THEN NULL ELSE 1 END, code, code * 0, CASE WHEN code > 0 THEN sha256('') END,
                CASE WHEN code > 0 THEN 'complete' END, 'POST', 'https://receiver.example/'
         FROM moved, (VALUES ('{state}', CASE '{state}' WHEN 'delivered' THEN 200 WHEN 'rejected' THEN 422 END))
                     AS of (state, code)
         RETURNING delivery_id::text"
    );
    let mut ids: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&database.pool).await.unwrap();
    ids.sort();
    ids
}
