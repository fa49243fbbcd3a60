//! What must hold in every state, and which states must be reached.

use postcall::domain::delivery::State;

use super::scenario::Scenario;
use super::state::*;

/// Something that must hold in every state.
pub struct Rule {
    pub name: &'static str,
    pub holds: fn(&World, &Scenario) -> bool,
}

/// All that must hold.
pub const RULES: [Rule; 9] = [
    Rule {
        name: "each delivery is requested at most once",
        holds: |world, _| each(world, |_, truth| truth.requests <= 1),
    },
    Rule {
        name: "nothing that is committed is lost",
        holds: |world, _| each(world, |row, truth| !truth.committed || row.places() > 0),
    },
    Rule {
        name: "each delivery is in one place",
        holds: |world, _| each(world, |row, truth| row.places() <= u8::from(truth.committed)),
    },
    Rule { name: "what is shown is what was", holds: |world, _| each(world, shows_what_was) },
    Rule { name: "what was taken is sent again by name only", holds: |world, _| taken_again_by_name_only(world) },
    Rule { name: "what was given up never begins", holds: |world, _| each(world, |_, truth| !truth.began_late) },
    Rule { name: "history never changes", holds: |world, _| each(world, |_, truth| !truth.rewritten) },
    Rule { name: "a delivery has one finding or one replay", holds: |world, _| one_finding_or_replay(world) },
    Rule { name: "a dispatcher has no more in flight than places", holds: doubt_is_bounded },
];

fn each(world: &World, holds: impl Fn(&Row, &Truth) -> bool) -> bool {
    world.database.rows.iter().zip(&world.truth).all(|(row, truth)| holds(row, truth))
}

/// `failed`, `skipped` and `waiting` reached nobody; `delivered` and `rejected` were answered so.
fn shows_what_was(row: &Row, truth: &Truth) -> bool {
    match row.shown() {
        Some(State::Waiting | State::Failed | State::Skipped) => truth.requests == 0,
        Some(State::Delivered) => truth.requests == 1 && truth.taken,
        Some(State::Rejected) => truth.requests == 1 && !truth.taken,
        Some(State::Sending | State::Unknown) | None => true,
    }
}

/// No delivery but those that were ordered by name comes to a message that was taken before.
fn taken_again_by_name_only(world: &World) -> bool {
    (0..DELIVERIES).all(|x| {
        let truth = world.truth[x];
        let mut earlier = world.database.rows[x].replay_of;
        while let Some(y) = earlier.map(usize::from) {
            if truth.taken && !truth.despite && world.truth[y].taken {
                return false;
            }
            earlier = world.database.rows[y].replay_of;
        }
        true
    })
}

fn one_finding_or_replay(world: &World) -> bool {
    (0..DELIVERIES).all(|x| {
        let replays = world.database.rows.iter().filter(|row| row.replay_of == Some(x as u8)).count();
        let findings = usize::from(world.database.rows[x].findings);
        findings <= 1 && replays <= 1 && !world.truth[x].contradicted
    })
}

/// What would be in doubt if the dispatcher died now.
fn doubt_is_bounded(world: &World, scenario: &Scenario) -> bool {
    (0..REGISTRATIONS as u8).all(|r| {
        let of = |row: &&Row| row.sending.is_some_and(|sending| sending.registration == r);
        world.database.rows.iter().filter(of).count() <= usize::from(scenario.places)
    })
}

/// Whether everything has ended, and nobody has anything left to say about it.
pub fn is_good_end(world: &World) -> bool {
    let ended = each(world, |row, truth| !truth.committed || row.ended.is_some() && row.places() == 1);
    ended && world.attempts.iter().flatten().all(|attempt| *attempt == Attempt::None)
}

/// A state that must be reached.
pub struct Reached {
    pub name: &'static str,
    pub test: fn(&World) -> bool,
}

/// States that must be reached by the scenario that has everything.
pub const REACHED: [Reached; 11] = [
    Reached { name: "waiting", test: |world| recorded(world, |row| row.waiting) },
    Reached { name: "sending", test: |world| recorded(world, |row| row.sending.is_some()) },
    Reached { name: "delivered", test: |world| ended_as(world, State::Delivered) },
    Reached { name: "rejected", test: |world| ended_as(world, State::Rejected) },
    Reached { name: "failed", test: |world| ended_as(world, State::Failed) },
    Reached {
        name: "unknown, because nobody answered",
        test: |world| ended(world, |ended| ended.state == State::Unknown && !ended.given_up),
    },
    Reached { name: "unknown, because it was given up", test: |world| ended(world, |ended| ended.given_up) },
    Reached { name: "skipped", test: |world| ended_as(world, State::Skipped) },
    Reached { name: "resolved by a person", test: |world| recorded(world, |row| row.finding.is_some()) },
    Reached { name: "resolved by late evidence", test: |world| recorded(world, |row| row.evidence.is_some()) },
    Reached { name: "all ended", test: |world| ended(world, |_| true) && is_good_end(world) },
];

fn recorded(world: &World, test: impl Fn(&Row) -> bool) -> bool {
    world.database.rows.iter().any(test)
}

fn ended(world: &World, test: impl Fn(Ended) -> bool) -> bool {
    recorded(world, |row| row.ended.is_some_and(&test))
}

fn ended_as(world: &World, state: State) -> bool {
    ended(world, |ended| ended.state == state)
}
