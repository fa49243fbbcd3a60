//! Claims what the scheduler plans, and no more bytes than the budget has room for, and starts an attempt for each delivery.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, info, warn};
use uuid::Uuid;

use super::attempt::{Means, attempt, host, log_end, signal};
use super::backoff::Outage;
use super::budget::{SMALL_TEXT, Share};
use super::finisher::PendingResult;
use super::lease::{Lease, Registration};
use super::pace::Pace;
use super::place::{Place, Places};
use super::templates::{Compiled, Template, Templates};
use super::unstarted::Unstarted;
use crate::domain::claim::{Claimed, VersionKey};
use crate::scheduler::Turn;
use crate::store::claim::{Claimant, Portion, Revoked, Taken};
use crate::store::lanes::LaneSeen;
use crate::store::session::Session;
use crate::store::{Store, StoreError};
use crate::webhook::Fence;

/// The epoch of a dispatcher that has not revoked a claim yet.
const FIRST_EPOCH: i32 = 1;
/// How long the claimer waits for room for large calls before it asks for small ones again.
const SMALL_ONLY_PAUSE: Duration = Duration::from_millis(20);

/// Under load the claimer waits so long at most for more places to come free.
const GATHERING: Duration = Duration::from_millis(5);

pub(super) struct Claimer {
    store: Store,
    session: Session,
    lease: Arc<Lease>,
    /// In whose name the next claim is made.
    claimant: Claimant,
    pace: Pace,
    places: Places,
    attempts: TaskTracker,
    means: Means,
    results: mpsc::Sender<PendingResult>,
    drain: CancellationToken,
    templates: Templates,
    outage: Outage,
    /// A claim whose answer was lost. Nothing of it was sent; it must be revoked before anything else is claimed.
    in_doubt: Option<ClaimInDoubt>,
}

/// A claim whose answer was lost.
#[derive(Clone, Copy)]
struct ClaimInDoubt {
    claimant: Claimant,
    token: Uuid,
}

/// Turns that are claimed together.
struct Group {
    turns: Vec<Turn>,
    /// Whether the calls are fetched. Not so for a single delivery whose call the database could not give.
    fetch: bool,
}

impl Claimer {
    pub(super) fn new(
        store: &Store,
        lease: Arc<Lease>,
        places: Places,
        attempts: TaskTracker,
        means: Means,
        results: mpsc::Sender<PendingResult>,
        drain: CancellationToken,
    ) -> Claimer {
        let pace = Pace::default();
        Claimer {
            session: store.session(pace.statement_timeout()),
            store: store.clone(),
            claimant: Claimant { dispatcher_id: lease.current().dispatcher_id, epoch: FIRST_EPOCH },
            lease,
            pace,
            places,
            attempts,
            means,
            results,
            drain,
            templates: Templates::new(),
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
        let schedule = self.places.schedule.clone();
        while !drain.is_cancelled() {
            let turns = schedule.turns(self.pace.deliveries());
            let Some(turns) = drain.run_until_cancelled(turns).await else { break };
            match self.claim_all(turns).await {
                Ok(Found::Work) => drop(drain.run_until_cancelled(schedule.gather_places(GATHERING)).await),
                Ok(Found::Nothing) => {}
                Ok(Found::NothingSmall) => drop(drain.run_until_cancelled(self.room_for_large()).await),
                Ok(Found::Closed) => drop(drain.run_until_cancelled(tokio::time::sleep(SMALL_ONLY_PAUSE)).await),
                Err(error) => drop(drain.run_until_cancelled(self.outage.wait(&error)).await),
            }
        }
    }

    /// Waits until there is room for large calls, or for a moment.
    async fn room_for_large(&self) {
        tokio::time::timeout(SMALL_ONLY_PAUSE, self.means.budget.texts_free()).await.ok();
    }

    /// Claims these turns, and starts the attempts. Turns that the database refuses together are claimed in parts, so that
    /// a row that cannot be claimed holds up nobody else.
    async fn claim_all(&mut self, turns: Vec<Turn>) -> Result<Found, StoreError> {
        let mut due = vec![Group { turns, fetch: true }];
        let mut found = Found::Nothing;
        while let Some(group) = due.pop() {
            let turns = group.turns.len();
            match self.claim(group).await {
                Ok(of_group) => found = found.and(of_group),
                Err((group, refusal)) if refusal.is_about_what_is_stored() => {
                    let doubles = self.session.drop_doubles().await.unwrap_or_default();
                    warn!(error = %refusal, turns, doubles, "the database refuses a claim; making smaller ones");
                    due.extend(self.smaller(group).await);
                }
                Err((group, failure)) => {
                    due.push(group);
                    self.places.schedule.give_back(due.into_iter().flat_map(|group| group.turns));
                    return Err(failure);
                }
            }
        }
        Ok(found)
    }

    /// What to claim instead of a group that the database refuses: its halves; fewer of a single lane; a single delivery
    /// without its call; nothing, if that was refused already: then it is passed over for a while.
    async fn smaller(&mut self, mut group: Group) -> Vec<Group> {
        let schedule = &self.places.schedule;
        if group.turns.len() > 1 {
            let back = group.turns.split_off(group.turns.len() / 2);
            return vec![Group { turns: back, fetch: true }, group];
        }
        let Some(turn) = group.turns.first_mut() else { return vec![] };
        match (turn.quota, group.fetch) {
            (1, true) => vec![Group { fetch: false, ..group }],
            (1, false) => {
                let lane = turn.lane;
                if let Ok(Some(first)) = self.session.first_waiting(lane, schedule.after(lane)).await {
                    warn!(delivery.id = %first, "the database refuses to let this delivery be claimed; passing over it for a while");
                    schedule.pass_over(lane, first);
                }
                schedule.give_back(group.turns);
                vec![]
            }
            (quota, _) => {
                schedule.shrink(turn, quota / 2);
                vec![group]
            }
        }
    }

    /// Claims one group. An error gives the group back to the caller.
    async fn claim(&mut self, group: Group) -> Result<Found, (Group, StoreError)> {
        if let Err(error) = self.settle_doubt().await {
            return Err((group, error));
        }
        // Asked before the claim: what is claimed under an id goes behind the fence of that id, whatever happens meanwhile.
        let Registration { dispatcher_id, fence } = self.lease.current();
        // Behind a closed fence nothing that is claimed now could be sent. And whoever waits for a drain and for a place at
        // once may be given the place although the drain came first.
        if fence.is_closed() || self.drain.is_cancelled() {
            self.places.schedule.give_back(group.turns);
            return Ok(Found::Closed);
        }
        if self.claimant.dispatcher_id != dispatcher_id {
            self.claimant = Claimant { dispatcher_id, epoch: FIRST_EPOCH };
        }
        let texts = self.means.budget.reserve_texts();
        let taken = match self.take(&group, texts.is_some()).await {
            Ok(taken) => taken,
            Err(error) => return Err((group, error)),
        };
        self.outage.over();
        let found = match (taken.claimed.is_empty(), &texts) {
            (false, _) => Found::Work,
            (true, Some(_)) => Found::Nothing,
            (true, None) => Found::NothingSmall,
        };
        let seats = self.places.schedule.claimed(group.turns, &taken, texts.is_none());
        let outdated = self.places.schedule.outdated(&taken);
        // Whatever ends the starting, what was not started goes back to waiting.
        let unstarted = Unstarted::new(taken.claimed, seats, &self.places, self.results.clone());
        self.read_again(&outdated).await;
        match self.templates.get(&mut self.session, unstarted.iter().map(|one| one.version)).await {
            Ok(templates) => self.start_all(unstarted, &templates, &fence, texts),
            Err(error) => return Err((Group { turns: vec![], fetch: true }, error)),
        }
        Ok(found)
    }

    /// Reads again what lanes are known by, so that the next claim asks the limits of the hosts that their deliveries go to
    /// now. What was claimed goes out in the places that it has.
    async fn read_again(&mut self, outdated: &[LaneSeen]) {
        if outdated.is_empty() {
            return;
        }
        let ids: Vec<i64> = outdated.iter().map(|lane| lane.action_id).collect();
        match self.session.lanes_about(&ids).await {
            Ok(about) => self.places.schedule.introduce(outdated, about),
            Err(error) => debug!(%error, "cannot read again where lanes send to; the scout will"),
        }
    }

    /// The claim itself.
    async fn take(&mut self, group: &Group, room_for_large: bool) -> Result<Taken, StoreError> {
        let token = Uuid::now_v7();
        let max_call_bytes = self.means.budget.max_call_bytes();
        let portion = Portion {
            bytes: self.pace.bytes(),
            call_bytes: if room_for_large { max_call_bytes } else { SMALL_TEXT.min(max_call_bytes) },
            max_call_bytes,
            fetch: group.fetch,
        };
        let asks = self.places.schedule.asks(&group.turns);
        // Noted before, so that a panic leaves it in doubt, too.
        self.in_doubt = Some(ClaimInDoubt { claimant: self.claimant, token });
        match self.session.claim(self.claimant, token, &asks, portion).await {
            Ok(taken) => {
                self.in_doubt = None;
                self.change_pace(|pace| pace.answered(taken.claimed.len()));
                Ok(taken)
            }
            Err(failure) => {
                if failure.is_about_time() && self.change_pace(Pace::unanswered) {
                    self.pass_over_what_is_too_slow(&group.turns).await;
                }
                Err(failure)
            }
        }
    }

    /// A single delivery had all the time there is, and its call did not come.
    async fn pass_over_what_is_too_slow(&mut self, turns: &[Turn]) {
        let Ok(Some(Revoked { released, .. })) = self.settle_doubt().await else { return };
        if let ([turn], Some(last)) = (turns, released.iter().max()) {
            warn!(
                delivery.ids = ?released,
                "the calls of these deliveries do not come over the link to the database in time; passing over them for a while"
            );
            self.places.schedule.pass_over(turn.lane, *last);
        }
    }

    /// Changes the pace, and with it how long the session waits.
    fn change_pace<T>(&mut self, change: impl FnOnce(&mut Pace) -> T) -> T {
        let statement_timeout = self.pace.statement_timeout();
        let answer = change(&mut self.pace);
        if self.pace.statement_timeout() != statement_timeout {
            self.session = self.store.session(self.pace.statement_timeout());
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

    fn start(&self, claimed: Claimed, template: Template, text_share: Option<Share>, fence: Fence, mut place: Place) {
        let (means, results) = (self.means.clone(), self.results.clone());
        // Where the log leaves this level out, neither the span nor what it would say is made.
        let span = debug_span!(
            "attempt",
            delivery.id = %claimed.token.delivery_id(),
            action.id = claimed.version.action_id,
            dispatcher.id = self.claimant.dispatcher_id
        );
        let attempted = async move {
            let started = Instant::now();
            debug!("the attempt begins");
            let completion = attempt(claimed, template, text_share, &means, &fence).await;
            log_end(&completion);
            place.ended(host(&completion).as_ref(), started, signal(&completion));
            // The finisher's queue has room for every place. Without a finisher the place counts the loss.
            results.send(PendingResult { completion, place }).await.ok();
        };
        self.attempts.spawn(attempted.instrument(span));
    }

    /// Disowns a claim whose answer was lost.
    async fn settle_doubt(&mut self) -> Result<Option<Revoked>, StoreError> {
        let Some(ClaimInDoubt { claimant, token }) = self.in_doubt else { return Ok(None) };
        let revoked = self.session.revoke_claim(claimant, token).await?;
        self.in_doubt = None;
        self.claimant = revoked.claimant;
        info!(
            released = revoked.released.len(),
            unsent = revoked.unsent,
            "a claim whose answer was lost has been given back"
        );
        Ok(Some(revoked))
    }
}

/// What claims have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Deliveries.
    Work,
    /// Nothing.
    Nothing,
    /// No small delivery, and there was no room to look for large ones.
    NothingSmall,
    /// The lease is not certain, or the dispatcher drains; nothing may be claimed.
    Closed,
}

impl Found {
    /// Both of two claims.
    fn and(self, other: Found) -> Found {
        match (self, other) {
            (Found::Work, _) | (_, Found::Work) => Found::Work,
            (Found::Nothing, other) => other,
            (found, _) => found,
        }
    }
}
