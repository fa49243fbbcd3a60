//! Claims as many deliveries as there are free permits, and starts an attempt for each.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Stop;
use super::attempt::attempt;
use super::backoff::Outage;
use super::rest::Rest;
use super::templates::{Templates, unloadable};
use crate::domain::claim::{Claimed, Settled, Story};
use crate::domain::delivery::Ending;
use crate::store::{Store, StoreError};
use crate::webhook::Webhook;

/// Deliveries that one claim takes at most, however many permits are free: keeps one statement short.
const MAX_CLAIM: usize = 500;

pub(super) struct Claimer {
    store: Store,
    dispatcher_id: i32,
    permits: Arc<Semaphore>,
    attempts: TaskTracker,
    webhook: Arc<Webhook>,
    settled: mpsc::Sender<Settled>,
    stop: Stop,
    templates: Templates,
    outage: Outage,
    /// A claim whose answer was lost. Nothing of it was sent; it must be given back before anything else is claimed.
    in_doubt: Option<Uuid>,
}

impl Claimer {
    pub(super) fn new(
        store: Store,
        dispatcher_id: i32,
        permits: Arc<Semaphore>,
        attempts: TaskTracker,
        webhook: Arc<Webhook>,
        settled: mpsc::Sender<Settled>,
        stop: Stop,
    ) -> Claimer {
        let templates = Templates::new(store.clone());
        let outage = Outage::none("claimer");
        Claimer { store, dispatcher_id, permits, attempts, webhook, settled, stop, templates, outage, in_doubt: None }
    }

    /// Claims until told to drain. A claim under way is never abandoned: what it took is attempted.
    pub(super) async fn run(mut self) {
        let drain = self.stop.drain.clone();
        let mut rest = Rest::new(self.store.clone());
        while !drain.is_cancelled() {
            let Some(permits) = drain.run_until_cancelled(self.free_permits()).await else { break };
            match self.claim(permits).await {
                Ok(0) => drop(drain.run_until_cancelled(rest.rest()).await),
                Ok(_) => rest.over(),
                Err(error) => drop(drain.run_until_cancelled(self.outage.wait(&error)).await),
            }
        }
        // The last chance to give back a claim in doubt; what fails here is left in `sending`.
        self.settle_doubt().await.ok();
    }

    /// Waits for a free permit and takes all that are free by then.
    async fn free_permits(&self) -> OwnedSemaphorePermit {
        loop {
            let Ok(mut permits) = self.permits.clone().acquire_owned().await else {
                // The semaphore is never closed.
                std::future::pending::<()>().await;
                continue;
            };
            let more = self.permits.available_permits().min(MAX_CLAIM - 1);
            if let Ok(more) = self.permits.clone().try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
                permits.merge(more);
            }
            return permits;
        }
    }

    /// Claims for these permits and starts the attempts. Returns how many there were.
    async fn claim(&mut self, mut permits: OwnedSemaphorePermit) -> Result<usize, StoreError> {
        self.settle_doubt().await?;
        let token = Uuid::now_v7();
        let claimed = match self.store.claim(self.dispatcher_id, token, permits.num_permits()).await {
            Ok(claimed) => claimed,
            Err(error) => {
                self.in_doubt = Some(token);
                return Err(error);
            }
        };
        self.outage.over();
        let count = claimed.len();
        match self.templates.get(claimed.iter().map(|one| one.version)).await {
            Ok(templates) => {
                for one in claimed {
                    let template = templates.get(&one.version).cloned().unwrap_or_else(|| Arc::new(Err(unloadable())));
                    if let Some(permit) = permits.split(1) {
                        self.start(one, template, permit);
                    }
                }
                Ok(count)
            }
            Err(error) => {
                self.give_back(claimed).await;
                Err(error)
            }
        }
    }

    fn start(&self, claimed: Claimed, template: super::templates::Template, permit: OwnedSemaphorePermit) {
        let (webhook, settled, cut) = (self.webhook.clone(), self.settled.clone(), self.stop.cut.clone());
        self.attempts.spawn(async move {
            let result = attempt(claimed, template, &webhook, &cut).await;
            // The finisher outlives every attempt, so this waits for a place in its queue and nothing else.
            settled.send(result).await.ok();
            drop(permit);
        });
    }

    /// Claimed, but not attempted: back to waiting.
    async fn give_back(&self, claimed: Vec<Claimed>) {
        for one in claimed {
            self.settled.send(one.hold.settle(Ending::Unsent, Story::default())).await.ok();
        }
    }

    async fn settle_doubt(&mut self) -> Result<(), StoreError> {
        if let Some(token) = self.in_doubt {
            self.store.release_claim(token).await?;
            self.in_doubt = None;
        }
        Ok(())
    }
}
