//! Tests of single steps of the scheduler: what each of them says and leaves behind.

use std::time::Duration;

use super::host::QUIET;
use super::tests::{USUAL, World, id, origin, outboxes};
use super::*;
use crate::domain::pause::PauseTarget;
use crate::domain::report::HostCondition;

/// Limits under which only numbers count: no host is doubted.
const PLAIN: Limits =
    Limits { in_flight: 2_000, per_agent: 1_000, per_host: 1_000, adapt: false, hold_unreachable: false };

fn manner(world: &World, host: u8) -> Manner {
    world.scheduler.hosts[&origin(host).unwrap()].manner
}

fn condition(world: &World) -> HostCondition {
    world.scheduler.report(id(0).outbox, world.now)[0].condition
}

#[test]
fn a_plan_asks_no_more_lanes_than_a_claim_may_ask() {
    // All of these lanes are of the same outbox.
    let limits = Limits { in_flight: 30_000, per_agent: 30_000, per_host: 30_000, ..PLAIN };
    let mut world = World::new(limits, &vec![(0, 0); 3 * (MAX_TURNS + 20)]);
    (0..3 * (MAX_TURNS + 20)).step_by(3).for_each(|lane| world.arrive(lane, 1));
    let turns = world.scheduler.plan(id(0).outbox, 30_000, world.now);
    assert_eq!(turns.len(), MAX_TURNS);
}

#[test]
fn a_lent_turn_that_takes_less_than_it_was_given_keeps_no_more_than_that() {
    for taken in 0..=4 {
        let mut world = World::new(Limits { per_host: 4, ..PLAIN }, &[(0, 0)]);
        world.arrive(0, 100);
        let mut turn = world.scheduler.plan(id(0).outbox, 64, world.now).pop().unwrap();
        assert_eq!(turn.quota, 4);
        world.scheduler.lend(&mut turn);
        let places = world.scheduler.claimed(turn, taken, false, world.now);
        assert_eq!((places.len(), world.scheduler.in_flight(id(0).outbox)), (taken, taken));
        assert_eq!(world.scheduler.free(), PLAIN.in_flight - taken);
    }
}

#[test]
fn a_turn_that_is_made_smaller_leaves_the_rest_to_others_and_is_never_empty() {
    for (quota, is_lent, left) in [(3, false, 3), (0, false, 1), (100, false, 8), (3, true, 3), (0, true, 1)] {
        let mut world = World::new(Limits { per_host: 8, ..PLAIN }, &[(0, 0), (1, 0)]);
        (0..2).for_each(|lane| world.arrive(lane, 100));
        let mut turn = world.scheduler.plan(id(0).outbox, 64, world.now).pop().unwrap();
        assert_eq!(turn.quota, 8);
        if is_lent {
            world.scheduler.lend(&mut turn);
        }
        world.scheduler.shrink(&mut turn, quota);
        assert_eq!((turn.quota, world.scheduler.in_flight(id(0).outbox)), (left, left), "{quota}, lent: {is_lent}");
        assert_eq!(world.scheduler.free(), PLAIN.in_flight - left);
        world.run_in(id(1).outbox, 64);
        assert_eq!(world.out.len(), if is_lent { 8 } else { 8 - left }, "what the host has left");
    }
}

#[test]
fn a_pause_says_whether_it_changed_anything_and_its_end_lets_the_lane_run() {
    let mut world = World::new(PLAIN, &[(0, 0)]);
    let paused = Paused::from_iter([PauseTarget::Action(0)]);
    world.arrive(0, 10);
    assert!(!world.scheduler.pause(id(0).outbox, Paused::default()), "nothing was paused before");
    assert!(world.scheduler.pause(id(0).outbox, paused.clone()));
    assert!(!world.scheduler.pause(id(0).outbox, paused));
    assert!(world.run(64).is_empty());
    assert!(world.scheduler.pause(id(0).outbox, Paused::default()));
    assert_eq!(world.run(64), [0]);
}

#[test]
fn unless_hosts_that_cannot_be_reached_are_to_be_held_each_failure_leaves_them_as_they_were() {
    let limits = Limits { hold_unreachable: false, ..USUAL };
    let mut world = World::new(limits, &[(0, 0)]);
    world.arrive(0, 20);
    for _ in 0..20 {
        assert_eq!(world.run(1), [0]);
        world.end(0, Signal::Unreached(Failure::Connect));
    }
    assert_eq!((world.waiting[0], world.scheduler.next_probe()), (0, None));
}

#[test]
fn a_limit_that_does_not_adapt_is_the_same_after_a_long_pause_and_after_a_host_could_not_be_reached() {
    let mut world = World::new(Limits { per_host: 20, hold_unreachable: true, ..PLAIN }, &[(0, 0)]);
    world.arrive(0, 100);
    world.run(64);
    assert_eq!(world.out.len(), 20);
    while !world.out.is_empty() {
        world.end(0, Signal::Answered);
    }
    world.now += Duration::from_secs(3_600);
    world.run(64);
    assert_eq!(world.out.len(), 20);
    while !world.out.is_empty() {
        world.end(0, Signal::Unreached(Failure::Connect));
    }
    assert!(world.run(64).is_empty(), "the host cannot be reached");
    world.now = world.scheduler.next_probe().unwrap();
    let (hosts, _) = world.scheduler.probes_due(1, 1, world.now);
    world.scheduler.probed(&hosts[0], Probe::Connected, world.now);
    world.run(64);
    assert_eq!(world.out.len(), 20);
}

/// Two requests of a host that answers. The first one is in flight for ten seconds, and the second one is answered meanwhile.
#[test]
fn a_timeout_makes_a_host_silent_only_if_it_has_said_nothing_since_that_request_began() {
    let mut world = World::new(USUAL, &[(0, 0)]);
    world.arrive(0, 100);
    world.run(1);
    world.end(0, Signal::Answered);
    world.run(1);
    world.now += QUIET / 2;
    world.run(1);
    world.end(1, Signal::Answered);
    world.end(0, Signal::TimedOut);
    assert_eq!(manner(&world, 0), Manner::Answering, "it answered after that request had begun");
    world.now += Duration::from_secs(1);
    world.run(1);
    world.end(0, Signal::TimedOut);
    assert_eq!(manner(&world, 0), Manner::Silent, "its last answer came before that request began");
}

#[test]
fn a_host_that_has_never_answered_is_silent_from_its_first_timeout_on_and_until_it_answers() {
    let mut world = World::new(USUAL, &[(0, 0)]);
    world.arrive(0, 100);
    world.run(1);
    let began = world.now;
    world.end(0, Signal::TimedOut);
    assert_eq!(manner(&world, 0), Manner::Silent);
    world.now = began + Duration::from_millis(700);
    assert_eq!(condition(&world), HostCondition::Silent { since_ms: 700 });
    world.run(1);
    world.end(0, Signal::Answered);
    assert_eq!(manner(&world, 0), Manner::Answering);
    assert_eq!(world.scheduler.ailing(id(0).outbox, world.now), Ailing::default());
    // It falls silent again. What is told begins with this silence.
    world.run(1);
    let began = world.now;
    world.now += Duration::from_secs(5);
    world.end(0, Signal::TimedOut);
    world.now = began + Duration::from_secs(6);
    assert_eq!(condition(&world), HostCondition::Silent { since_ms: 6_000 });
}

#[test]
fn an_outbox_is_told_of_the_hosts_to_which_its_own_lanes_send_and_of_no_others() {
    // Host 0 has lanes of the first and the second outbox, host 1 has a lane of the second one.
    let mut world = World::new(USUAL, &[(0, 0), (1, 0), (2, 2), (3, 3), (4, 1)]);
    [0, 1, 4].into_iter().for_each(|lane| world.arrive(lane, 1));
    while !world.run(64).is_empty() {}
    assert_eq!(world.out.len(), 2, "one request for each host that is new");
    world.now += Duration::from_secs(2);
    world.run(64);
    let told = |world: &World| -> Vec<(usize, usize)> {
        outboxes()
            .map(|outbox| {
                let silent = world.scheduler.ailing(outbox, world.now).silent;
                (world.scheduler.report(outbox, world.now).len(), silent)
            })
            .collect()
    };
    assert_eq!(told(&world), [(1, 1), (2, 2), (0, 0)]);
    world.scheduler.forget_outbox(id(1).outbox);
    assert_eq!(told(&world), [(1, 1), (0, 0), (0, 0)]);
}

#[test]
fn the_edition_of_a_lane_is_the_one_with_which_it_was_last_admitted() {
    let mut world = World::new(USUAL, &[(0, 0)]);
    let owners = Owners { agent: "agent 0".into(), host: origin(0) };
    assert_eq!(world.scheduler.edition(id(1)), None);
    for edition in [Edition { version: 3, enabled: true }, Edition { version: 4, enabled: false }] {
        assert!(world.scheduler.admit(id(0), owners.clone(), edition, Manner::Untried, world.now));
        assert_eq!(world.scheduler.edition(id(0)), Some(edition));
    }
}

#[test]
fn the_old_tickets_of_idle_lanes_are_removed_when_they_are_as_many_as_the_lanes_and_a_few_more() {
    const LANES: usize = 40;
    let mut world = World::new(PLAIN, &vec![(0, 0); 3 * LANES]);
    let mut longest = 0;
    for _ in 0..100 {
        for lane in (0..3 * LANES).step_by(3) {
            world.arrive(lane, 0);
            world.run_in(id(0).outbox, 1);
            longest = longest.max(world.scheduler.ring(id(0).outbox).idle.len());
        }
    }
    // More seldom, and what is kept grows; more often, and each idle lane costs a look at all of them.
    assert!((2 * LANES + 64..=2 * LANES + 65).contains(&longest), "{longest}");
}

#[test]
fn an_agent_is_forgotten_when_its_last_lane_has_left_and_its_last_place_is_given_back() {
    let mut world = World::new(PLAIN, &[(0, 0), (3, 0), (6, 0)]);
    let leave = |world: &mut World, lane: usize| {
        let owners = Owners { agent: "another".into(), host: origin(0) };
        assert!(world.scheduler.admit(id(lane), owners, Edition::default(), Manner::Untried, world.now));
    };
    world.arrive(0, 1);
    assert_eq!(world.run(64), [0]);
    let agents = |world: &World| {
        let mut names: Vec<String> = world.scheduler.agents.keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(agents(&world), ["agent 0", "agent 3", "agent 6"]);
    (0..3).for_each(|lane| leave(&mut world, lane));
    assert_eq!(agents(&world), ["agent 0", "another"], "a place of the first one is taken");
    world.end(0, Signal::Answered);
    assert_eq!(agents(&world), ["another"]);
}

#[test]
fn an_agent_stays_known_as_long_as_it_has_a_lane() {
    let mut world = World::new(PLAIN, &[(0, 0), (0, 0)]);
    let owners = Owners { agent: "another".into(), host: origin(0) };
    assert!(world.scheduler.admit(id(0), owners, Edition::default(), Manner::Untried, world.now));
    world.arrive(1, 1);
    assert_eq!(world.run(64), [1]);
    world.end(0, Signal::Answered);
    world.arrive(1, 1);
    assert_eq!(world.run(64), [1]);
}

#[test]
fn of_the_new_hosts_that_wait_the_newest_and_the_oldest_are_tried_alternately() {
    let limits = Limits { in_flight: 40, per_agent: 40, per_host: 40, adapt: true, hold_unreachable: true };
    // Each has an agent and a host of its own; those of the first outbox have one delivery each.
    let lanes: Vec<(u8, u8)> = (0..60).map(|number| (number, number)).collect();
    let mut world = World::new(limits.clone(), &lanes);
    (0..60).step_by(3).for_each(|lane| world.arrive(lane, 1));
    let start_in = |world: &mut World, lane: usize| -> Vec<Place> {
        let turns = world.scheduler.plan(id(lane).outbox, 64, world.now);
        turns.into_iter().flat_map(|turn| world.scheduler.claimed(turn, 1, false, world.now)).collect()
    };
    let start = |world: &mut World| start_in(world, 0);
    let mut out = start(&mut world);
    assert_eq!(out.len(), limits.of_manner(Manner::Untried, 0));
    let mut waiting: Vec<i64> = (0..60).step_by(3).skip(out.len()).collect();
    for turn in 0..waiting.len() {
        // They leave some places to hosts that arrive now, as one of another outbox does at some of the turns.
        if turn % 3 == 1 {
            world.arrive(3 * turn + 1, 1);
            out.extend(start_in(&mut world, 1));
        }
        while out.len() >= limits.of_those_waiting(Manner::Untried, 0) {
            assert!(start(&mut world).is_empty());
            world.scheduler.leave_place(&out.remove(0));
        }
        let expected = if turn % 2 == 0 { waiting.pop().unwrap() } else { waiting.remove(0) };
        let started = start(&mut world);
        assert_eq!(started.iter().map(|place| place.lane.action_id).collect::<Vec<_>>(), [expected], "turn {turn}");
        out.extend(started);
    }
}

#[test]
fn a_host_is_reported_if_something_is_in_flight_or_waits_there_or_it_does_not_answer() {
    // One new host may be tried at a time.
    let limits = Limits { in_flight: 4, ..USUAL };
    let mut world = World::new(limits, &[(0, 0), (3, 9), (6, 9), (9, 1), (12, 9), (15, 9), (18, 2)]);
    [0, 3].into_iter().for_each(|lane| world.arrive(lane, 1));
    // Starts the only delivery of the only lane that may run.
    let start = |world: &mut World| -> Place {
        let turn = world.scheduler.plan(id(0).outbox, 64, world.now).pop().unwrap();
        world.scheduler.claimed(turn, 1, false, world.now).pop().unwrap()
    };
    let end = |world: &mut World, host: u8, place: &Place, signal: Signal| {
        world.scheduler.learn(&origin(host).unwrap(), world.now, signal, world.now);
        world.scheduler.leave_place(place);
    };
    let told = |world: &World| {
        let report = world.scheduler.report(id(0).outbox, world.now);
        let mut told: Vec<_> =
            report.into_iter().map(|host| (host.host, host.in_flight, host.waiting_lanes, host.condition)).collect();
        told.sort_by(|one, other| one.0.cmp(&other.0));
        told
    };
    let host = |number: u8| origin(number).unwrap().host.to_string();
    let first = start(&mut world);
    assert!(world.scheduler.plan(id(0).outbox, 64, world.now).is_empty(), "the second host has to wait");
    let busy = (host(0), 1, 0, HostCondition::Answering);
    let waiting = (host(1), 0, 1, HostCondition::Answering);
    assert_eq!(told(&world), [busy, waiting], "for the third one there is nothing");
    end(&mut world, 0, &first, Signal::Answered);
    let second = start(&mut world);
    assert_eq!(told(&world), [(host(1), 1, 0, HostCondition::Answering)], "the first one has answered");
    end(&mut world, 1, &second, Signal::TimedOut);
    assert_eq!(told(&world), [(host(1), 0, 0, HostCondition::Silent { since_ms: 0 })], "it is silent, and that is all");
}

#[test]
fn of_a_host_that_cannot_be_reached_is_told_since_when_why_and_when_it_is_probed() {
    let mut world = World::new(USUAL, &[(0, 0), (1, 9), (2, 9), (3, 1)]);
    [0, 3].into_iter().for_each(|lane| world.arrive(lane, 100));
    let ailing = |world: &World| world.scheduler.ailing(id(0).outbox, world.now);
    assert_eq!(ailing(&world), Ailing::default());
    while !world.run(64).is_empty() {
        while !world.out.is_empty() {
            world.end(0, Signal::Unreached(Failure::Tls));
        }
    }
    assert_eq!(ailing(&world), Ailing { silent: 0, unreachable: 2 });
    let (began, due) = (world.now, world.scheduler.next_probe().unwrap());
    world.now += (due - began) / 4;
    let millis = |duration: Duration| duration.as_millis() as u64;
    let unreachable = |since_ms, next_probe_in_ms| HostCondition::Unreachable {
        since_ms,
        last_error_kind: Failure::Tls,
        next_probe_in_ms,
    };
    assert_eq!(condition(&world), unreachable(millis(world.now - began), millis(due - world.now)));
    // While the probe is under way, the next one is not further off than now.
    world.now = due;
    assert_eq!(world.scheduler.probes_due(2, 2, world.now).0.len(), 2);
    world.now += Duration::from_secs(1);
    assert_eq!(condition(&world), unreachable(millis(world.now - began), 0));
}

#[test]
fn a_host_is_checked_for_silence_at_one_time_however_often_it_answers_and_never_if_limits_do_not_adapt() {
    for (adapt, checks) in [(true, 1), (false, 0)] {
        let mut world = World::new(Limits { adapt, ..USUAL }, &[(0, 0)]);
        world.arrive(0, 1_000);
        for _ in 0..50 {
            world.run(64);
            world.now += Duration::from_millis(10);
            world.end(0, Signal::Answered);
            world.run(64);
            assert_eq!(world.scheduler.listening.len(), checks, "adapt: {adapt}");
        }
        world.now += 10 * QUIET;
        world.run(64);
        assert_eq!(manner(&world, 0), if adapt { Manner::Silent } else { Manner::Answering });
    }
}
