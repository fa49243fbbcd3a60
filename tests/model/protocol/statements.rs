//! The statements of claims, completions, recovery and people.

use postcall::domain::delivery::State;

use super::marks::Mark;
use super::scenario::Variant;
use super::state::*;
use super::steps::Taking;

/// In the bits of a claim's rows: the action was disabled when it committed.
const DISABLED: u8 = 1 << 7;

impl Taking<'_> {
    pub fn ask_claim(&mut self, p: usize, phase: Phase) {
        let Some(c) = self.world.free_claim(p) else { return };
        let most = self.scenario.places - self.world.taken_places(p);
        let process = &mut self.world.processes[p];
        let (registration, epoch) = (process.claimant, process.epoch);
        process.last_claim = LastClaim::Asked(c as u8);
        self.world.claims[c] = ClaimStatement { phase, registration, epoch, most };
        if phase != Phase::OnItsWay {
            self.run_claim(c);
        }
    }

    pub fn run_claim(&mut self, c: usize) {
        let claim = self.world.claims[c];
        let claimant = self.world.database.registrations[usize::from(claim.registration)];
        let mut rows = 0u8;
        if claimant.standing != Standing::Alive {
            self.marks.reach(Mark::ClaimOfALostDispatcherArrives);
        } else if claimant.epoch != claim.epoch {
            self.marks.reach(Mark::RevokedClaimArrives);
        } else {
            for x in 0..DELIVERIES {
                let waits = self.world.database.rows[x].waiting;
                if waits && self.world.is_locked(x) {
                    self.marks.reach(Mark::ClaimsMeet);
                } else if waits && rows.count_ones() < u32::from(claim.most) {
                    rows |= 1 << x;
                }
            }
        }
        self.world.claims[c].phase = Phase::Running(rows);
        if rows == 0 {
            self.commit_claim(c);
        }
        if self.scenario.is_wrong(Variant::SentBeforeTheCommit) && rows != 0 {
            self.hold(c, rows);
        }
    }

    pub fn commit_claim(&mut self, c: usize) {
        let Phase::Running(rows) = self.world.claims[c].phase else { return };
        let registration = self.world.claims[c].registration;
        for x in 0..DELIVERIES {
            if rows & (1 << x) != 0 {
                self.world.database.rows[x].waiting = false;
                self.world.database.rows[x].sending = Some(Sending { claim: c as u8, registration });
            }
        }
        let disabled = if self.world.database.disabled { DISABLED } else { 0 };
        self.world.claims[c].phase = Phase::Over;
        if self.world.database.registrations[usize::from(registration)].standing == Standing::Lost {
            self.marks.reach(Mark::ClaimCommitsAfterTheLoss);
        }
        if self.world.processes[self.world.holder(c)].registration != registration {
            self.marks.reach(Mark::ClaimOfTheDeadCommits);
        }
        if self.world.processes[self.world.holder(c)].last_claim == LastClaim::Asked(c as u8) {
            self.hold(c, rows | disabled);
        }
    }

    fn hold(&mut self, c: usize, rows: u8) {
        let attempt = if rows & DISABLED != 0 { Attempt::Finished(State::Skipped) } else { Attempt::Held };
        for x in 0..DELIVERIES {
            if rows & (1 << x) != 0 {
                self.world.attempts[c][x] = attempt;
            }
        }
        self.settle(self.world.holder(c));
    }

    pub fn lose_claim(&mut self, c: usize) {
        let p = self.world.holder(c);
        let forgotten = self.scenario.is_wrong(Variant::DoubtForgotten);
        self.world.processes[p].last_claim = if forgotten { LastClaim::Settled } else { LastClaim::InDoubt(c as u8) };
    }

    /// The statement that raises the epoch of a claimant who believes in `epoch`.
    fn raise(&mut self, r: usize, epoch: u8) {
        let registration = &mut self.world.database.registrations[r];
        registration.epoch = if self.scenario.is_wrong(Variant::EveryRaiseCounts) {
            registration.epoch + 1
        } else {
            registration.epoch.max(epoch + 1)
        };
    }

    pub fn raise_epoch(&mut self, p: usize, answered: bool) {
        let LastClaim::InDoubt(c) = self.world.processes[p].last_claim else { return };
        let r = usize::from(self.world.claims[usize::from(c)].registration);
        self.raise(r, self.world.processes[p].epoch);
        if answered {
            let registration = self.world.database.registrations[r];
            self.world.processes[p].epoch = registration.epoch;
            self.world.processes[p].last_claim = LastClaim::Revoked(c, registration.standing != Standing::Lost);
        }
    }

    pub fn delay_raise(&mut self, p: usize) {
        let LastClaim::InDoubt(c) = self.world.processes[p].last_claim else { return };
        let r = usize::from(self.world.claims[usize::from(c)].registration);
        self.world.raises[r] = Some(self.world.processes[p].epoch);
    }

    pub fn late_raise(&mut self, r: usize) {
        if let Some(epoch) = self.world.raises[r].take() {
            if self.world.database.registrations[r].epoch > epoch {
                self.marks.reach(Mark::LateRaise);
            }
            self.raise(r, epoch);
        }
    }

    pub fn take_back(&mut self, p: usize, answered: bool) {
        let LastClaim::Revoked(c, alive) = self.world.processes[p].last_claim else { return };
        for row in &mut self.world.database.rows {
            if row.sending.is_some_and(|sending| sending.claim == c) {
                row.sending = None;
                row.waiting = true;
                self.marks.reach(Mark::RevocationReturns);
            }
            let given_up = row.ended.is_some_and(|ended| ended.claim == c && ended.given_up);
            if !alive && given_up && row.evidence.is_none() {
                row.evidence = Some(State::Failed);
                self.marks.reach(Mark::RevokedAfterGivenUp);
            }
        }
        if !answered {
            self.world.processes[p].last_claim = LastClaim::InDoubt(c);
            return;
        }
        if self.scenario.is_wrong(Variant::EpochRestarts) {
            let r = usize::from(self.world.claims[usize::from(c)].registration);
            self.world.database.registrations[r].epoch = 1;
            self.world.processes[p].epoch = 1;
        }
        self.settle(p);
    }

    /// Whether the row of `sending` is this claim's to move.
    fn holds(&self, c: usize, x: usize) -> bool {
        let sending = self.world.database.rows[x].sending;
        sending.is_some_and(|sending| self.scenario.is_wrong(Variant::NoToken) || usize::from(sending.claim) == c)
    }

    pub fn finish(&mut self, c: usize, x: usize, answered: bool) {
        let Attempt::Finished(state) = self.world.attempts[c][x] else { return };
        let ended = self.world.database.rows[x].ended;
        let moves = self.holds(c, x);
        if moves || self.scenario.is_wrong(Variant::NoFence) {
            let row = &mut self.world.database.rows[x];
            self.world.truth[x].rewritten |= row.ended.is_some_and(|ended| ended.given_up);
            row.sending = None;
            row.ended = Some(Ended { state, given_up: false, claim: c as u8 });
        }
        if !answered {
            return;
        }
        let recorded = ended.is_some_and(|ended| usize::from(ended.claim) == c && !ended.given_up);
        if !moves && recorded {
            self.marks.reach(Mark::AlreadyRecorded);
        }
        if !moves && !recorded {
            self.marks.reach(Mark::NotHeld);
        }
        self.world.attempts[c][x] = if moves || recorded { Attempt::None } else { Attempt::Late(state) };
    }

    pub fn evidence(&mut self, c: usize, x: usize, answered: bool) {
        let Attempt::Late(state) = self.world.attempts[c][x] else { return };
        let certain = matches!(state, State::Delivered | State::Rejected | State::Failed);
        if certain {
            self.late(c, x, state);
        }
        if answered {
            self.world.attempts[c][x] = Attempt::None;
        }
    }

    /// Writes what a claim learnt late, if the delivery was given up under that claim.
    fn late(&mut self, c: usize, x: usize, state: State) -> bool {
        let replayed = self.world.replay(x).is_some();
        let judged = self
            .world
            .people
            .iter()
            .any(|person| matches!(person, Person::Decided(Order::Find(_), of) if usize::from(*of) == x));
        let any_claim = self.scenario.is_wrong(Variant::NoToken);
        let row = &mut self.world.database.rows[x];
        let unknown = row
            .ended
            .is_some_and(|ended| ended.state == State::Unknown && (any_claim || usize::from(ended.claim) == c));
        if !unknown || row.evidence.is_some() {
            return false;
        }
        row.evidence = Some(state);
        self.marks.reach(Mark::Evidence);
        if row.finding.is_some() {
            self.marks.reach(Mark::EvidenceAfterFinding);
        }
        if replayed {
            self.marks.reach(Mark::EvidenceAfterReplay);
        }
        if judged {
            self.marks.reach(Mark::EvidenceBeforeFinding);
        }
        true
    }

    pub fn release(&mut self, c: usize, x: usize, answered: bool) {
        if self.holds(c, x) || self.scenario.is_wrong(Variant::NoFence) {
            let row = &mut self.world.database.rows[x];
            row.sending = None;
            row.waiting = true;
        } else if self.late(c, x, State::Failed) {
            self.marks.reach(Mark::UnsentAfterGivenUp);
        } else if self.world.database.rows[x].ended.is_none() {
            self.marks.reach(Mark::ReleasedTwice);
        }
        if answered {
            self.world.attempts[c][x] = Attempt::None;
        }
    }

    pub fn give_up(&mut self, x: usize) {
        let row = &mut self.world.database.rows[x];
        let Some(sending) = row.sending.take() else { return };
        if self.world.database.registrations[usize::from(sending.registration)].standing == Standing::Stopped {
            self.marks.reach(Mark::LeftByAStoppedOne);
        }
        if self.scenario.is_wrong(Variant::LostBackToWaiting) {
            row.waiting = true;
        } else {
            row.ended = Some(Ended { state: State::Unknown, given_up: true, claim: sending.claim });
        }
    }

    /// A person gives an order that takes one statement.
    pub fn order(&mut self, change: impl FnOnce(&mut Database)) {
        change(&mut self.world.database);
        self.world.orders -= 1;
    }

    pub fn look(&mut self, i: u8, order: Order, x: u8) {
        self.world.people[usize::from(i)] = Person::Decided(order, x);
        self.world.orders -= 1;
        if self.world.orders > 0 && self.world.people.contains(&Person::Idle) {
            self.marks.reach(Mark::PersonWaits);
        }
    }

    pub fn settle_order(&mut self, i: usize) {
        let Person::Decided(order, of) = std::mem::take(&mut self.world.people[i]) else { return };
        let x = usize::from(of);
        match order {
            Order::Find(state) => self.find(x, state),
            Order::Replay | Order::ReplayDespite => self.replay(x, order == Order::ReplayDespite),
        }
    }

    fn find(&mut self, x: usize, state: State) {
        let unique = !self.scenario.is_wrong(Variant::OrdersWithoutUniqueness);
        let replayed = self.world.replay(x).is_some();
        self.world.truth[x].contradicted |= !unique && replayed;
        let row = &mut self.world.database.rows[x];
        if unique && (replayed || row.finding.is_some()) {
            return;
        }
        row.finding = Some(state);
        row.findings = (row.findings + 1).min(2);
    }

    fn replay(&mut self, x: usize, despite: bool) {
        let replayed = self.world.replay(x).is_some();
        let Some(y) = self.world.free_delivery() else { return };
        // The unique constraint on `replay_of`.
        if replayed {
            return;
        }
        self.world.database.rows[y] = Row { waiting: true, replay_of: Some(x as u8), ..Row::default() };
        self.world.truth[y] = Truth { committed: true, despite, ..Truth::default() };
        self.marks.reach(Mark::Replayed);
        if self.world.database.rows[x].replay_of.is_some() {
            self.marks.reach(Mark::ReplayedAgain);
        }
    }
}
