//! Finds out when unreachable hosts can be reached again. A probe opens a connection, with TLS if the action's URL says
//! https, and sends nothing. A request is never used to try a host.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::schedule::Schedule;
use crate::domain::host::Origin;
use crate::scheduler::Probe;
use crate::webhook::Webhook;

/// How many probes run at the same time for hosts that were not probed yet, or whose last probe was refused. Other
/// hosts wait for their turn.
const MAX_PROBES: usize = 128;
/// How many probes run at the same time for hosts that gave no answer to their last probe. Each of these probes takes
/// all the time that a probe has.
const MAX_PROBES_OF_BLACK_HOLES: usize = 128;

/// Probes hosts when their probes are due, until `stop`.
pub(super) async fn run(schedule: Schedule, webhook: Arc<Webhook>, stop: CancellationToken) {
    let mut probes: JoinSet<(Origin, Probe)> = JoinSet::new();
    let mut silent: HashSet<Origin> = HashSet::new();
    let mut black_holes = 0;
    loop {
        let (room, room_for_black_holes) = room(probes.len(), black_holes);
        tokio::select! {
            () = stop.cancelled() => return,
            Some(Ok((host, probe))) = probes.join_next() => {
                black_holes -= usize::from(silent.remove(&host));
                match probe {
                    Probe::Connected => info!(host = %host.host, "a host can be reached again"),
                    Probe::Refused | Probe::NoAnswer => debug!(host = %host.host, ?probe, "a host still cannot be reached"),
                }
                schedule.probed(&host, probe);
            }
            (hosts, quiet) = schedule.probes_due(room, room_for_black_holes), if room + room_for_black_holes > 0 => {
                black_holes += quiet.len();
                silent.extend(quiet.iter().cloned());
                for host in hosts.into_iter().chain(quiet) {
                    let webhook = webhook.clone();
                    probes.spawn(async move {
                        // A panic is a defect of postcall, and must not end the probes of this host.
                        let probe = AssertUnwindSafe(webhook.probe(&host)).catch_unwind();
                        let probe = match probe.await {
                            Ok(Some(true)) => Probe::Connected,
                            Ok(Some(false)) => Probe::Refused,
                            Ok(None) | Err(_) => Probe::NoAnswer,
                        };
                        (host, probe)
                    });
                }
            }
        }
    }
}

/// How many more probes may begin, and how many more for hosts that gave no answer to their last one, if so many are under way in all, and
/// so many of them for such hosts.
fn room(probes: usize, black_holes: usize) -> (usize, usize) {
    let others = probes.saturating_sub(black_holes);
    (MAX_PROBES.saturating_sub(others), MAX_PROBES_OF_BLACK_HOLES.saturating_sub(black_holes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_give_no_answer_and_others_take_no_room_from_each_other() {
        assert_eq!(room(0, 0), (MAX_PROBES, MAX_PROBES_OF_BLACK_HOLES));
        assert_eq!(room(30, 10), (MAX_PROBES - 20, MAX_PROBES_OF_BLACK_HOLES - 10));
        assert_eq!(room(MAX_PROBES + 1, 1), (0, MAX_PROBES_OF_BLACK_HOLES - 1));
    }
}
