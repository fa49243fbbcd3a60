//! The broken variants: each must have a counterexample, and each mistake is caught in the program, too, by the named test.
//! `scripts/mistakes` makes them in the program, by the patches in `tests/mistakes`, and sees that these tests fail.

use std::collections::BTreeSet;
use std::path::Path;

use stateright::{Checker, HasDiscoveries, Model};

use crate::protocol::actions::Fault::*;
use crate::protocol::explore::{ENDLESS, Protocol, runs_that_never_end};
use crate::protocol::scenario::{Ask, Scenario, Variant, asks, faults};
use crate::protocol::story::Story;

/// One mistake.
struct Case {
    variant: Variant,
    title: &'static str,
    /// The smallest scenario that shows it.
    scenario: Scenario,
    /// What does not hold then.
    breaks: &'static str,
    /// The test of `tests/it` that fails if the program makes this mistake.
    caught_by: &'static str,
}

const ONCE: &str = "each delivery is requested at most once";
const N: Scenario = Scenario::NOTHING;

const CASES: [Case; 12] = [
    Case {
        variant: Variant::SentBeforeTheCommit,
        title: "a claim is sent before it is committed",
        scenario: Scenario { faults: 1, wrong: faults(&[Crash]), ..N },
        breaks: ONCE,
        caught_by: "faults::points::killed_before_its_claim_commits_it_has_sent_nothing",
    },
    Case {
        variant: Variant::LostBackToWaiting,
        title: "what a lost dispatcher had in flight goes back to waiting",
        scenario: Scenario { faults: 1, wrong: faults(&[Kill]), ..N },
        breaks: ONCE,
        caught_by: "faults::points::killed_during_its_requests_it_leaves_doubts_that_were_sent_once",
    },
    Case {
        variant: Variant::NoFence,
        title: "a completion does not ask whether the delivery is still in flight",
        scenario: Scenario { faults: 1, wrong: faults(&[Pause]), ..N },
        breaks: "each delivery is in one place",
        caught_by: "faults::pauses::what_a_paused_dispatcher_learns_afterwards_ends_the_doubt",
    },
    Case {
        variant: Variant::NoToken,
        title: "a completion does not ask which claim holds the delivery",
        scenario: Scenario { faults: 2, wrong: faults(&[LoseCompletion, SendAway]), ..N },
        breaks: ONCE,
        caught_by: "dispatcher::a_result_counts_only_under_the_claim_that_still_holds_and_only_once",
    },
    Case {
        variant: Variant::RevocationDoesNotWait,
        title: "a revocation does not wait for the claim that it revokes",
        scenario: Scenario { faults: 1, wrong: faults(&[LoseClaim]), ..N },
        breaks: ENDLESS,
        caught_by: "dispatcher::revoking_a_claim_waits_until_it_is_through_and_gives_back_all_of_it",
    },
    Case {
        variant: Variant::EpochRestarts,
        title: "the epoch begins anew after a revocation",
        scenario: Scenario { faults: 1, wrong: faults(&[LoseClaim]), ..N },
        breaks: ENDLESS,
        caught_by: "dispatcher::a_claim_that_was_revoked_takes_nothing_however_late_it_arrives",
    },
    Case {
        variant: Variant::EveryRaiseCounts,
        title: "a revocation that is repeated raises the epoch once more",
        scenario: Scenario { processes: 1, faults: 2, wrong: faults(&[LoseClaim, LoseRevocation]), ..N },
        breaks: ENDLESS,
        caught_by: "dispatcher::a_revocation_that_was_repeated_takes_nothing_from_later_claims_however_late_it_arrives",
    },
    Case {
        variant: Variant::DoubtForgotten,
        title: "a claim whose answer was lost is not revoked",
        scenario: Scenario { faults: 1, wrong: faults(&[LoseClaim]), ..N },
        breaks: ENDLESS,
        caught_by: "faults::connections::a_claim_whose_answer_was_lost_goes_back_to_waiting_and_is_sent_once",
    },
    Case {
        variant: Variant::OrdersWithoutUniqueness,
        title: "a finding asks neither for another finding nor for a replay",
        scenario: Scenario {
            faults: 1,
            wrong: faults(&[CutRequest]),
            orders: 2,
            ordered: asks(&[Ask::Replay, Ask::Find]),
            ..N
        },
        breaks: "a delivery has one finding or one replay",
        caught_by: "replay_or_finding::who_asked_first_wins_whichever_it_is",
    },
    Case {
        variant: Variant::GateStaysOpen,
        title: "the send gate stays open when the lease is over",
        scenario: Scenario { faults: 1, wrong: faults(&[Pause]), ..N },
        breaks: "what was given up never begins",
        caught_by: "faults::pauses::a_paused_dispatcher_never_sends_what_was_given_up_meanwhile",
    },
    Case {
        variant: Variant::ReplayBlind,
        title: "a replay asks only what became of the last delivery of its message",
        scenario: Scenario { faults: 1, wrong: faults(&[Unreachable]), orders: 2, ordered: asks(&[Ask::Replay]), ..N },
        breaks: "what was taken is sent again by name only",
        caught_by: "replay::what_was_delivered_or_is_in_doubt_is_sent_again_only_if_that_is_asked_for_by_name",
    },
    Case {
        variant: Variant::AsynchronousFailover,
        title: "the standby is asynchronous",
        scenario: Scenario { inserts: true, faults: 1, wrong: faults(&[FailOver]), ..N },
        breaks: "nothing that is committed is lost",
        caught_by: "faults::failover::after_a_failover_to_the_synchronous_standby_nothing_is_requested_twice_and_nothing_is_lost",
    },
];

/// The shortest way to a state in which this rule does not hold, or a run that never ends.
fn counterexample(scenario: Scenario, title: &'static str, rule: &'static str) -> Option<Story<'static>> {
    if rule == ENDLESS {
        return runs_that_never_end(&Protocol::of(scenario), usize::MAX).1.map(|endless| endless.story(title));
    }
    let protocol = Protocol { only: Some(rule), ..Protocol::of(scenario) };
    let checker = protocol.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let path = checker.discovery(Protocol::RULES)?;
    Some(Story { title, steps: path.into_actions(), circle: false, end: rule })
}

#[test]
fn every_mistake_has_a_story_and_without_it_there_is_none() {
    for case in CASES {
        let broken = Scenario { variant: Some(case.variant), ..case.scenario.clone() };
        let story = counterexample(broken, case.title, case.breaks);
        let story = story.unwrap_or_else(|| panic!("{}: no counterexample", case.title));
        println!("{story}      In the program, this is caught by {}.\n", case.caught_by);
        if let Some(story) = counterexample(case.scenario, case.title, case.breaks) {
            panic!("without the mistake: {story}");
        }
    }
}

/// An asynchronous standby not only loses calls: what it does not know of is sent again.
#[test]
fn an_asynchronous_standby_sends_again_what_it_does_not_know_of() {
    let variant = Some(Variant::AsynchronousFailover);
    let scenario = Scenario { faults: 1, wrong: faults(&[FailOver]), variant, ..N };
    println!("{}", counterexample(scenario, "the standby is asynchronous", ONCE).unwrap());
}

#[test]
fn each_mistake_stands_for_a_test_of_the_program_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/promise.md")).unwrap();
    for case in CASES {
        let line = format!("| {} | `{}` |", case.title, case.caught_by);
        assert!(document.contains(&line), "docs/promise.md lacks: {line}");
        let (module, name) = case.caught_by.rsplit_once("::").unwrap();
        let file = root.join("tests/it").join(module.replace("::", "/"));
        let source = std::fs::read_to_string(file.with_extension("rs")).unwrap();
        assert!(source.contains(&format!("fn {name}(")), "{} does not exist", case.caught_by);
    }
    let variants: BTreeSet<String> = CASES.iter().map(|case| format!("{:?}", case.variant)).collect();
    assert_eq!(variants.len(), CASES.len(), "each mistake once");
}

/// The name of the patch that makes this mistake in the program: `NoToken` is `no_token`.
fn patch_name(variant: Variant) -> String {
    let mut name = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// What a patch takes for granted: each file that it changes, with the lines that must be there, one after the other.
fn expected(patch: &str) -> Vec<(&str, String)> {
    let (mut file, mut blocks) = ("", Vec::new());
    for line in patch.lines() {
        if let Some(path) = line.strip_prefix("--- a/") {
            file = path;
        } else if line.starts_with("@@ ") {
            blocks.push((file, String::new()));
        } else if let Some((_, block)) = blocks.last_mut()
            && !line.starts_with(['+', '@'])
        {
            // An editor may have cut the blank of an empty line.
            block.push_str(line.get(1..).unwrap_or_default());
            block.push('\n');
        }
    }
    blocks
}

/// Whether the test notices the mistake is asked by `scripts/mistakes`, which takes long; that it can be asked, here.
#[test]
fn each_mistake_can_be_made_in_the_program_as_it_is_now() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: BTreeSet<String> = CASES.iter().map(|case| format!("{}.patch", patch_name(case.variant))).collect();
    let there = std::fs::read_dir(root.join("tests/mistakes")).unwrap();
    let there: BTreeSet<String> = there.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, names, "one patch for each mistake");
    for name in names {
        let patch = std::fs::read_to_string(root.join("tests/mistakes").join(&name)).unwrap();
        let noticed = patch.lines().filter(|line| line.starts_with("Noticed: ")).count();
        assert_eq!(noticed, 1, "{name} says once what the test says");
        let blocks = expected(&patch);
        assert!(!blocks.is_empty(), "{name} changes nothing");
        for (file, block) in blocks {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            assert!(source.contains(&block), "{name} expects this in {file}, where it is no more:\n{block}");
        }
    }
}
