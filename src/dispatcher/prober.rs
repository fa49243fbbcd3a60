//! Finds out when hosts that could not be reached are back: by connections, with TLS where the action's URL says https,
//! over which nothing is sent. A request is never what tries a host out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::schedule::Schedule;
use crate::domain::host::Origin;
use crate::webhook::Webhook;

/// Probes that are under way at the same time. More hosts than that wait for their turn; each probe has a time limit.
const MAX_PROBES: usize = 32;

/// Probes hosts when that is due, until `stop`.
pub(super) async fn run(schedule: Arc<Schedule>, webhook: Arc<Webhook>, stop: CancellationToken) {
    let mut probes: JoinSet<(Origin, bool)> = JoinSet::new();
    loop {
        let room = MAX_PROBES - probes.len();
        tokio::select! {
            () = stop.cancelled() => return,
            Some(Ok((host, connected))) = probes.join_next() => {
                match connected {
                    true => info!(host = %host.host, "a host can be reached again"),
                    false => debug!(host = %host.host, "a host still cannot be reached"),
                }
                schedule.probed(&host, connected);
            }
            hosts = schedule.probes_due(room), if room > 0 => {
                for host in hosts {
                    let webhook = webhook.clone();
                    probes.spawn(async move {
                        // A panic is a defect of ours, and no reason to leave a host alone for ever.
                        let probe = AssertUnwindSafe(webhook.probe(&host)).catch_unwind();
                        let connected = probe.await.unwrap_or(false);
                        (host, connected)
                    });
                }
            }
        }
    }
}
