//! Which steps are possible in a state.

use postcall::domain::delivery::State;

use super::actions::{Action, Fault};
use super::scenario::{Ask, Scenario, Variant};
use super::state::*;

/// Lists the possible steps.
pub struct Possible<'a> {
    world: &'a World,
    scenario: &'a Scenario,
    steps: &'a mut Vec<Action>,
}

/// Adds to `steps` all steps that are possible.
pub fn possible(world: &World, scenario: &Scenario, steps: &mut Vec<Action>) {
    let mut list = Possible { world, scenario, steps };
    list.platform();
    for p in 0..usize::from(scenario.processes) {
        list.process(p);
    }
    for c in 0..CLAIMS {
        list.claim(c);
    }
    for r in 0..REGISTRATIONS {
        list.registration(r);
    }
    list.recovery();
    list.people();
    list.server();
}

impl Possible<'_> {
    fn add(&mut self, action: Action) {
        self.steps.push(action);
    }

    /// Adds a step that goes wrong, if something still may.
    fn wrong(&mut self, fault: Fault, action: Action) {
        if self.world.faults > 0 && self.scenario.may(fault) {
            self.steps.push(action);
        }
    }

    fn platform(&mut self) {
        let rows = &self.world.database.rows;
        if !self.scenario.inserts {
            return;
        }
        let calls = (0..DELIVERIES).filter(|x| self.world.truth[*x].committed && rows[*x].replay_of.is_none()).count();
        if calls < usize::from(self.scenario.calls)
            && let Some(x) = self.world.free_delivery()
        {
            self.add(Action::Insert(x as u8));
        }
    }

    fn process(&mut self, p: usize) {
        let (process, number) = (self.world.processes[p], p as u8);
        match process.life {
            Life::Dead | Life::Ended => {
                if self.world.free_registration(p).is_some() {
                    self.add(Action::Start(number));
                }
                return;
            }
            Life::Paused => {
                self.add(Action::Continue(number));
                self.wrong(Fault::Kill, Action::Kill(number));
                return;
            }
            Life::Running => {
                self.wrong(Fault::Pause, Action::Pause(number));
                self.wrong(Fault::Drain, Action::Drain(number));
                self.asks(p);
            }
            Life::Draining => self.retirement(p),
        }
        self.wrong(Fault::Kill, Action::Kill(number));
        self.revocation(p);
        self.lease(p);
        if process.sees_pause != self.world.database.paused {
            self.add(Action::Scout(number));
        }
    }

    fn asks(&mut self, p: usize) {
        let process = &self.world.processes[p];
        let something = (0..DELIVERIES).any(|x| self.world.database.rows[x].waiting && !self.world.is_locked(x));
        if something
            && process.last_claim == LastClaim::Settled
            && !process.sees_pause
            && self.world.gates[usize::from(process.registration)] > 0
            && self.world.taken_places(p) < self.scenario.places
            && self.world.free_claim(p).is_some()
        {
            self.add(Action::AskClaim(p as u8));
            self.wrong(Fault::LoseClaim, Action::DelayClaim(p as u8));
        }
    }

    fn retirement(&mut self, p: usize) {
        if !matches!(self.world.processes[p].last_claim, LastClaim::Settled) {
            return;
        }
        if self.world.taken_places(p) == 0 {
            self.add(Action::Retire(p as u8));
            self.wrong(Fault::LoseRetirement, Action::LoseRetirement(p as u8));
        } else {
            let mut attempts = (0..CLAIMS).filter(|c| self.world.holder(*c) == p).flat_map(|c| self.world.attempts[c]);
            if !attempts.any(|attempt| matches!(attempt, Attempt::Held | Attempt::Begun)) {
                self.wrong(Fault::LeaveUnwritten, Action::LeaveUnwritten(p as u8));
            }
        }
    }

    fn revocation(&mut self, p: usize) {
        let number = p as u8;
        match self.world.processes[p].last_claim {
            LastClaim::InDoubt(c) => {
                let r = usize::from(self.world.claims[usize::from(c)].registration);
                if self.may_raise(r) {
                    self.add(Action::RaiseEpoch(number));
                    self.wrong(Fault::LoseRevocation, Action::LoseRaise(number));
                }
                if self.world.raises[r].is_none() {
                    self.wrong(Fault::LoseRevocation, Action::DelayRaise(number));
                }
                if self.world.processes[p].life == Life::Draining {
                    self.wrong(Fault::LoseRevocation, Action::AbandonDoubt(number));
                }
            }
            LastClaim::Revoked(..) => {
                self.add(Action::TakeBack(number));
                self.wrong(Fault::LoseRevocation, Action::LoseTakeBack(number));
            }
            LastClaim::Settled | LastClaim::Asked(_) => {}
        }
    }

    /// The lock of a running claim keeps a revocation waiting.
    fn may_raise(&self, r: usize) -> bool {
        let running =
            |claim: &ClaimStatement| usize::from(claim.registration) == r && matches!(claim.phase, Phase::Running(_));
        self.scenario.is_wrong(Variant::RevocationDoesNotWait) || !self.world.claims.iter().any(running)
    }

    fn lease(&mut self, p: usize) {
        let r = usize::from(self.world.processes[p].registration);
        let registration = self.world.database.registrations[r];
        let lost = registration.standing != Standing::Alive;
        if lost && self.world.free_registration(p).is_some()
            || !lost && (registration.lease < 2 || self.world.gates[r] == 0)
        {
            self.add(Action::Renew(p as u8));
            if !lost && registration.lease < 2 {
                self.wrong(Fault::LateRenewal, Action::LoseRenewal(p as u8));
            }
        }
    }

    fn claim(&mut self, c: usize) {
        let (claim, number) = (self.world.claims[c], c as u8);
        let holder = self.world.processes[self.world.holder(c)];
        let acts = matches!(holder.life, Life::Running | Life::Draining);
        let asked = holder.last_claim == LastClaim::Asked(number);
        match claim.phase {
            Phase::Over => {}
            Phase::OnItsWay => {
                self.add(Action::RunClaim(number));
                if !asked {
                    self.add(Action::VanishClaim(number));
                }
            }
            Phase::Running(_) => self.add(Action::CommitClaim(number)),
        }
        if acts && asked {
            // That it is late went wrong already.
            if claim.phase == Phase::OnItsWay {
                self.add(Action::LoseClaim(number));
            } else {
                self.wrong(Fault::LoseClaim, Action::LoseClaim(number));
            }
        }
        if acts {
            for x in 0..DELIVERIES {
                self.attempt(c, x, holder.life);
            }
        }
    }

    fn attempt(&mut self, c: usize, x: usize, life: Life) {
        let (number, of) = (c as u8, x as u8);
        let open = self.world.gates[usize::from(self.world.claims[c].registration)] > 0;
        match self.world.attempts[c][x] {
            Attempt::None => {}
            Attempt::Held => {
                if open || self.scenario.is_wrong(Variant::GateStaysOpen) {
                    self.add(Action::Begin(number, of, true));
                    if self.scenario.refuses {
                        self.add(Action::Begin(number, of, false));
                    }
                    self.wrong(Fault::CutRequest, Action::CutUnreceived(number, of));
                    self.wrong(Fault::Unreachable, Action::Fail(number, of));
                }
                if !open || life == Life::Draining {
                    self.add(Action::Unsend(number, of));
                } else {
                    self.wrong(Fault::SendAway, Action::Unsend(number, of));
                }
            }
            Attempt::Begun => {
                self.add(Action::Answer(number, of));
                self.wrong(Fault::CutRequest, Action::Cut(number, of));
            }
            Attempt::Finished(_) => {
                self.add(Action::Finish(number, of));
                self.wrong(Fault::LoseCompletion, Action::LoseFinish(number, of));
            }
            Attempt::Late(_) => {
                self.add(Action::Evidence(number, of));
                self.wrong(Fault::LoseCompletion, Action::LoseEvidence(number, of));
            }
            Attempt::Unsent => {
                self.add(Action::Release(number, of));
                self.wrong(Fault::LoseCompletion, Action::LoseRelease(number, of));
            }
        }
    }

    fn registration(&mut self, r: usize) {
        let registration = self.world.database.registrations[r];
        if self.world.raises[r].is_some() {
            if self.may_raise(r) {
                self.add(Action::LateRaise(r as u8));
            }
            self.add(Action::VanishRaise(r as u8));
        }
        if registration.standing == Standing::Alive && registration.lease > 0 {
            let process = self.world.processes[usize::from(registration.process)];
            let renews =
                usize::from(process.registration) == r && matches!(process.life, Life::Running | Life::Draining);
            if renews {
                self.wrong(Fault::LateRenewal, Action::Tick(r as u8));
            } else {
                self.add(Action::Tick(r as u8));
            }
        }
    }

    fn recovery(&mut self) {
        let mut lives = self.world.processes.iter().map(|process| process.life);
        if !lives.any(|life| matches!(life, Life::Running | Life::Draining)) {
            return;
        }
        for r in 0..REGISTRATIONS {
            let registration = self.world.database.registrations[r];
            if registration.standing == Standing::Alive && registration.lease == 0 {
                self.add(Action::DeclareLost(r as u8));
            }
        }
        for x in 0..DELIVERIES {
            if let Some(sending) = self.world.database.rows[x].sending
                && self.world.database.registrations[usize::from(sending.registration)].standing != Standing::Alive
            {
                self.add(Action::GiveUp(x as u8));
            }
        }
    }

    fn people(&mut self) {
        for i in 0..PEOPLE {
            if matches!(self.world.people[i], Person::Decided(..)) {
                self.add(Action::Settle(i as u8));
            }
        }
        if self.world.database.paused {
            self.add(Action::ResumeHost);
        }
        if self.world.orders == 0 {
            return;
        }
        if self.scenario.may_ask(Ask::PauseHost) && !self.world.database.paused {
            self.add(Action::PauseHost);
        }
        if self.scenario.may_ask(Ask::Disable) && !self.world.database.disabled {
            self.add(Action::Disable);
        }
        let Some(i) = self.world.people.iter().position(|person| *person == Person::Idle) else { return };
        for x in 0..DELIVERIES {
            // Whoever comes second waits for the lock.
            if self.scenario.is_wrong(Variant::OrdersWithoutUniqueness) || !self.world.is_judged(x) {
                self.orders(i as u8, x);
            }
        }
    }

    fn orders(&mut self, i: u8, x: usize) {
        let (row, truth) = (&self.world.database.rows[x], &self.world.truth[x]);
        let Some(ended) = row.ended else { return };
        if row.places() > 1 || self.world.replay(x).is_some() {
            return;
        }
        if self.scenario.may_ask(Ask::Find)
            && ended.state == State::Unknown
            && row.evidence.is_none()
            && row.finding.is_none()
        {
            // The receiver tells what it knows.
            let found = match (truth.requests > 0, truth.taken) {
                (true, true) => State::Delivered,
                (true, false) => State::Rejected,
                (false, _) => State::Failed,
            };
            self.add(Action::Look(i, Order::Find(found), x as u8));
        }
        if self.scenario.may_ask(Ask::Replay) && !self.world.database.disabled && self.world.free_delivery().is_some() {
            let order = if self.may_repeat(x) { Order::Replay } else { Order::ReplayDespite };
            self.add(Action::Look(i, order, x as u8));
        }
    }

    /// Whether no delivery of the message was or may have been delivered.
    fn may_repeat(&self, x: usize) -> bool {
        let doubtful = |y: &usize| {
            matches!(self.world.database.rows[*y].shown(), Some(State::Delivered | State::Unknown))
                && (*y == x || !self.scenario.is_wrong(Variant::ReplayBlind))
        };
        let message = self.world.message(x);
        !(0..DELIVERIES).filter(|y| self.world.message(*y) == message).any(|y| doubtful(&y))
    }

    fn server(&mut self) {
        self.wrong(Fault::Crash, Action::Crash);
        if self.world.claims.iter().any(|claim| matches!(claim.phase, Phase::Running(_))) {
            self.wrong(Fault::Crash, Action::CrashAfterCommits);
        }
        if let Some(standby) = &self.world.standby {
            if *standby != self.world.database {
                self.add(Action::Replicate);
            }
            self.wrong(Fault::FailOver, Action::FailOver);
        }
    }
}
