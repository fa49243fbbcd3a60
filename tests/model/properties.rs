//! What must hold in every state, and which states must be reached.

use postcall::domain::delivery::State;

use crate::scenario::Scenario;
use crate::state::*;

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
    Rule {
        name: "a message is taken once, unless it was sent again by name",
        holds: |world, _| messages_are_taken_once(world),
    },
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

fn messages_are_taken_once(world: &World) -> bool {
    (0..DELIVERIES).all(|message| {
        let mut taken = 0;
        let mut despite = 0;
        for x in 0..DELIVERIES {
            if world.truth[x].committed && world.message(x) == message {
                taken += u8::from(world.truth[x].taken);
                despite += u8::from(world.truth[x].despite);
            }
        }
        taken <= 1 + despite
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

/// States that must be reached by the scenarios together.
pub const REACHED: [(&str, fn(&World) -> bool); 11] = [
    ("waiting", |world| recorded(world, |row| row.waiting)),
    ("sending", |world| recorded(world, |row| row.sending.is_some())),
    ("delivered", |world| ended_as(world, State::Delivered)),
    ("rejected", |world| ended_as(world, State::Rejected)),
    ("failed", |world| ended_as(world, State::Failed)),
    ("unknown, because nobody answered", |world| {
        recorded(world, |row| row.ended.is_some_and(|ended| ended.state == State::Unknown && !ended.given_up))
    }),
    ("unknown, because it was given up", |world| recorded(world, |row| row.ended.is_some_and(|ended| ended.given_up))),
    ("skipped", |world| ended_as(world, State::Skipped)),
    ("resolved by a person", |world| recorded(world, |row| row.finding.is_some())),
    ("resolved by late evidence", |world| recorded(world, |row| row.evidence.is_some())),
    ("all ended", |world| world.truth.iter().all(|truth| truth.committed) && is_good_end(world)),
];

fn recorded(world: &World, test: impl Fn(&Row) -> bool) -> bool {
    world.database.rows.iter().any(test)
}

fn ended_as(world: &World, state: State) -> bool {
    recorded(world, |row| row.ended.is_some_and(|ended| ended.state == state))
}
