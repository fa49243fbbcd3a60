//! What has to be done now and then: making partitions before they are needed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::PATIENCE;
use crate::store::Store;

/// Partitions are made two periods ahead, so an hour more or less does not matter.
const EVERY: Duration = Duration::from_secs(3_600);

/// Works at once and then every hour, until `stop`.
pub(super) async fn run(store: Store, stop: CancellationToken) {
    let mut hours = tokio::time::interval(EVERY);
    while stop.run_until_cancelled(hours.tick()).await.is_some() {
        // A connection for the occasion: it would idle for an hour.
        match store.session(PATIENCE).make_partitions().await {
            Ok(names) if names.is_empty() => {}
            Ok(names) => info!(partitions = names.join(", "), "made partitions ahead of time"),
            Err(error) => warn!(%error, "could not make partitions; the default ones take what comes"),
        }
    }
}
