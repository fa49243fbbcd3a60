//! What is known of a dispatcher at any moment, for its metrics.

use std::sync::Arc;

use super::in_flight::Places;
use super::lease::Lease;
use super::{DispatcherSettings, StopTokens};
use crate::metrics::Live;

/// Returns what says it. It copies no host and no lane, so that it is cheap.
pub(super) fn look(
    settings: &DispatcherSettings,
    stop: &StopTokens,
    lease: &Arc<Lease>,
    places: &Places,
) -> impl Fn() -> Live + Send + Sync + use<> {
    let (length, max_unrecorded, concurrency) = (settings.lease, settings.max_unrecorded, settings.limits.in_flight);
    let (drain, lease, places) = (stop.drain.clone(), lease.clone(), places.clone());
    move || {
        let (in_flight, hosts) = places.schedule.in_flight_and_ailing();
        Live {
            draining: drain.is_cancelled(),
            lease_remaining: lease.remaining(length),
            in_flight,
            concurrency,
            unrecorded: places.waiting_to_be_recorded(max_unrecorded),
            lost: places.losses.count(),
            hosts_silent: hosts.silent,
            hosts_unreachable: hosts.unreachable,
        }
    }
}
