//! The platform: it completes calls in transactions of its own, whatever happens to the database meanwhile.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Calls in one of the platform's transactions.
const CALLS_EACH: usize = 10;
/// How long it tries.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long it waits before it connects again. A pace, not a hope: it tries until it succeeds.
const BEFORE_NEXT_TRY: Duration = Duration::from_millis(20);

/// Completes at least `calls` calls of agent `a` in the background. Gives the ids of those whose commit was
/// acknowledged; where a connection broke during a commit, there may be more than that.
pub fn complete_calls(url: &str, calls: usize) -> JoinHandle<Vec<Uuid>> {
    let url = url.to_owned();
    tokio::spawn(async move {
        let mut acknowledged = Vec::with_capacity(calls);
        let began = Instant::now();
        while acknowledged.len() < calls {
            assert!(began.elapsed() < PATIENCE, "{} of {calls} calls committed", acknowledged.len());
            if complete_until_error(&url, calls, &mut acknowledged).await.is_err() {
                tokio::time::sleep(BEFORE_NEXT_TRY).await;
            }
        }
        acknowledged
    })
}

async fn complete_until_error(url: &str, calls: usize, acknowledged: &mut Vec<Uuid>) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    while acknowledged.len() < calls {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "INSERT INTO postcall.outbox (agent, call)
             SELECT 'a', json_build_object('number', number, 'transcript', repeat('word ', 100))
             FROM generate_series(1, $1) AS number
             RETURNING id",
        )
        .bind(i64::try_from(CALLS_EACH.min(calls - acknowledged.len())).unwrap())
        .fetch_all(&mut connection)
        .await?;
        acknowledged.extend(ids);
    }
    Ok(())
}
