//! Regular work on the tables: it makes partitions before they are needed, and removes old calls and history.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::STATEMENT_TIMEOUT;
use super::retention::{BETWEEN_PORTIONS, PRUNING_PATIENCE, Pruned, prune};
use crate::domain::chain::chain;
use crate::domain::retention::Retention;
use crate::metrics::{Counters, Operation};
use crate::store::retention::Verdict;
use crate::store::{Store, StoreError};

/// Partitions are made two periods ahead, and rows that are removed are at least a day old, so an hour more or less
/// does not matter.
const EVERY: Duration = Duration::from_secs(3_600);

/// Works at once and then every hour, until `stop`. `stop` also interrupts pruning, which never leaves anything half
/// done.
pub(super) async fn run(store: Store, retention: Retention, counts: Arc<Counters>, stop: CancellationToken) {
    let errors = counts.errors(Operation::Housekeeping);
    let mut hours = tokio::time::interval(EVERY);
    while stop.run_until_cancelled(hours.tick()).await.is_some() {
        // The connection is opened for each run, because it would otherwise be idle for an hour.
        match store.session(STATEMENT_TIMEOUT).counting(errors).make_partitions().await {
            Ok(names) => names.iter().for_each(|name| info!(partition = name, "made a partition ahead of time")),
            Err(error) => {
                warn!(error = %chain(&error), "could not make partitions; the default partitions take new rows")
            }
        }
        if let Some(Err(error)) = stop.run_until_cancelled(expire(&store, errors)).await {
            warn!(error = %chain(&error), "could not delete excerpts of responses that are past their time");
        }
        if !retention.is_for_ever() {
            let pruned = stop.run_until_cancelled(let_go(&store, retention, errors)).await;
            if let Some(Err(error)) = pruned {
                warn!(error = %chain(&error), "could not remove what is old; it stays until the next time");
            }
        }
    }
}

/// Deletes the excerpts of responses that are past their time, also those of dispatchers that are no longer told to keep
/// any.
async fn expire(store: &Store, errors: &Arc<AtomicU64>) -> Result<(), StoreError> {
    let mut session = store.session(STATEMENT_TIMEOUT).counting(errors);
    let mut removed = 0;
    loop {
        match session.expire_excerpts().await? {
            0 => break,
            portion => removed += portion,
        }
        tokio::time::sleep(BETWEEN_PORTIONS).await;
    }
    if let Some(excerpts) = NonZeroU64::new(removed) {
        info!(excerpts, "deleted excerpts of responses that were past their time");
    }
    Ok(())
}

async fn let_go(store: &Store, retention: Retention, errors: &Arc<AtomicU64>) -> Result<(), StoreError> {
    let mut session = store.session(PRUNING_PATIENCE).counting(errors);
    prune(&mut session, retention, |source, _, outcome| match outcome {
        Pruned::Left(None) => info!(partition = source, "removed an old partition"),
        Pruned::Left(Some(rows)) => info!(partition = source, rows, "removed old rows"),
        Pruned::Stays(Verdict::Pending(delivery)) => {
            let delivery_id = delivery.map(tracing::field::display);
            warn!(
                partition = source,
                delivery.id = delivery_id,
                "an old partition stays: this delivery of it is still to be sent"
            );
        }
        Pruned::Stays(Verdict::NoIndex) => {
            warn!(partition = source, "old calls stay: no index finds them (`postcall prune --dry-run` says more)");
        }
        Pruned::InUse => info!(partition = source, "an old partition is in use; it stays until the next time"),
        Pruned::Stays(Verdict::Young | Verdict::Detached | Verdict::Due) => {}
    })
    .await
}
