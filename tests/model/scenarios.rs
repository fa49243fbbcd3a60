//! What is explored: the protocol as it is, scenario by scenario. Each test prints how many states there were.
//!
//! `POSTCALL_MODEL_MORE=1` lets one more thing go wrong in each scenario; `scripts/torture --faults` does so. Where that gives more
//! than [`MOST_STATES`], only so many are explored, and it is said.

use std::time::Instant;

use stateright::{Checker, Model};

use crate::protocol::actions::Fault::*;
use crate::protocol::explore::{Protocol, runs_that_never_end};
use crate::protocol::marks::Mark;
use crate::protocol::scenario::{Ask, Scenario, asks, faults};
use crate::protocol::state::World;
use crate::protocol::story::Story;

/// How many faults more than usual.
fn more() -> u8 {
    std::env::var("POSTCALL_MODEL_MORE").ok().map_or(0, |more| more.parse().unwrap())
}

/// The most states that are looked at in one scenario, if more may go wrong than usual: all scenarios together then take less
/// than ten minutes on two cores. Usually each is explored in full.
const MOST_STATES: usize = 500_000;
/// Likewise the most different states from which runs of a world that behaves are looked at.
const MOST_STARTS: usize = 120_000;

/// How the number of states is said.
fn extent(is_whole: bool) -> &'static str {
    if is_whole { "explored in full" } else { "EXPLORED IN PART, because there are too many states" }
}

/// Explores the scenario in full, in every state of which every rule must hold, and shows that it comes to its branches.
fn explore(scenario: Scenario) {
    let begun = Instant::now();
    let scenario = Scenario { faults: scenario.faults + more(), ..scenario };
    let mut checker = Protocol::of(scenario).checker().symmetry_fn(World::representative).threads(2);
    if more() > 0 {
        checker = checker.target_state_count(MOST_STATES);
    }
    let checker = checker.spawn_dfs().join();
    let protocol = checker.model();
    let is_whole = more() == 0 || checker.state_count() < MOST_STATES;
    println!(
        "{}: {}: {} states, {} different ones, at most {} steps, {:.1?}",
        protocol.scenario,
        extent(is_whole),
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed()
    );
    if let Some(path) = checker.discovery(Protocol::RULES) {
        let broken = protocol.broken(path.last_state()).unwrap();
        panic!("{}", Story { title: protocol.scenario.name, steps: path.into_actions(), circle: false, end: broken });
    }
    // What is explored in part need not come to everything.
    if !is_whole {
        return;
    }
    checker.assert_properties();
    let missed: Vec<&Mark> = protocol.scenario.expects.iter().filter(|mark| !protocol.marks.has(**mark)).collect();
    assert!(missed.is_empty(), "{} never comes to {missed:?}", protocol.scenario.name);
}

/// From every state of the scenario, every run of the world that behaves must end well.
fn ends(scenario: Scenario) {
    let begun = Instant::now();
    let scenario = Scenario { faults: scenario.faults + more(), ..scenario };
    let protocol = Protocol::of(scenario);
    let most = if more() > 0 { MOST_STARTS } else { usize::MAX };
    let (states, endless) = runs_that_never_end(&protocol, most);
    let extent = extent(states < most);
    println!("runs of {}: {extent}: {states} different states, {:.1?}", protocol.scenario, begun.elapsed());
    if let Some(endless) = endless {
        panic!("{}", endless.story(protocol.scenario.name));
    }
}

const CLAIMS: Scenario = Scenario {
    name: "claims",
    calls: 2,
    inserts: true,
    faults: 2,
    wrong: faults(&[Kill, LoseClaim, LoseRevocation]),
    expects: &[Mark::RevokedClaimArrives, Mark::ClaimOfTheDeadCommits, Mark::ClaimsMeet, Mark::RevocationReturns],
    ..Scenario::NOTHING
};

/// Revocations that are late need more to go wrong, and one call only.
const REVOCATIONS: Scenario = Scenario {
    name: "revocations",
    faults: 3,
    wrong: faults(&[Kill, LoseClaim, LoseRevocation]),
    expects: &[Mark::LateRaise, Mark::ClaimOfALostDispatcherArrives],
    ..Scenario::NOTHING
};

const LEASES: Scenario = Scenario {
    name: "leases",
    calls: 2,
    faults: 2,
    wrong: faults(&[Kill, Pause, LateRenewal, LoseCompletion, CutRequest]),
    expects: &[
        Mark::ClaimCommitsAfterTheLoss,
        Mark::NotHeld,
        Mark::Evidence,
        Mark::UnsentAfterGivenUp,
        Mark::GateClosesInTime,
        Mark::RenewedAfterItsEnd,
        Mark::BeginsAnew,
    ],
    ..Scenario::NOTHING
};

const COMPLETIONS: Scenario = Scenario {
    name: "completions",
    calls: 2,
    faults: 2,
    wrong: faults(&[Kill, LoseCompletion, SendAway, Unreachable, CutRequest]),
    refuses: true,
    expects: &[Mark::AlreadyRecorded, Mark::ReleasedTwice],
    ..Scenario::NOTHING
};

const PEOPLE: Scenario = Scenario {
    name: "people",
    faults: 1,
    wrong: faults(&[Kill, Pause, LoseCompletion, Unreachable, CutRequest]),
    orders: 3,
    ordered: asks(&[Ask::Replay, Ask::Find]),
    refuses: true,
    expects: &[
        Mark::EvidenceAfterFinding,
        Mark::EvidenceAfterReplay,
        Mark::EvidenceBeforeFinding,
        Mark::PersonWaits,
        Mark::Replayed,
        Mark::ReplayedAgain,
    ],
    ..Scenario::NOTHING
};

const PAUSED_HOST: Scenario = Scenario {
    name: "a paused host, and an action that is disabled",
    calls: 2,
    faults: 1,
    wrong: faults(&[Kill, LoseClaim]),
    orders: 1,
    ordered: asks(&[Ask::PauseHost, Ask::Disable]),
    expects: &[Mark::SentBeforeThePauseIsSeen, Mark::HeldBack],
    ..Scenario::NOTHING
};

const DRAIN: Scenario = Scenario {
    name: "drain",
    calls: 2,
    faults: 2,
    wrong: faults(&[Drain, LoseRetirement, LeaveUnwritten, LoseClaim, LoseRevocation]),
    expects: &[Mark::LeftByAStoppedOne],
    ..Scenario::NOTHING
};

const SERVER: Scenario = Scenario {
    name: "the server",
    calls: 2,
    faults: 2,
    wrong: faults(&[Crash, Kill, LoseClaim, LoseRevocation, LoseCompletion]),
    expects: &[Mark::CrashEndsClaim, Mark::CrashLosesAnswer],
    ..Scenario::NOTHING
};

/// One claim takes two deliveries.
const PORTIONS: Scenario = Scenario {
    name: "portions",
    calls: 3,
    places: 2,
    faults: 1,
    wrong: faults(&[Kill, Pause, LoseClaim, LoseCompletion, SendAway, Crash, Drain]),
    ..Scenario::NOTHING
};

/// Every two things that can go wrong, together.
pub const EVERY_PAIR: Scenario = Scenario {
    name: "every pair of faults",
    faults: 2,
    wrong: u32::MAX,
    expects: &[Mark::RevokedAfterGivenUp],
    ..Scenario::NOTHING
};

pub const ALL: Scenario = Scenario {
    name: "every fault, beside every order",
    faults: 1,
    wrong: u32::MAX,
    orders: 2,
    ordered: u32::MAX,
    refuses: true,
    reaches_all: true,
    ..Scenario::NOTHING
};

const SCENARIOS: [&Scenario; 11] = [
    &CLAIMS,
    &REVOCATIONS,
    &LEASES,
    &COMPLETIONS,
    &PEOPLE,
    &PAUSED_HOST,
    &DRAIN,
    &SERVER,
    &PORTIONS,
    &EVERY_PAIR,
    &ALL,
];

#[test]
fn every_rule_holds_whatever_happens_to_claims() {
    explore(CLAIMS);
    explore(REVOCATIONS);
}

#[test]
fn every_rule_holds_whatever_happens_to_leases() {
    explore(LEASES);
}

#[test]
fn every_rule_holds_whatever_happens_to_completions() {
    explore(COMPLETIONS);
}

#[test]
fn every_rule_holds_whatever_people_order() {
    explore(PEOPLE);
    explore(PAUSED_HOST);
}

#[test]
fn every_rule_holds_whenever_a_dispatcher_drains() {
    explore(DRAIN);
}

#[test]
fn every_rule_holds_when_the_server_stops_or_its_synchronous_standby_takes_over() {
    explore(SERVER);
}

#[test]
fn every_rule_holds_if_a_claim_takes_several_deliveries() {
    explore(PORTIONS);
}

#[test]
fn every_rule_holds_under_every_pair_of_faults() {
    explore(EVERY_PAIR);
}

#[test]
fn every_rule_holds_under_every_fault_beside_every_order_and_every_state_is_reached() {
    explore(ALL);
}

#[test]
fn every_branch_that_matters_is_expected_by_a_scenario() {
    let unexpected = |mark: &Mark| !SCENARIOS.iter().any(|scenario| scenario.expects.contains(mark));
    let unexpected: Vec<Mark> = Mark::ALL.into_iter().filter(unexpected).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

#[test]
fn every_delivery_ends_once_the_world_behaves_whatever_happened_to_a_single_dispatcher() {
    ends(Scenario { name: "a single dispatcher", processes: 1, ..REVOCATIONS });
    ends(Scenario { name: "a single dispatcher, every pair of faults", processes: 1, ..EVERY_PAIR });
}

#[test]
fn every_delivery_ends_once_the_world_behaves_whatever_happened_to_claims() {
    ends(CLAIMS);
}

#[test]
fn every_delivery_ends_once_the_world_behaves_whatever_happened_to_leases_and_completions() {
    ends(LEASES);
    ends(COMPLETIONS);
}

#[test]
fn every_delivery_ends_once_the_world_behaves_whoever_drained() {
    ends(DRAIN);
}

#[test]
fn every_delivery_ends_once_the_world_behaves_after_every_pair_of_faults() {
    ends(EVERY_PAIR);
    ends(ALL);
}
