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
    println!(
        "{scenario}: {} states, {} unique, depth {}, {:?}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    for mark in Mark::ALL {
        if checker.model().marks.has(mark) {
            print!("{mark:?} ")
        }
    }
    println!();
    if let Some(path) = checker.discovery("every rule holds") {
        println!("{:?}", checker.model().broken(path.last_state()));
        for action in path.into_actions() {
            println!("  - {action}")
        }
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
        for action in endless.steps {
            println!("  - {action}")
        }
        panic!("endless");
    }
}

fn of(at: usize) -> Scenario {
    let n = Scenario::NOTHING;
    let f: u8 = std::env::var("F").ok().and_then(|f| f.parse().ok()).unwrap_or(2);
    match at {
        0 => Scenario {
            name: "claims",
            calls: 2,
            faults: f,
            wrong: faults(&[Kill, LoseClaim, LoseRevocation]),
            inserts: true,
            ..n
        },
        1 => Scenario {
            name: "leases",
            calls: 2,
            faults: f,
            wrong: faults(&[Kill, Pause, LateRenewal, LoseCompletion, CutRequest]),
            ..n
        },
        2 => Scenario {
            name: "completions",
            calls: 2,
            faults: f,
            wrong: faults(&[LoseCompletion, SendAway, Unreachable, CutRequest, Kill]),
            refuses: true,
            ..n
        },
        3 => Scenario {
            name: "people",
            calls: 1,
            faults: f,
            wrong: faults(&[Kill, Pause, LoseCompletion, Unreachable, CutRequest]),
            orders: 3,
            ordered: asks(&[Ask::Replay, Ask::Find]),
            refuses: true,
            ..n
        },
        4 => Scenario {
            name: "pauses",
            calls: 2,
            faults: f,
            wrong: faults(&[Kill, Pause, LoseClaim]),
            orders: 2,
            ordered: asks(&[Ask::PauseHost, Ask::Disable]),
            ..n
        },
        5 => Scenario {
            name: "drain",
            calls: 2,
            faults: f,
            wrong: faults(&[Drain, LoseRetirement, LeaveUnwritten, LoseClaim, LoseRevocation]),
            ..n
        },
        6 => Scenario {
            name: "server",
            calls: 2,
            faults: f,
            wrong: faults(&[Crash, LoseClaim, Kill, LoseRevocation, LoseCompletion]),
            ..n
        },
        7 => Scenario {
            name: "all",
            calls: 2,
            faults: f,
            wrong: u32::MAX,
            orders: 1,
            ordered: u32::MAX,
            refuses: true,
            ..n
        },
        10 => Scenario {
            name: "all one",
            calls: 1,
            faults: f,
            wrong: u32::MAX,
            orders: 1,
            ordered: u32::MAX,
            refuses: true,
            ..n
        },
        11 => Scenario { name: "all two, no orders", calls: 2, faults: f, wrong: u32::MAX, ..n },
        12 => Scenario { name: "all one, no orders", calls: 1, faults: f, wrong: u32::MAX, ..n },
        13 => Scenario {
            name: "all one, 2 orders",
            calls: 1,
            faults: f,
            wrong: u32::MAX,
            orders: 2,
            ordered: asks(&[Ask::Replay, Ask::Find]),
            ..n
        },
        8 => Scenario {
            name: "batches",
            calls: 3,
            places: 2,
            faults: f,
            wrong: faults(&[Kill, LoseClaim, LoseCompletion]),
            ..n
        },
        _ => Scenario { name: "all three", calls: 3, faults: f, wrong: u32::MAX, refuses: true, ..n },
    }
}
#[test]
fn a() {
    let at: usize = std::env::var("S").unwrap().parse().unwrap();
    if std::env::var("L").is_ok() { live(of(at)) } else { run(of(at)) }
}
