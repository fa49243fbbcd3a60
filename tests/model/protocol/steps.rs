//! What the steps do: the effect of each statement of `src/store`, and of what a dispatcher does with its answer.

use postcall::domain::delivery::State;

use super::actions::Action;
use super::marks::{Mark, Marks};
use super::scenario::{Scenario, Variant};
use super::state::*;

/// The lease lasts for two steps of the clock; the send gate closes after one.
const LEASE: u8 = 2;
const GATE: u8 = 1;
const FIRST_EPOCH: u8 = 1;

/// Takes steps.
pub struct Taking<'a> {
    pub world: World,
    pub scenario: &'a Scenario,
    pub marks: &'a Marks,
}

/// The state at the beginning.
pub fn beginning(scenario: &Scenario) -> World {
    let mut world = World { faults: scenario.faults, orders: scenario.orders, ..World::default() };
    for p in 0..usize::from(scenario.processes) {
        world.start(p);
    }
    if !scenario.inserts {
        for x in 0..usize::from(scenario.calls) {
            world.database.rows[x].waiting = true;
            world.truth[x].committed = true;
        }
    }
    world.tidy();
    world.standby = scenario.is_wrong(Variant::AsynchronousFailover).then_some(world.database);
    world
}

impl Taking<'_> {
    /// Takes one step.
    pub fn step(&mut self, action: Action) {
        use Action::*;
        if goes_wrong(&self.world, action) {
            self.world.faults -= 1;
        }
        match action {
            Insert(x) => self.insert(usize::from(x)),
            AskClaim(p) => self.ask_claim(usize::from(p), Phase::Running(0)),
            DelayClaim(p) => self.ask_claim(usize::from(p), Phase::OnItsWay),
            RunClaim(c) => self.run_claim(usize::from(c)),
            CommitClaim(c) => self.commit_claim(usize::from(c)),
            LoseClaim(c) => self.lose_claim(usize::from(c)),
            VanishClaim(c) => self.world.claims[usize::from(c)].phase = Phase::Over,
            RaiseEpoch(p) => self.raise_epoch(usize::from(p), true),
            LoseRaise(p) => self.raise_epoch(usize::from(p), false),
            DelayRaise(p) => self.delay_raise(usize::from(p)),
            LateRaise(r) => self.late_raise(usize::from(r)),
            VanishRaise(r) => self.world.raises[usize::from(r)] = None,
            TakeBack(p) => self.take_back(usize::from(p), true),
            LoseTakeBack(p) => self.take_back(usize::from(p), false),
            AbandonDoubt(p) => self.settle(usize::from(p)),
            Begin(c, x, taken) => self.begin(usize::from(c), usize::from(x), taken),
            Answer(c, x) => {
                let taken = self.world.truth[usize::from(x)].taken;
                self.ends(c, x, Attempt::Finished(if taken { State::Delivered } else { State::Rejected }));
            }
            Cut(c, x) | CutUnreceived(c, x) => self.ends(c, x, Attempt::Finished(State::Unknown)),
            Fail(c, x) => self.ends(c, x, Attempt::Finished(State::Failed)),
            Unsend(c, x) => self.unsend(usize::from(c), usize::from(x)),
            Finish(c, x) => self.finish(usize::from(c), usize::from(x), true),
            LoseFinish(c, x) => self.finish(usize::from(c), usize::from(x), false),
            Evidence(c, x) => self.evidence(usize::from(c), usize::from(x), true),
            LoseEvidence(c, x) => self.evidence(usize::from(c), usize::from(x), false),
            Release(c, x) => self.release(usize::from(c), usize::from(x), true),
            LoseRelease(c, x) => self.release(usize::from(c), usize::from(x), false),
            _ => self.step_of_others(action),
        }
        self.world.tidy();
    }

    fn step_of_others(&mut self, action: Action) {
        use Action::*;
        match action {
            Renew(p) => self.renew(usize::from(p)),
            LoseRenewal(p) => {
                let r = usize::from(self.world.processes[usize::from(p)].registration);
                self.world.database.registrations[r].lease = LEASE;
            }
            Tick(r) => self.tick(usize::from(r)),
            DeclareLost(r) => self.world.database.registrations[usize::from(r)].standing = Standing::Lost,
            GiveUp(x) => self.give_up(usize::from(x)),
            Pause(p) => self.world.processes[usize::from(p)].life = Life::Paused,
            Continue(p) => self.world.processes[usize::from(p)].life = Life::Running,
            Kill(p) => self.end(usize::from(p), Life::Dead),
            Start(p) => self.world.start(usize::from(p)),
            Drain(p) => self.world.processes[usize::from(p)].life = Life::Draining,
            LeaveUnwritten(p) => self.world.forget(usize::from(p)),
            Retire(p) => self.retire(usize::from(p)),
            LoseRetirement(p) => self.end(usize::from(p), Life::Ended),
            Crash => self.crash(),
            CrashAfterCommits => {
                for c in 0..CLAIMS {
                    if matches!(self.world.claims[c].phase, Phase::Running(_)) {
                        self.marks.reach(Mark::CrashLosesAnswer);
                        if self.world.processes[self.world.holder(c)].last_claim == LastClaim::Asked(c as u8) {
                            self.lose_claim(c);
                        }
                        self.commit_claim(c);
                    }
                }
                self.crash();
            }
            Replicate => self.world.standby = Some(self.world.database),
            FailOver => {
                if let Some(standby) = self.world.standby.take() {
                    self.world.database = standby;
                }
                self.crash();
            }
            Look(i, order, x) => self.look(i, order, x),
            Settle(i) => self.settle_order(usize::from(i)),
            PauseHost => self.order(|database| database.paused = true),
            ResumeHost => self.world.database.paused = false,
            Scout(p) => self.world.processes[usize::from(p)].sees_pause = self.world.database.paused,
            Disable => self.order(|database| database.disabled = true),
            _ => {}
        }
    }

    fn insert(&mut self, x: usize) {
        self.world.database.rows[x].waiting = true;
        self.world.truth[x].committed = true;
    }

    fn ends(&mut self, c: u8, x: u8, attempt: Attempt) {
        self.world.attempts[usize::from(c)][usize::from(x)] = attempt;
    }

    fn begin(&mut self, c: usize, x: usize, taken: bool) {
        let given_up = self.world.database.rows[x].ended.is_some_and(|ended| ended.given_up);
        let truth = &mut self.world.truth[x];
        truth.requests = (truth.requests + 1).min(2);
        truth.taken |= taken;
        truth.began_late |= given_up;
        self.world.attempts[c][x] = Attempt::Begun;
        let process = self.world.processes[self.world.holder(c)];
        if self.world.database.paused && !process.sees_pause {
            self.marks.reach(Mark::SentBeforeThePauseIsSeen);
        }
        if process.sees_pause && self.world.database.rows.iter().any(|row| row.waiting) {
            self.marks.reach(Mark::HeldBack);
        }
    }

    fn unsend(&mut self, c: usize, x: usize) {
        if self.world.gates[usize::from(self.world.claims[c].registration)] == 0 {
            self.marks.reach(Mark::GateClosesInTime);
        }
        self.world.attempts[c][x] = Attempt::Unsent;
    }

    fn tick(&mut self, r: usize) {
        self.world.database.registrations[r].lease -= 1;
        self.world.gates[r] = self.world.gates[r].saturating_sub(1);
    }

    fn renew(&mut self, p: usize) {
        let r = usize::from(self.world.processes[p].registration);
        let registration = &mut self.world.database.registrations[r];
        if registration.standing == Standing::Alive {
            if registration.lease == 0 {
                self.marks.reach(Mark::RenewedAfterItsEnd);
            }
            registration.lease = LEASE;
            self.world.gates[r] = GATE;
        } else {
            self.marks.reach(Mark::BeginsAnew);
            self.world.register(p);
        }
    }

    fn retire(&mut self, p: usize) {
        let r = usize::from(self.world.processes[p].registration);
        let registration = &mut self.world.database.registrations[r];
        if registration.standing == Standing::Alive {
            registration.standing = Standing::Stopped;
        }
        self.end(p, Life::Ended);
    }

    fn end(&mut self, p: usize, life: Life) {
        self.world.forget(p);
        self.world.processes[p] = Process { life, registration: NONE, claimant: NONE, ..Process::default() };
    }

    /// The claim of a process is settled.
    pub fn settle(&mut self, p: usize) {
        self.world.processes[p].last_claim = LastClaim::Settled;
    }

    /// All connections break, and what is not committed is gone.
    fn crash(&mut self) {
        for c in 0..CLAIMS {
            let claim = &mut self.world.claims[c];
            if matches!(claim.phase, Phase::Running(_)) {
                self.marks.reach(Mark::CrashEndsClaim);
            }
            claim.phase = Phase::Over;
        }
        for process in &mut self.world.processes {
            if let LastClaim::Asked(c) = process.last_claim {
                process.last_claim = LastClaim::InDoubt(c);
            }
        }
        self.world.raises = [None; REGISTRATIONS];
        self.world.people = [Person::Idle; PEOPLE];
    }
}

/// Whether the step uses up a fault.
pub fn goes_wrong(world: &World, action: Action) -> bool {
    use Action::*;
    match action {
        Insert(_) | Replicate | Look(..) | PauseHost | Disable => false,
        Tick(r) => {
            let process = world.processes[usize::from(world.database.registrations[usize::from(r)].process)];
            process.registration == r && matches!(process.life, Life::Running | Life::Draining)
        }
        LoseClaim(c) => world.claims[usize::from(c)].phase != Phase::OnItsWay,
        Unsend(c, _) => {
            let claim = world.claims[usize::from(c)];
            let life = world.processes[world.holder(usize::from(c))].life;
            world.gates[usize::from(claim.registration)] > 0 && life == Life::Running
        }
        _ => !action.behaves(),
    }
}

impl World {
    /// A number for another delivery.
    pub fn free_delivery(&self) -> Option<usize> {
        (0..DELIVERIES).find(|x| !self.truth[*x].committed)
    }

    /// A number for another claim of a process.
    pub fn free_claim(&self, p: usize) -> Option<usize> {
        (p * CLAIMS_EACH..(p + 1) * CLAIMS_EACH).find(|c| self.claims[*c] == ClaimStatement::default())
    }

    /// A number for another registration of a process.
    pub fn free_registration(&self, p: usize) -> Option<usize> {
        let numbers = p * REGISTRATIONS_EACH..(p + 1) * REGISTRATIONS_EACH;
        numbers.into_iter().find(|r| self.database.registrations[*r].standing == Standing::Free)
    }

    fn start(&mut self, p: usize) {
        self.processes[p] = Process { life: Life::Running, claimant: NONE, ..Process::default() };
        self.register(p);
    }

    fn register(&mut self, p: usize) {
        let Some(r) = self.free_registration(p) else { return };
        self.database.registrations[r] =
            Registration { standing: Standing::Alive, process: p as u8, epoch: FIRST_EPOCH, lease: LEASE };
        self.gates[r] = GATE;
        self.processes[p].registration = r as u8;
    }

    /// A process loses its memory.
    fn forget(&mut self, p: usize) {
        for c in 0..CLAIMS {
            if self.holder(c) == p {
                self.attempts[c] = [Attempt::None; DELIVERIES];
            }
        }
        self.processes[p].last_claim = LastClaim::Settled;
    }

    /// Frees the numbers to which nothing refers any more, and forgets what can make no difference.
    fn tidy(&mut self) {
        for c in 0..CLAIMS {
            if self.claims[c] == ClaimStatement::default() {
                continue;
            }
            let last = self.processes[self.holder(c)].last_claim;
            let refers = matches!(last, LastClaim::Asked(of) | LastClaim::InDoubt(of) | LastClaim::Revoked(of, _) if usize::from(of) == c);
            let reports = refers || self.attempts[c].iter().any(|attempt| *attempt != Attempt::None);
            if !reports {
                self.forget_claim(c as u8);
                if self.claims[c].phase == Phase::Over && !self.in_flight(|sending| usize::from(sending.claim) == c) {
                    self.claims[c] = ClaimStatement::default();
                }
            }
        }
        for r in 0..REGISTRATIONS {
            self.tidy_registration(r);
        }
        for process in &mut self.processes {
            if process.last_claim == LastClaim::Settled && process.claimant != process.registration {
                (process.claimant, process.epoch) = (process.registration, FIRST_EPOCH);
            }
        }
    }

    /// Whether a row of `sending`, on the standby too, is such.
    fn in_flight(&self, test: impl Fn(Sending) -> bool) -> bool {
        let of_standby = self.standby.iter().flat_map(|standby| &standby.rows);
        self.database.rows.iter().chain(of_standby).any(|row| row.sending.is_some_and(&test))
    }

    /// Nobody will report anything of this claim any more.
    fn forget_claim(&mut self, c: u8) {
        for x in 0..DELIVERIES {
            for database in [Some(&mut self.database), self.standby.as_mut()].into_iter().flatten() {
                if let Some(ended) = &mut database.rows[x].ended
                    && ended.claim == c
                {
                    ended.claim = NONE;
                }
            }
        }
    }

    fn tidy_registration(&mut self, r: usize) {
        let number = r as u8;
        let standing = self.database.registrations[r].standing;
        if standing != Standing::Alive {
            self.raises[r] = None;
        }
        let live = self.processes.iter().any(|process| process.registration == number);
        let claimed = self.claims.iter().any(|claim| claim.most > 0 && claim.registration == number);
        let on_standby = self.standby.is_some_and(|standby| standby.registrations[r].standing == Standing::Alive);
        if !live && !claimed {
            self.gates[r] = 0;
        }
        let ended = matches!(standing, Standing::Lost | Standing::Stopped);
        if ended && !live && !claimed && !on_standby && !self.in_flight(|sending| sending.registration == number) {
            self.database.registrations[r] = Registration::default();
        }
    }
}
