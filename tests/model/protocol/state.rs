//! The state of the model: what the database holds, what is on its way to it, what each dispatcher has in memory, and
//! what really happened.
//!
//! Numbers name things: `x` a delivery, `c` a claim, `r` a registration of a dispatcher, `p` a dispatcher's process. The
//! numbers of claims and registrations to which nothing refers any more are used again, so that the state space is finite.

use std::hash::{DefaultHasher, Hash, Hasher};

use postcall::domain::delivery::State;

/// Deliveries, replays included.
pub const DELIVERIES: usize = 3;
/// Processes, each of which is a dispatcher.
pub const PROCESSES: usize = 2;
/// Claims of one process to which something refers at the same time. The first process has the first numbers.
pub const CLAIMS_EACH: usize = 3;
pub const CLAIMS: usize = PROCESSES * CLAIMS_EACH;
/// Registrations of one process to which something refers at the same time.
pub const REGISTRATIONS_EACH: usize = 5;
pub const REGISTRATIONS: usize = PROCESSES * REGISTRATIONS_EACH;
/// People who give orders at the same time.
pub const PEOPLE: usize = 2;

/// No claim and no registration has this number.
pub const NONE: u8 = u8::MAX;

/// What the rows of the tables say about one delivery. Nothing but the statements keeps it in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Row {
    /// It has a row in `waiting`.
    pub waiting: bool,
    /// Its row in `sending`.
    pub sending: Option<Sending>,
    /// Its row in `delivery`.
    pub ended: Option<Ended>,
    /// What its claim learnt late: the row of `resolution` whose source is the claim.
    pub evidence: Option<State>,
    /// What a person found out: the row of `resolution` whose source is a person.
    pub finding: Option<State>,
    /// How many findings were recorded.
    pub findings: u8,
    /// The delivery of which it is the replay: the row in `replay`.
    pub replay_of: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sending {
    pub claim: u8,
    pub registration: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    pub state: State,
    /// Its error kind is `dispatcher_lost`: others gave it up.
    pub given_up: bool,
    /// Under which claim; [`NONE`] when nobody refers to that claim any more.
    pub claim: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Standing {
    /// The number is free.
    #[default]
    Free,
    Alive,
    /// `lost_at` is set.
    Lost,
    /// `stopped_at` is set.
    Stopped,
}

/// A row of `dispatcher`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Registration {
    pub standing: Standing,
    pub process: u8,
    pub epoch: u8,
    /// Steps of the clock until the lease is over.
    pub lease: u8,
}

/// What a failover keeps or loses: the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Database {
    pub rows: [Row; DELIVERIES],
    pub registrations: [Registration; REGISTRATIONS],
    /// The host of all actions is paused.
    pub paused: bool,
    /// The action was disabled.
    pub disabled: bool,
}

/// How far the statement of a claim has come. The database goes on with it whether anybody waits for the answer or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// There is none, or none any more.
    #[default]
    Over,
    /// It is late: it has not reached the database.
    OnItsWay,
    /// It runs, and has locked these rows of `waiting` (a bit for each).
    Running(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ClaimStatement {
    pub phase: Phase,
    pub registration: u8,
    pub epoch: u8,
    /// How many deliveries it asks for.
    pub most: u8,
}

/// What a dispatcher has in memory about one delivery of one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Attempt {
    /// Nothing.
    #[default]
    None,
    /// A `Claimed`: the right to send.
    Held,
    /// The request is written; no response has come.
    Begun,
    /// A `Finished`, to be recorded.
    Finished(State),
    /// A `Finished` that came too late, to be recorded as evidence.
    Late(State),
    /// A `Completion::Unsent`.
    Unsent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Life {
    #[default]
    Dead,
    Running,
    /// It stands still (SIGSTOP, a machine that sleeps).
    Paused,
    /// It claims no more.
    Draining,
    /// It ended in an orderly way.
    Ended,
}

/// What a claimer knows of its last claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum LastClaim {
    #[default]
    Settled,
    /// It waits for the answer.
    Asked(u8),
    /// The answer was lost.
    InDoubt(u8),
    /// Its revocation has raised the epoch, and what it took is to be put back. Says whether the dispatcher was alive.
    Revoked(u8, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Process {
    pub life: Life,
    pub registration: u8,
    /// The epoch that the claimer believes in.
    pub epoch: u8,
    /// The registration to which that epoch belongs.
    pub claimant: u8,
    pub last_claim: LastClaim,
    /// The scout has seen that the host is paused.
    pub sees_pause: bool,
}

/// What a person orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Send it again, if it certainly was not delivered.
    Replay,
    /// Send it again by name, whatever it was.
    ReplayDespite,
    /// Record what became of it, as the receiver told.
    Find(State),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Person {
    #[default]
    Idle,
    /// Has looked at a delivery, under the lock, and is about to commit.
    Decided(Order, u8),
}

/// What really happened to a delivery, whether anybody knows it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Truth {
    /// The platform, or who replayed, was told that it is committed.
    pub committed: bool,
    /// Requests that the receiver got; at most two are counted.
    pub requests: u8,
    /// The receiver took the request (2xx). Otherwise it refused it, if it got one.
    pub taken: bool,
    /// It is a replay that was ordered although the message may have been delivered.
    pub despite: bool,
    /// A request began although others had given the delivery up.
    pub began_late: bool,
    /// A finding was recorded although the delivery had been replayed.
    pub contradicted: bool,
    /// A row of history was changed.
    pub rewritten: bool,
}

/// The whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct World {
    pub database: Database,
    /// The standby, if there is one that lags behind.
    pub standby: Option<Database>,
    pub claims: [ClaimStatement; CLAIMS],
    pub attempts: [[Attempt; DELIVERIES]; CLAIMS],
    pub processes: [Process; PROCESSES],
    /// For each registration: steps of the clock until its send gate closes.
    pub gates: [u8; REGISTRATIONS],
    /// For each registration: a statement that raises its epoch, lost by who sent it and still on its way. It says which
    /// epoch it is about.
    pub raises: [Option<u8>; REGISTRATIONS],
    pub people: [Person; PEOPLE],
    pub truth: [Truth; DELIVERIES],
    /// How many more things may go wrong.
    pub faults: u8,
    /// How many more orders people may give.
    pub orders: u8,
}

impl Life {
    /// Whether it lives, and does not stand still for good.
    pub fn acts(self) -> bool {
        match self {
            Life::Running | Life::Paused | Life::Draining => true,
            Life::Dead | Life::Ended => false,
        }
    }
}

impl Row {
    /// The state that the view shows.
    pub fn shown(&self) -> Option<State> {
        let ended = || self.evidence.or(self.finding).or(self.ended.map(|ended| ended.state));
        match (self.waiting, self.sending) {
            (true, _) => Some(State::Waiting),
            (_, Some(_)) => Some(State::Sending),
            _ => ended(),
        }
    }

    /// In how many tables it has a row.
    pub fn places(&self) -> u8 {
        u8::from(self.waiting) + u8::from(self.sending.is_some()) + u8::from(self.ended.is_some())
    }
}

impl World {
    /// The process that made a claim.
    pub fn holder(&self, c: usize) -> usize {
        c / CLAIMS_EACH
    }

    /// How many places of a process are taken.
    pub fn taken_places(&self, p: usize) -> u8 {
        let mut taken = 0;
        for c in 0..CLAIMS {
            for x in 0..DELIVERIES {
                taken += u8::from(self.attempts[c][x] != Attempt::None && self.holder(c) == p);
            }
        }
        taken
    }

    /// Whether a running claim has locked this row of `waiting`.
    pub fn is_locked(&self, x: usize) -> bool {
        self.claims.iter().any(|claim| matches!(claim.phase, Phase::Running(rows) if rows & (1 << x) != 0))
    }

    /// Whether a person holds the lock of this delivery.
    pub fn is_judged(&self, x: usize) -> bool {
        self.people.iter().any(|person| matches!(person, Person::Decided(_, of) if usize::from(*of) == x))
    }

    /// The first delivery of the message.
    pub fn message(&self, x: usize) -> usize {
        let mut first = x;
        while let Some(earlier) = self.database.rows[first].replay_of {
            first = usize::from(earlier);
        }
        first
    }

    /// The replay of a delivery.
    pub fn replay(&self, x: usize) -> Option<usize> {
        (0..DELIVERIES).find(|y| self.database.rows[*y].replay_of == Some(x as u8))
    }
}

/// Dispatchers are alike: a state and the same state with the dispatchers exchanged are one.
impl World {
    /// The same state with the two dispatchers exchanged.
    fn exchanged(&self) -> World {
        let claim = |c: u8| if c == NONE { c } else { (c + CLAIMS_EACH as u8) % CLAIMS as u8 };
        let registration = |r: u8| if r == NONE { r } else { (r + REGISTRATIONS_EACH as u8) % REGISTRATIONS as u8 };
        let mut other = *self;
        other.database.exchange(claim, registration);
        if let Some(standby) = &mut other.standby {
            standby.exchange(claim, registration);
        }
        other.claims.rotate_left(CLAIMS_EACH);
        for statement in other.claims.iter_mut().filter(|statement| statement.most > 0) {
            statement.registration = registration(statement.registration);
        }
        other.attempts.rotate_left(CLAIMS_EACH);
        other.processes.rotate_left(1);
        for process in &mut other.processes {
            process.registration = registration(process.registration);
            process.claimant = registration(process.claimant);
            process.last_claim = match process.last_claim {
                LastClaim::Settled => LastClaim::Settled,
                LastClaim::Asked(c) => LastClaim::Asked(claim(c)),
                LastClaim::InDoubt(c) => LastClaim::InDoubt(claim(c)),
                LastClaim::Revoked(c, alive) => LastClaim::Revoked(claim(c), alive),
            };
        }
        other.gates.rotate_left(REGISTRATIONS_EACH);
        other.raises.rotate_left(REGISTRATIONS_EACH);
        other
    }

    /// Of the two, always the same one. (Both are explored if they have the same number, which costs time only.)
    pub fn representative(&self) -> World {
        let other = self.exchanged();
        if other.number() < self.number() { other } else { *self }
    }

    /// The number of both.
    pub fn common_number(&self) -> u64 {
        self.number().min(self.exchanged().number())
    }

    /// The state as a number. As with stateright's own, two states may have the same one, which is very unlikely.
    fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl Database {
    fn exchange(&mut self, claim: impl Fn(u8) -> u8, registration: impl Fn(u8) -> u8) {
        for row in &mut self.rows {
            if let Some(sending) = &mut row.sending {
                sending.claim = claim(sending.claim);
                sending.registration = registration(sending.registration);
            }
            if let Some(ended) = &mut row.ended {
                ended.claim = claim(ended.claim);
            }
        }
        self.registrations.rotate_left(REGISTRATIONS_EACH);
        for one in self.registrations.iter_mut().filter(|one| one.standing != Standing::Free) {
            one.process = 1 - one.process;
        }
    }
}
