//! Claims as many deliveries as there are free permits, and starts an attempt for each.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use tracing::info;
use uuid::Uuid;

use super::attempt::attempt;
use super::backoff::Outage;
use super::finisher::Handed;
use super::lease::{Lease, Registration};
use super::mark::Mark;
use super::rest::Rest;
use super::templates::{Template, Templates, unloadable};
use super::{PATIENCE, Stop};
use crate::domain::claim::{Claimed, Story, VersionKey};
use crate::domain::delivery::Ending;
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
    permits: Arc<Semaphore>,
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
        permits: Arc<Semaphore>,
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
            permits,
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
        let drain = self.stop.drain.clone();
        while !drain.is_cancelled() {
            let Some(permits) = drain.run_until_cancelled(self.free_permits()).await else { break };
            match self.claim(permits).await {
                Ok(0) => drop(drain.run_until_cancelled(self.rest.rest(&mut self.session)).await),
                Ok(_) => self.rest.over(),
                Err(error) => drop(drain.run_until_cancelled(self.outage.wait(&error)).await),
            }
        }
        // The last chance to give back a claim in doubt; what fails here is given up when this dispatcher retires.
        self.settle_doubt().await.ok();
    }

    /// Waits for a free permit and takes all that are free by then.
    async fn free_permits(&self) -> OwnedSemaphorePermit {
        let Ok(mut permits) = self.permits.clone().acquire_owned().await else {
            // Only a closed semaphore refuses, and nobody closes this one.
            return std::future::pending().await;
        };
        let more = self.permits.available_permits().min(MAX_CLAIM - 1);
        if let Ok(more) = self.permits.clone().try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
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
            match self.session.claim(self.claimant, token, after, limit).await {
                Ok(claimed) if self.mark.note(&claimed, limit) => continue,
                Ok(claimed) => break claimed,
                Err(error) => {
                    self.in_doubt = Some((self.claimant, token));
                    return Err(error);
                }
            }
        };
        self.outage.over();
        let count = claimed.len();
        match self.templates.get(&mut self.session, claimed.iter().map(|one| one.version)).await {
            Ok(templates) => {
                self.start_all(claimed, &templates, &fence, permits);
                Ok(count)
            }
            Err(error) => {
                self.give_back(claimed, permits).await;
                Err(error)
            }
        }
    }

    fn start_all(
        &self,
        claimed: Vec<Claimed>,
        templates: &HashMap<VersionKey, Template>,
        fence: &Fence,
        mut permits: OwnedSemaphorePermit,
    ) {
        for one in claimed {
            let template = templates.get(&one.version).cloned().unwrap_or_else(|| Arc::new(Err(unloadable())));
            // There are as many permits as were asked for at most.
            if let Some(permit) = permits.split(1) {
                self.start(one, template, fence.clone(), permit);
            }
        }
    }

    fn start(&self, claimed: Claimed, template: Template, fence: Fence, permit: OwnedSemaphorePermit) {
        let (webhook, settled, cut) = (self.webhook.clone(), self.settled.clone(), self.stop.cut.clone());
        self.attempts.spawn(async move {
            let result = attempt(claimed, template, &webhook, &fence, &cut).await;
            // The finisher outlives every attempt, and its queue has a place for every permit.
            settled.send(Handed { settled: result, permit }).await.ok();
        });
    }

    /// Claimed, but not attempted: back to waiting.
    async fn give_back(&self, claimed: Vec<Claimed>, mut permits: OwnedSemaphorePermit) {
        for one in claimed {
            if let Some(permit) = permits.split(1) {
                let settled = one.hold.settle(Ending::Unsent, Story::default());
                self.settled.send(Handed { settled, permit }).await.ok();
            }
        }
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
