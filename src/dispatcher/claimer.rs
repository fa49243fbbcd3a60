//! Claims what the scheduler plans, within the budget of bytes, and starts an attempt for each claimed delivery.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::backoff::Outage;
use super::budget::SMALL_TEXT;
use super::held::HeldTurns;
use super::in_flight::Places;
use super::lease::Lease;
use super::pace::{Instead, Pace, instead_of};
use super::secrets::{Ready, SecretCache};
use super::signing::{Signers, SigningCache};
use super::starter::Starter;
use super::templates::Templates;
use super::unstarted::Unstarted;
use super::until;
use crate::domain::chain::chain;
use crate::domain::claim::VersionKey;
use crate::metrics::Operation;
use crate::scheduler::Turn;
use crate::store::claim::{Claimant, Portion, Revoked, Taken};
use crate::store::lanes::LaneSeen;
use crate::store::session::Session;
use crate::store::{Store, StoreError};

/// The epoch of a registration under which no claim was revoked yet.
const FIRST_EPOCH: i32 = 1;
/// How long the claimer waits for room for large calls before it asks for small ones again.
const SMALL_ONLY_PAUSE: Duration = Duration::from_millis(20);

/// How long the claimer waits at most, under load, for more places to come free.
const GATHERING: Duration = Duration::from_millis(5);
/// If a claim is not answered for this long, other outboxes of the process may have its places at agents and hosts.
const LATE: Duration = Duration::from_millis(500);

pub(super) struct Claimer {
    store: Store,
    session: Session,
    lease: Arc<Lease>,
    /// The dispatcher id and the epoch under which the next claim is made.
    claimant: Claimant,
    pace: Pace,
    places: Places,
    starter: Starter,
    drain: CancellationToken,
    opened: Caches,
    outage: Outage,
    /// A claim whose answer was lost. None of its deliveries was sent. It must be revoked before the next claim.
    in_doubt: Option<ClaimInDoubt>,
}

/// A claim whose answer was lost, so that it is not known whether it was committed.
#[derive(Clone, Copy)]
struct ClaimInDoubt {
    claimant: Claimant,
    token: Uuid,
}

/// What has been loaded, and opened with the operator's keys.
pub(super) struct Caches {
    pub(super) templates: Templates,
    pub(super) secrets: SecretCache,
    pub(super) signing: SigningCache,
}

/// What the attempts of a claim need.
pub(super) struct Needed {
    /// The templates of all its versions, with the secrets that they name.
    pub(super) templates: HashMap<VersionKey, Ready>,
    /// The keys that sign.
    pub(super) signers: Signers,
}

/// Turns that are claimed together.
struct Group {
    turns: HeldTurns,
    /// Whether the claim fetches the calls. It does not for a single delivery whose call the database could not return.
    fetch: bool,
}

impl Claimer {
    pub(super) fn new(
        store: &Store,
        lease: Arc<Lease>,
        places: Places,
        starter: Starter,
        drain: CancellationToken,
        opened: Caches,
    ) -> Claimer {
        let pace = Pace::default();
        Claimer {
            session: store.session(pace.statement_timeout()).counting(places.counts.errors(Operation::Claim)),
            store: store.clone(),
            claimant: Claimant { dispatcher_id: lease.current().dispatcher_id, epoch: FIRST_EPOCH },
            lease,
            pace,
            places,
            starter,
            drain,
            opened,
            outage: Outage::none("claimer"),
            in_doubt: None,
        }
    }

    /// Claims until the drain begins. A claim that has begun is never abandoned: what it took is attempted.
    pub(super) async fn run(mut self) {
        let ended = AssertUnwindSafe(self.claim_until_drained()).catch_unwind().await;
        self.places.schedule.rest();
        // This is the last chance to revoke a claim in doubt. If that fails, its deliveries are given up when this
        // dispatcher retires.
        self.settle_doubt().await.ok();
        if let Err(panic) = ended {
            resume_unwind(panic);
        }
    }

    async fn claim_until_drained(&mut self) {
        let drain = self.drain.clone();
        let schedule = self.places.schedule.clone();
        while !drain.is_cancelled() {
            // No place is taken for a database that does not answer.
            if let Err(error) = self.make_sure_of_database().await {
                until(&drain, self.outage.wait(&error)).await;
                continue;
            }
            schedule.resume();
            let turns = schedule.turns(self.pace.deliveries());
            let Some(turns) = drain.run_until_cancelled(turns).await else { break };
            match self.claim_all(turns).await {
                Ok(Found::Work) => until(&drain, schedule.gather_places(GATHERING)).await,
                Ok(Found::Nothing) => {}
                Ok(Found::NothingSmall) => until(&drain, self.starter.means.budget.texts_free(SMALL_ONLY_PAUSE)).await,
                Ok(Found::Closed) => until(&drain, tokio::time::sleep(SMALL_ONLY_PAUSE)).await,
                Err(error) => {
                    schedule.rest();
                    until(&drain, self.outage.wait(&error)).await;
                }
            }
        }
    }

    /// Settles a claim in doubt. During an outage without one, it asks the database for a sign of life.
    async fn make_sure_of_database(&mut self) -> Result<(), StoreError> {
        match (self.in_doubt, self.outage.is_over()) {
            (Some(_), _) => self.settle_doubt().await.map(drop),
            (None, false) => self.session.ping().await,
            (None, true) => Ok(()),
        }
    }

    /// Claims these turns, and starts the attempts. If the database refuses them together, they are claimed in parts,
    /// so that a row that cannot be claimed does not hold up the others.
    async fn claim_all(&mut self, turns: HeldTurns) -> Result<Found, StoreError> {
        let mut due = vec![Group { turns, fetch: true }];
        let mut found = Found::Nothing;
        while let Some(group) = due.pop() {
            let turns = group.turns.len();
            match self.claim(group).await {
                Ok(of_group) => found = found.and(of_group),
                Err((group, refusal)) if refusal.is_about_what_is_stored() => {
                    let doubles = self.session.drop_doubles().await.unwrap_or_default();
                    warn!(error = %chain(&refusal), turns, doubles, "the database refuses a claim; making smaller ones");
                    due.extend(self.smaller(group).await);
                }
                Err((_given_back, failure)) => return Err(failure),
            }
        }
        Ok(found)
    }

    /// What to claim instead of a group that the database refuses. Several lanes are divided into halves. A single lane
    /// is asked for fewer deliveries. A single delivery is claimed without its call. If that was refused already,
    /// nothing is claimed, and the delivery is passed over for a while.
    async fn smaller(&mut self, mut group: Group) -> Vec<Group> {
        let schedule = &self.places.schedule;
        let lanes = group.turns.len();
        let Some(turn) = group.turns.first_mut() else { return vec![] };
        let lane = turn.lane;
        match instead_of(lanes, turn.quota, group.fetch) {
            Instead::Halves => {
                let back = group.turns.halve();
                vec![Group { turns: back, fetch: true }, group]
            }
            Instead::WithoutCall => vec![Group { fetch: false, ..group }],
            Instead::Nothing => {
                if let Ok(Some(first)) = self.session.first_waiting(lane.action_id, schedule.after(lane)).await {
                    warn!(delivery.id = %first, "the database refuses to let this delivery be claimed; passing over it for a while");
                    schedule.pass_over(lane, first);
                }
                vec![]
            }
            Instead::Fewer(quota) => {
                schedule.shrink(turn, quota);
                vec![group]
            }
        }
    }

    /// Claims one group. An error returns the group to the caller.
    async fn claim(&mut self, mut group: Group) -> Result<Found, (Group, StoreError)> {
        if let Err(error) = self.settle_doubt().await {
            return Err((group, error));
        }
        // Read before the claim: what is claimed under an id is sent under the send gate of that id, even if the id changes
        // in the meantime.
        let registration = self.lease.current();
        // While the send gate is closed, nothing that is claimed now could be sent. The drain is checked again, because the
        // caller waits for the drain and for turns together, and may get the turns although the drain came first.
        if registration.send_gate.is_closed() || self.drain.is_cancelled() {
            return Ok(Found::Closed);
        }
        if self.claimant.dispatcher_id != registration.dispatcher_id {
            self.claimant = Claimant { dispatcher_id: registration.dispatcher_id, epoch: FIRST_EPOCH };
        }
        let texts = self.starter.means.budget.reserve_texts();
        let taken = match self.take(&mut group, texts.is_some()).await {
            Ok(taken) => taken,
            Err(error) => return Err((group, error)),
        };
        self.outage.over();
        let found = match (taken.claimed.is_empty(), &texts) {
            (false, _) => Found::Work,
            (true, Some(_)) => Found::Nothing,
            (true, None) => Found::NothingSmall,
        };
        let places = self.places.schedule.claimed(group.turns, &taken, texts.is_none());
        let outdated = self.places.schedule.outdated(&taken);
        // If an error or a panic stops the starting, the deliveries that were not started go back to `waiting`.
        let unstarted = Unstarted::new(taken.claimed, places, &self.places, self.starter.results.clone());
        self.read_again(&outdated).await;
        let none_left = self.places.schedule.no_turns();
        let failed = |error| (Group { turns: none_left, fetch: true }, error);
        let current = unstarted.iter().filter_map(|one| one.signing).map(|signing| signing.key);
        let versions = unstarted.iter().map(|one| one.version);
        let needed = self.needed(current, versions).await.map_err(failed)?;
        self.starter.start_all(unstarted, &needed, &registration, texts);
        Ok(found)
    }

    /// What the attempts of these versions need, with the keys that sign.
    async fn needed(
        &mut self,
        current: impl Iterator<Item = Uuid>,
        versions: impl Iterator<Item = VersionKey>,
    ) -> Result<Needed, StoreError> {
        let signers = self.opened.signing.signers(&mut self.session, current).await?;
        Ok(Needed { signers, templates: self.templates(versions).await? })
    }

    /// The templates of these versions, with the secrets that they name.
    async fn templates(
        &mut self,
        versions: impl Iterator<Item = VersionKey>,
    ) -> Result<HashMap<VersionKey, Ready>, StoreError> {
        let templates = self.opened.templates.get(&mut self.session, versions).await?;
        self.opened.secrets.complete(&mut self.session, templates).await
    }

    /// Reads again the agents and hosts of lanes whose action has changed, so that the next claim counts against the
    /// limits of the right hosts. What is claimed already keeps its places.
    async fn read_again(&mut self, outdated: &[LaneSeen]) {
        if outdated.is_empty() {
            return;
        }
        let ids: Vec<i64> = outdated.iter().map(|lane| lane.action_id).collect();
        match self.session.lanes_about(&ids).await {
            Ok(about) => self.places.schedule.introduce(outdated, about),
            Err(error) => {
                debug!(error = %chain(&error), "cannot read the hosts of changed lanes; the scout will read them")
            }
        }
    }

    /// Makes one claim.
    async fn take(&mut self, group: &mut Group, room_for_large: bool) -> Result<Taken, StoreError> {
        let token = Uuid::now_v7();
        let max_call_bytes = self.starter.means.budget.max_call_bytes();
        let portion = Portion {
            bytes: self.pace.bytes(),
            call_bytes: if room_for_large { max_call_bytes } else { SMALL_TEXT.min(max_call_bytes) },
            max_call_bytes,
            fetch: group.fetch,
        };
        let schedule = self.places.schedule.clone();
        let asks = schedule.asks(group.turns.as_slice());
        // Noted before the statement, so that the claim is in doubt after a panic, too.
        self.in_doubt = Some(ClaimInDoubt { claimant: self.claimant, token });
        let claim = self.session.claim(self.claimant, token, &asks, portion);
        match noting_lateness(claim, || schedule.lend(&mut group.turns)).await {
            Ok(taken) => {
                self.in_doubt = None;
                self.change_pace(|pace| pace.answered(taken.claimed.len()));
                taken.claimed.iter().for_each(|one| self.places.counts.waited(one.waited));
                Ok(taken)
            }
            Err(failure) => {
                if failure.is_about_time() && self.change_pace(Pace::unanswered) {
                    self.pass_over_what_is_too_slow(group.turns.as_slice()).await;
                }
                Err(failure)
            }
        }
    }

    /// Passes over a single delivery whose call did not arrive even within the longest statement timeout.
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

    /// Changes the pace, and with it the session's statement timeout.
    fn change_pace<T>(&mut self, change: impl FnOnce(&mut Pace) -> T) -> T {
        let statement_timeout = self.pace.statement_timeout();
        let answer = change(&mut self.pace);
        if self.pace.statement_timeout() != statement_timeout {
            let errors = self.places.counts.errors(Operation::Claim);
            self.session = self.store.session(self.pace.statement_timeout()).counting(errors);
        }
        answer
    }

    /// Revokes a claim whose answer was lost.
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

/// Waits for the answer to a claim. If it is late, notes that with `late`, and goes on waiting.
async fn noting_lateness<T>(claim: impl Future<Output = T>, late: impl FnOnce()) -> T {
    let mut claim = std::pin::pin!(claim);
    match tokio::time::timeout(LATE, &mut claim).await {
        Ok(answer) => answer,
        Err(_elapsed) => {
            late();
            claim.await
        }
    }
}

/// What one or more claims have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// At least one delivery was claimed.
    Work,
    /// No delivery was there to be claimed.
    Nothing,
    /// There was no small delivery, and no room in the budget to claim large ones.
    NothingSmall,
    /// The send gate is closed, or the dispatcher drains, so nothing may be claimed.
    Closed,
}

impl Found {
    /// What two claims together have found.
    fn and(self, other: Found) -> Found {
        match (self, other) {
            (Found::Work, _) | (_, Found::Work) => Found::Work,
            (Found::Nothing, other) => other,
            (found, _) => found,
        }
    }
}
