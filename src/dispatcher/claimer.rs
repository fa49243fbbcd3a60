//! Claims as many deliveries as there are free permits, and starts an attempt for each.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::TaskTracker;
use tracing::info;
use uuid::Uuid;

use super::attempt::attempt;
use super::backoff::Outage;
use super::finisher::Handed;
use super::lease::{Lease, Registration};
use super::mark::Mark;
use super::place::{Place, Places};
use super::rest::Rest;
use super::templates::{Template, Templates, unloadable};
use super::unstarted::Unstarted;
use super::{PATIENCE, Stop};
use crate::domain::claim::{Claimed, VersionKey};
use crate::store::claim::Claimant;
use crate::store::session::Session;
use crate::store::{Store, StoreError};
use crate::webhook::{Fence, Webhook};

/// Deliveries that one claim takes at most, however many permits are free: keeps one statement short.
const MAX_CLAIM: usize = 500;
/// The epoch of a dispatcher that has not disowned a claim yet.
const FIRST_EPOCH: i32 = 1;

pub(super) struct Claimer {
    session: Session,
    lease: Arc<Lease>,
    /// In whose name the next claim is made.
    claimant: Claimant,
    mark: Mark,
    places: Places,
    attempts: TaskTracker,
    webhook: Arc<Webhook>,
    settled: mpsc::Sender<Handed>,
    stop: Stop,
    templates: Templates,
    rest: Rest,
    outage: Outage,
    /// A claim whose answer was lost. Nothing of it was sent; it must be disowned before anything else is claimed.
    in_doubt: Option<(Claimant, Uuid)>,
}

impl Claimer {
    pub(super) fn new(
        store: &Store,
        lease: Arc<Lease>,
        places: Places,
        attempts: TaskTracker,
        webhook: Arc<Webhook>,
        settled: mpsc::Sender<Handed>,
        stop: Stop,
    ) -> Claimer {
        Claimer {
            session: store.session(PATIENCE),
            claimant: Claimant { dispatcher_id: lease.current().dispatcher_id, epoch: FIRST_EPOCH },
            lease,
            mark: Mark::start(),
            places,
            attempts,
            webhook,
            settled,
            stop,
            templates: Templates::new(),
            rest: Rest::new(store.clone()),
            outage: Outage::none("claimer"),
            in_doubt: None,
        }
    }

    /// Claims until told to drain. A claim under way is never abandoned: what it took is attempted.
    pub(super) async fn run(mut self) {
        let ended = AssertUnwindSafe(self.claim_until_drained()).catch_unwind().await;
        // The last chance to give back a claim in doubt; what fails here is given up when this dispatcher retires.
        self.settle_doubt().await.ok();
        if let Err(panic) = ended {
            resume_unwind(panic);
        }
    }

    async fn claim_until_drained(&mut self) {
        let drain = self.stop.drain.clone();
        while !drain.is_cancelled() {
            let Some(permits) = drain.run_until_cancelled(self.free_permits()).await else { break };
            match self.claim(permits).await {
                Ok(0) => drop(drain.run_until_cancelled(self.rest.rest(&mut self.session)).await),
                Ok(_) => self.rest.over(),
                Err(error) => drop(drain.run_until_cancelled(self.outage.wait(&error)).await),
            }
        }
    }

    /// Waits for a free permit and takes all that are free by then.
    async fn free_permits(&self) -> OwnedSemaphorePermit {
        let Ok(mut permits) = self.places.permits.clone().acquire_owned().await else {
            // Only a closed semaphore refuses, and nobody closes this one.
            return std::future::pending().await;
        };
        let more = self.places.permits.available_permits().min(MAX_CLAIM - 1);
        if let Ok(more) = self.places.permits.clone().try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
            permits.merge(more);
        }
        permits
    }

    /// Claims for these permits and starts the attempts. Returns how many there were.
    async fn claim(&mut self, permits: OwnedSemaphorePermit) -> Result<usize, StoreError> {
        self.settle_doubt().await?;
        // Asked before the claim: what is claimed under an id goes behind the fence of that id, whatever happens meanwhile.
        let Registration { dispatcher_id, fence } = self.lease.current();
        if fence.is_closed() {
            // Nothing that is claimed now could be sent.
            return Ok(0);
        }
        if self.claimant.dispatcher_id != dispatcher_id {
            self.claimant = Claimant { dispatcher_id, epoch: FIRST_EPOCH };
        }
        let claimed = loop {
            let token = Uuid::now_v7();
            let (after, limit) = (self.mark.next(), permits.num_permits());
            // Noted before, so that a panic leaves it in doubt, too.
            self.in_doubt = Some((self.claimant, token));
            let claimed = self.session.claim(self.claimant, token, after, limit).await?;
            self.in_doubt = None;
            if !self.mark.note(&claimed, limit) {
                break claimed;
            }
        };
        self.outage.over();
        let unstarted = Unstarted::new(claimed, permits, &self.places.losses, self.settled.clone());
        let templates = self.templates.get(&mut self.session, unstarted.iter().map(|one| one.version)).await?;
        Ok(self.start_all(unstarted, &templates, &fence))
    }

    fn start_all(&self, mut unstarted: Unstarted, templates: &HashMap<VersionKey, Template>, fence: &Fence) -> usize {
        let mut count = 0;
        while let Some((claimed, place)) = unstarted.next() {
            let template = templates.get(&claimed.version).cloned().unwrap_or_else(|| Arc::new(Err(unloadable())));
            self.start(claimed, template, fence.clone(), place);
            count += 1;
        }
        count
    }

    fn start(&self, claimed: Claimed, template: Template, fence: Fence, place: Place) {
        let (webhook, settled, cut) = (self.webhook.clone(), self.settled.clone(), self.stop.cut.clone());
        self.attempts.spawn(async move {
            let result = attempt(claimed, template, &webhook, &fence, &cut).await;
            // The finisher's queue has room for every place. Without a finisher the place counts the loss.
            settled.send(Handed { settled: result, place }).await.ok();
        });
    }

    async fn settle_doubt(&mut self) -> Result<(), StoreError> {
        if let Some((claimant, token)) = self.in_doubt {
            let (claimant, released) = self.session.disown_claim(claimant, token).await?;
            self.in_doubt = None;
            self.claimant = claimant;
            info!(released, "a claim whose answer was lost has been given back");
        }
        Ok(())
    }
}
