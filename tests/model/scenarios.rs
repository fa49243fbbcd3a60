//! first measurements
use crate::actions::Fault::*;
use crate::explore::{Protocol, runs_that_never_end};
use crate::marks::Mark;
use crate::scenario::*;
use stateright::{Checker, Model};

fn run(scenario: Scenario) {
    let started = std::time::Instant::now();
    let protocol = Protocol::of(scenario.clone());
    let checker = protocol.checker().symmetry_fn(crate::state::World::representative).threads(2).spawn_dfs().join();
    println!("{scenario}: {} states, {} unique, depth {}, {:?}", checker.state_count(), checker.unique_state_count(), checker.max_depth(), started.elapsed());
    for mark in Mark::ALL {
        if checker.model().marks.has(mark) { print!("{mark:?} ") }
    }
    println!();
    if let Some(path) = checker.discovery("every rule holds") {
        println!("{:?}", checker.model().broken(path.last_state()));
        for action in path.into_actions() { println!("  - {action}") }
        panic!("broken");
    }
}

fn live(scenario: Scenario) {
    let started = std::time::Instant::now();
    let protocol = Protocol::of(scenario.clone());
    let (states, endless) = runs_that_never_end(&protocol);
    println!("LIVE {scenario}: {states} states, {:?}", started.elapsed());
    if let Some(endless) = endless {
        println!("circle {}", endless.circle);
        for action in endless.steps { println!("  - {action}") }
        panic!("endless");
    }
}

#[test]
fn a() {
    run(Scenario { name: "claims", calls: 2, faults: 2, wrong: faults(&[Kill, LoseClaim, LoseRevocation]), ..Scenario::NOTHING });
}
#[test]
fn b() {
    live(Scenario { name: "claims of one", calls: 1, processes: 1, faults: 3, wrong: faults(&[LoseClaim, LoseRevocation]), ..Scenario::NOTHING });
}
#[test]
fn c() {
    live(Scenario { name: "claims of one", calls: 1, processes: 1, faults: 3, wrong: faults(&[LoseClaim, LoseRevocation]), variant: Some(Variant::EveryRaiseCounts), ..Scenario::NOTHING });
}
