//! Holds what was seen of a delivery of the real program against the model: is there a run of the model in which just this
//! is seen, in an order that agrees with what is known of the order?

use std::collections::HashSet;

use postcall::domain::delivery::State;

use super::actions::Action;
use super::explore::Protocol;
use super::scenario::{Ask, Scenario, asks};
use super::state::{Attempt, CLAIMS, Phase, World};
use super::steps::beginning;

/// Something that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// The platform committed its call.
    Inserted,
    /// The claim under which it ended was committed. (Of claims that were revoked or released, nothing is left to see.)
    Claimed,
    /// The receiver got a request.
    Requested,
    /// It left `sending`, as this.
    Recorded(State),
    /// It was given up.
    GivenUp,
    /// Its claim said late what became of it.
    Evidence(State),
    /// A person said what became of it.
    Found(State),
    /// The dispatcher that holds it was killed.
    Killed,
    /// The dispatcher that holds it was stopped, and may have gone on later.
    Paused,
    /// A person replayed it. Requests of the replay are seen as requests, too: they are of the same message.
    Replayed,
}

/// What was seen of one delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    /// What was seen, in no order; at most [`MOST_SEEN`].
    pub seen: Vec<Seen>,
    /// Pairs of which the first certainly happened before the second.
    pub before: Vec<(usize, usize)>,
    /// The state that is shown at the end.
    pub shown: State,
}

/// The most that may have been seen of one delivery.
pub const MOST_SEEN: usize = 32;
/// One fault, seen or not, explains whatever else can be seen of a delivery. Further ones leave nothing to see.
const MOST_FAULTS: u8 = 1;

impl Trace {
    /// What was seen in this order.
    pub fn in_order(seen: &[Seen], shown: State) -> Trace {
        let before = (1..seen.len()).map(|at| (at - 1, at)).collect();
        Trace { seen: seen.to_vec(), before, shown }
    }

    /// Whether the model has such a run. Looks for one with few faults first.
    pub fn is_accepted(&self) -> bool {
        let faults = self.count(|seen| matches!(seen, Seen::Killed | Seen::Paused));
        self.seen.len() <= MOST_SEEN && (faults..=faults.max(MOST_FAULTS)).any(|faults| self.is_run_with(faults))
    }

    fn count(&self, of: impl Fn(&Seen) -> bool) -> u8 {
        self.seen.iter().filter(|seen| of(seen)).count() as u8
    }

    fn is_run_with(&self, faults: u8) -> bool {
        let found = self.count(|seen| matches!(seen, Seen::Found(_) | Seen::Recorded(State::Skipped))).min(1);
        let scenario = Scenario {
            name: "a run of the program",
            inserts: self.seen.contains(&Seen::Inserted),
            faults,
            wrong: u32::MAX,
            orders: found + self.count(|seen| *seen == Seen::Replayed),
            ordered: asks(&[Ask::Find, Ask::Disable, Ask::Replay]),
            refuses: true,
            ..Scenario::NOTHING
        };
        let protocol = Protocol::of(scenario);
        let mut due = vec![(beginning(&protocol.scenario), 0u32)];
        let mut tried: HashSet<(u64, u32)> = HashSet::new();
        while let Some((world, done)) = due.pop() {
            if done.count_ones() as usize == self.seen.len() && world.database.rows[0].shown() == Some(self.shown) {
                return true;
            }
            for action in protocol.steps(&world) {
                let next = protocol.after(&world, action);
                let mut after = self.after(done, sight(&world, action, &next));
                // Whoever is cut off from everybody else seems to stand still, and nobody has stopped it.
                if matches!(action, Action::Pause(_)) {
                    after.push(done);
                }
                for done in after {
                    if tried.insert((next.common_number(), done)) {
                        due.push((next, done));
                    }
                }
            }
        }
        false
    }

    /// What may have been seen after a step of which this is seen; nothing if the step contradicts the trace.
    fn after(&self, done: u32, sight: Option<Seen>) -> Vec<u32> {
        let Some(sight) = sight else { return vec![done] };
        let claimed = (0..self.seen.len()).any(|at| self.seen[at] == Seen::Claimed && done & (1 << at) != 0);
        if matches!(sight, Seen::Recorded(_) | Seen::GivenUp) && !claimed {
            return vec![];
        }
        let may_be_next = |at: &usize| {
            let first = |(first, then): &(usize, usize)| *then == *at && done & (1 << first) == 0;
            self.seen[*at] == sight && done & (1 << at) == 0 && !self.before.iter().any(first)
        };
        let mut after: Vec<u32> = (0..self.seen.len()).filter(may_be_next).map(|at| done | 1 << at).collect();
        // An earlier claim may have left nothing to see.
        if sight == Seen::Claimed && !claimed {
            after.push(done);
        }
        after
    }
}

/// What is seen of a step.
fn sight(before: &World, action: Action, after: &World) -> Option<Seen> {
    match action {
        Action::Begin(..) => return Some(Seen::Requested),
        Action::Kill(p) if holds(before, p) => return Some(Seen::Killed),
        Action::Pause(p) if holds(before, p) => return Some(Seen::Paused),
        _ => {}
    }
    if before.replay(0).is_none() && after.replay(0).is_some() {
        return Some(Seen::Replayed);
    }
    let (was, is) = (&before.database.rows[0], &after.database.rows[0]);
    if let (None, Some(ended)) = (was.ended, is.ended) {
        return Some(if ended.given_up { Seen::GivenUp } else { Seen::Recorded(ended.state) });
    }
    if was.evidence != is.evidence {
        return is.evidence.map(Seen::Evidence);
    }
    if was.finding != is.finding {
        return is.finding.map(Seen::Found);
    }
    if let Action::Insert(0) = action {
        return Some(Seen::Inserted);
    }
    (was.sending.is_none() && is.sending.is_some()).then_some(Seen::Claimed)
}

/// Whether a process holds the delivery: in the database, in its memory, or by a claim that is about to be committed.
fn holds(world: &World, p: u8) -> bool {
    let registration = world.processes[usize::from(p)].registration;
    let sending = world.database.rows[0].sending.is_some_and(|sending| sending.registration == registration);
    let claims = |c: usize| {
        let locks = matches!(world.claims[c].phase, Phase::Running(rows) if rows & 1 != 0);
        locks && world.claims[c].registration == registration
    };
    let tries = |c: usize| world.holder(c) == usize::from(p) && world.attempts[c][0] != Attempt::None;
    sending || (0..CLAIMS).any(|c| claims(c) || tries(c))
}
