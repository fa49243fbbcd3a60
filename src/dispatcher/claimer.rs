//! Claims as many deliveries as there are free permits, and no more bytes than the budget has room for, and starts an
//! attempt for each.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;

use super::attempt::{Means, attempt};
use super::backoff::Outage;
use super::budget::{SMALL_TEXT, Share};
use super::finisher::Handed;
use super::lease::{Lease, Registration};
use super::mark::Mark;
use super::pace::{self, Pace};
use super::place::{Place, Places};
use super::rest::Rest;
use super::templates::{Compiled, Template, Templates};
use super::unstarted::Unstarted;
use crate::domain::claim::{Claimed, VersionKey};
use crate::store::claim::{Claimant, Disowned, Portion};
use crate::store::session::Session;
use crate::store::{Store, StoreError};
use crate::webhook::Fence;

/// The epoch of a dispatcher that has not disowned a claim yet.
const FIRST_EPOCH: i32 = 1;

pub(super) struct Claimer {
    store: Store,
    session: Session,
    lease: Arc<Lease>,
    /// In whose name the next claim is made.
    claimant: Claimant,
    mark: Mark,
    pace: Pace,
    places: Places,
    attempts: TaskTracker,
    means: Means,
    settled: mpsc::Sender<Handed>,
    drain: CancellationToken,
    templates: Templates,
    rest: Rest,
    outage: Outage,
    /// A claim whose answer was lost. Nothing of it was sent; it must be disowned before anything else is claimed.
    in_doubt: Option<Doubted>,
}

/// A claim whose answer was lost.
#[derive(Clone, Copy)]
struct Doubted {
    claimant: Claimant,
    token: Uuid,
    /// Whether what it took is to be passed over, because it took too long in all the time there is.
    pass_over: bool,
}

impl Claimer {
    pub(super) fn new(
        store: &Store,
        lease: Arc<Lease>,
        places: Places,
        attempts: TaskTracker,
        means: Means,
        settled: mpsc::Sender<Handed>,
        drain: CancellationToken,
    ) -> Claimer {
        let pace = Pace::default();
        Claimer {
            session: store.session(pace.patience()),
            store: store.clone(),
            claimant: Claimant { dispatcher_id: lease.current().dispatcher_id, epoch: FIRST_EPOCH },
            lease,
            mark: Mark::start(),
            pace,
            places,
            attempts,
            means,
            settled,
            drain,
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
        let drain = self.drain.clone();
        while !drain.is_cancelled() {
            let Some(permits) = drain.run_until_cancelled(self.free_permits()).await else { break };
            match self.claim(permits).await {
                Ok(Found::Work) => self.rest.over(),
                Ok(Found::Nothing) => drop(drain.run_until_cancelled(self.rest.rest(&mut self.session)).await),
                Ok(Found::NothingSmall) => drop(drain.run_until_cancelled(self.rest_or_room()).await),
                Err(error) => drop(drain.run_until_cancelled(self.outage.wait(&error)).await),
            }
        }
    }

    /// Rests, but no longer than until there is room for large calls.
    async fn rest_or_room(&mut self) {
        tokio::select! {
            () = self.means.budget.texts_free() => {}
            () = self.rest.rest(&mut self.session) => {}
        }
    }

    /// Waits for a free permit and takes all that are free by then.
    async fn free_permits(&self) -> OwnedSemaphorePermit {
        let Ok(mut permits) = self.places.permits.clone().acquire_owned().await else {
            // Only a closed semaphore refuses, and nobody closes this one.
            return std::future::pending().await;
        };
        let more = self.places.permits.available_permits().min(pace::MAX_DELIVERIES - 1);
        if let Ok(more) = self.places.permits.clone().try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
            permits.merge(more);
        }
        permits
    }

    /// Claims for these permits and starts the attempts.
    async fn claim(&mut self, permits: OwnedSemaphorePermit) -> Result<Found, StoreError> {
        self.settle_doubt().await?;
        // Asked before the claim: what is claimed under an id goes behind the fence of that id, whatever happens meanwhile.
        let Registration { dispatcher_id, fence } = self.lease.current();
        if fence.is_closed() {
            // Nothing that is claimed now could be sent.
            return Ok(Found::Nothing);
        }
        if self.claimant.dispatcher_id != dispatcher_id {
            self.claimant = Claimant { dispatcher_id, epoch: FIRST_EPOCH };
        }
        let texts = self.means.budget.reserve_texts();
        let claimed = self.take(permits.num_permits(), texts.is_some()).await?;
        self.outage.over();
        let found = match (claimed.is_empty(), &texts) {
            (false, _) => Found::Work,
            (true, Some(_)) => Found::Nothing,
            (true, None) => Found::NothingSmall,
        };
        // Whatever ends the starting, what was not started goes back to waiting.
        let unstarted = Unstarted::new(claimed, permits, &self.places.losses, self.settled.clone());
        let templates = self.templates.get(&mut self.session, unstarted.iter().map(|one| one.version)).await?;
        self.start_all(unstarted, &templates, &fence, texts);
        Ok(found)
    }

    /// What the next claim takes at most.
    fn portion(&self, permits: usize, room_for_large: bool) -> Portion {
        let max_call_bytes = self.means.budget.max_call_bytes();
        Portion {
            deliveries: self.pace.deliveries().min(permits),
            bytes: self.pace.bytes(),
            call_bytes: if room_for_large { max_call_bytes } else { SMALL_TEXT.min(max_call_bytes) },
            max_call_bytes,
            fetch: self.pace.fetches(),
        }
    }

    /// The claim itself; a second one where the first saw only a part of the queue and found nothing in it, or where the
    /// database refused a row of it.
    async fn take(&mut self, permits: usize, room_for_large: bool) -> Result<Vec<Claimed>, StoreError> {
        loop {
            let (token, portion) = (Uuid::now_v7(), self.portion(permits, room_for_large));
            let after = self.mark.next();
            // Noted before, so that a panic leaves it in doubt, too.
            self.in_doubt = Some(Doubted { claimant: self.claimant, token, pass_over: false });
            match self.session.claim(self.claimant, token, after, portion).await {
                Ok(taken) => {
                    self.in_doubt = None;
                    self.change_pace(|pace| pace.answered(taken.claimed.len()));
                    if !self.mark.note(&taken) {
                        return Ok(taken.claimed);
                    }
                }
                Err(error) => self.after_failure(error).await?,
            }
        }
    }

    /// What a claim that failed says about the next one. Returns the failure if it is to be waited out.
    async fn after_failure(&mut self, failure: StoreError) -> Result<(), StoreError> {
        if failure.is_about_time() {
            let exhausted = self.change_pace(Pace::unanswered);
            if let Some(doubted) = &mut self.in_doubt {
                doubted.pass_over = exhausted;
            }
            return Err(failure);
        }
        if failure.is_about_what_is_stored() {
            let exhausted = self.change_pace(Pace::refused);
            self.settle_doubt().await?;
            let doubles = self.session.drop_doubles().await?;
            warn!(error = %failure, doubles, "the database refuses a claim; making a smaller one");
            if !exhausted {
                return Ok(());
            }
            // Not even one delivery, and without its text: the queue itself cannot take it on. The others go on without it.
            if let Some(first) = self.session.first_waiting(self.mark.after()).await? {
                warn!(delivery_id = %first, "the database refuses to let this delivery be claimed; passing over it for a while");
                self.mark.pass_over(&[first]);
                self.change_pace(Pace::passed_over);
            }
        }
        Err(failure)
    }

    /// Changes the pace, and with it how long the session waits.
    fn change_pace<T>(&mut self, change: impl FnOnce(&mut Pace) -> T) -> T {
        let patience = self.pace.patience();
        let answer = change(&mut self.pace);
        if self.pace.patience() != patience {
            self.session = self.store.session(self.pace.patience());
        }
        answer
    }

    fn start_all(
        &self,
        mut unstarted: Unstarted,
        templates: &HashMap<VersionKey, Template>,
        fence: &Fence,
        mut texts: Option<Share>,
    ) {
        while let Some((claimed, place)) = unstarted.next() {
            let bytes = claimed.payload.bytes();
            let text_share = texts.as_mut().filter(|_| bytes > SMALL_TEXT).and_then(|texts| texts.split(bytes));
            // There is one for every version that was asked for.
            let template = templates.get(&claimed.version).cloned().unwrap_or_else(|| Arc::new(Compiled::unloadable()));
            self.start(claimed, template, text_share, fence.clone(), place);
        }
    }

    fn start(&self, claimed: Claimed, template: Template, text_share: Option<Share>, fence: Fence, place: Place) {
        let (means, settled) = (self.means.clone(), self.settled.clone());
        self.attempts.spawn(async move {
            let result = attempt(claimed, template, text_share, &means, &fence).await;
            // The finisher's queue has room for every place. Without a finisher the place counts the loss.
            settled.send(Handed { settled: result, place }).await.ok();
        });
    }

    async fn settle_doubt(&mut self) -> Result<(), StoreError> {
        if let Some(Doubted { claimant, token, pass_over }) = self.in_doubt {
            let Disowned { claimant, released, unsent } = self.session.disown_claim(claimant, token).await?;
            self.in_doubt = None;
            self.claimant = claimant;
            info!(released = released.len(), unsent, "a claim whose answer was lost has been given back");
            if pass_over && !released.is_empty() {
                warn!(
                    deliveries = ?released,
                    "the calls of these deliveries do not come over the link to the database in time; passing over them for a while"
                );
                self.mark.pass_over(&released);
            }
        }
        Ok(())
    }
}

/// What a claim found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Deliveries.
    Work,
    /// Nothing waits.
    Nothing,
    /// No small delivery waits, and there was no room to look for large ones.
    NothingSmall,
}
