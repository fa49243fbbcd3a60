//! Tests of what outboxes may take from each other, in the world of [`super::tests`].

use std::collections::HashMap;
use std::time::Duration;

use super::tests::{World, id, origin, outboxes};
use super::*;

const LIMITS: Limits = Limits { in_flight: 30, per_agent: 30, per_host: 30, adapt: false, hold_unreachable: false };

/// A world with a lane of an agent and a host of its own in each outbox, with much work in it.
fn three() -> World {
    let mut world = World::new(LIMITS, &[(0, 0), (1, 1), (2, 2)]);
    world.arrive(0, 10_000);
    world
}

fn in_flight(world: &World) -> Vec<usize> {
    outboxes().map(|outbox| world.scheduler.in_flight(outbox)).collect()
}

#[test]
fn an_outbox_alone_has_all_places_and_leaves_each_other_one_its_part_as_soon_as_it_wants_it() {
    let mut world = three();
    while !world.run(64).is_empty() {}
    assert_eq!(in_flight(&world), [30, 0, 0], "nobody else wants a place");
    world.arrive(1, 10_000);
    world.arrive(2, 3);
    for round in 0..60 {
        world.end(round * 7 % world.out.len(), Signal::Answered);
        world.run(64);
    }
    let [first, second, third] = in_flight(&world)[..] else { panic!("three outboxes") };
    assert_eq!(first + second + third, 30);
    assert!(second >= 10 && first >= 10, "{first}, {second} and {third} places");
    assert_eq!(world.waiting[2], 0, "who has the least goes first");
}

#[test]
fn a_claim_takes_no_more_than_the_part_of_its_outbox() {
    let mut world = three();
    let quota: usize = world.scheduler.plan(id(0).outbox, 500, world.now).iter().map(|turn| turn.quota).sum();
    assert_eq!(quota, 10, "so a database that does not answer it holds no more");
}

#[test]
fn a_lane_that_was_called_for_a_place_keeps_it_from_nobody_while_its_outbox_rests() {
    let limits = Limits { per_host: 1, ..LIMITS };
    // All lanes send to the same host, which takes one request at a time.
    let mut world = World::new(limits, &[(0, 0), (1, 0), (2, 0)]);
    (0..3).for_each(|lane| world.arrive(lane, 100));
    assert_eq!(world.run(64), [0]);
    // The second lane is called for the place, and its database stops answering before it is looked at.
    world.end(0, Signal::Answered);
    world.happen_to_rest(id(1).outbox);
    let mut starts = HashMap::new();
    for _ in 0..40 {
        for lane in world.run(64) {
            *starts.entry(lane).or_insert(0) += 1;
        }
        while !world.out.is_empty() {
            world.end(0, Signal::Answered);
        }
    }
    assert!(!starts.contains_key(&1) && starts[&0] >= 10 && starts[&2] >= 10, "{starts:?}");
    world.happen_to_resume(id(1).outbox);
    assert!((0..4).any(|_| {
        let started = world.run(64);
        while !world.out.is_empty() {
            world.end(0, Signal::Answered);
        }
        started.contains(&1)
    }));
}

#[test]
fn a_claim_that_is_not_answered_lends_its_places_and_what_has_none_afterwards_goes_back() {
    let limits = Limits { per_host: 4, ..LIMITS };
    let mut world = World::new(limits, &[(0, 0), (1, 0)]);
    (0..2).for_each(|lane| world.arrive(lane, 100));
    let mut turns = world.scheduler.plan(id(0).outbox, 64, world.now);
    assert_eq!(turns.iter().map(|turn| turn.quota).sum::<usize>(), 4);
    assert!(world.run_in(id(1).outbox, 64).is_empty(), "the host has no place left");
    turns.iter_mut().for_each(|turn| world.scheduler.lend(turn));
    assert_eq!(world.run_in(id(1).outbox, 64), [1]);
    assert_eq!(world.out.len(), 4);
    world.end(0, Signal::Answered);
    let places: Vec<Place> =
        turns.into_iter().flat_map(|turn| world.scheduler.claimed(turn, 3, true, world.now)).collect();
    let may_begin = places.iter().filter(|place| place.may_begin).count();
    assert_eq!((places.len(), may_begin), (3, 1), "the host takes no more than four");
    world.assert_limits_hold();
    places.iter().for_each(|place| world.scheduler.leave_place(place));
    while !world.out.is_empty() {
        world.end(0, Signal::Answered);
    }
    assert_eq!(in_flight(&world), [0, 0, 0]);
    assert!(world.scheduler.hosts.values().all(|host| host.queue.in_flight == 0), "each place came back once");
}

#[test]
fn of_an_outbox_that_is_forgotten_nothing_is_left_but_its_places_until_they_are_given_back() {
    let mut world = three();
    world.arrive(1, 5);
    while !world.run(64).is_empty() {}
    world.scheduler.forget_outbox(id(0).outbox);
    assert!(!world.scheduler.found(id(0)));
    world.waiting[0] = 0;
    world.now += Duration::from_secs(1);
    while !world.out.is_empty() {
        world.end(0, Signal::Answered);
    }
    assert_eq!((in_flight(&world), world.scheduler.hosts.len()), (vec![0, 0, 0], 2));
    assert!(world.scheduler.ring(id(0).outbox).queued() == 0 && world.scheduler.ring(id(0).outbox).lanes == 0);
}

#[test]
fn the_old_tickets_of_a_forgotten_outbox_keep_a_host_from_nobody() {
    let mut world = World::new(Limits { per_host: 1, ..LIMITS }, &[(0, 0), (1, 0), (2, 0)]);
    (0..3).for_each(|lane| world.arrive(lane, 100));
    assert_eq!(world.run(64), [0]);
    // The lanes of the second and the third outbox wait for the host, in this order.
    world.scheduler.forget_outbox(id(1).outbox);
    world.waiting[1] = 0;
    world.end(0, Signal::Answered);
    let started: Vec<usize> = [0, 2].into_iter().flat_map(|lane| world.run_in(id(lane).outbox, 64)).collect();
    assert_eq!(started, [2]);
}

#[test]
fn an_outbox_waits_while_it_has_work_and_gets_no_place() {
    let mut world = three();
    let waits = |world: &World| -> Vec<bool> { outboxes().map(|outbox| world.scheduler.waits(outbox)).collect() };
    while !world.run(64).is_empty() {}
    assert_eq!(
        waits(&world),
        [true, false, false],
        "nothing is left for more work of the first, and the others have none"
    );
    world.arrive(1, 1);
    world.run_in(id(1).outbox, 64);
    assert_eq!(waits(&world), [true, true, false]);
    world.end(0, Signal::Answered);
    assert_eq!(world.run_in(id(1).outbox, 64), [1]);
    assert_eq!(waits(&world), [true, false, false]);
}

#[test]
fn of_two_outboxes_that_hold_as_much_the_one_that_has_waited_longer_goes_first() {
    for (earlier, later) in [(1, 2), (2, 1)] {
        let mut world = three();
        while !world.run(64).is_empty() {}
        world.arrive(1, 5);
        world.arrive(2, 5);
        // Nobody has a place to give, so these plans do nothing but begin to wait.
        for lane in [earlier, later] {
            assert!(world.run_in(id(lane).outbox, 64).is_empty());
        }
        world.end(0, Signal::Answered);
        assert!(world.run_in(id(later).outbox, 64).is_empty(), "the place is for lane {earlier}");
        assert_eq!(world.run_in(id(earlier).outbox, 64), [earlier]);
    }
}

#[test]
fn what_is_called_elsewhere_are_the_lanes_of_all_other_outboxes_that_were_called_and_not_looked_at() {
    let mut world = World::new(Limits { per_host: 1, ..LIMITS }, &[(0, 0), (1, 0), (2, 0), (3, 3), (4, 3), (5, 3)]);
    let called_elsewhere =
        |world: &World| -> Vec<usize> { outboxes().map(|outbox| world.scheduler.called_elsewhere(outbox)).collect() };
    (0..6).for_each(|lane| world.arrive(lane, 100));
    let started = world.run(64);
    assert_eq!((started, called_elsewhere(&world)), (vec![0, 3], vec![0, 0, 0]));
    // A lane of the second outbox is called for the place at each host.
    world.end(0, Signal::Answered);
    assert_eq!(called_elsewhere(&world), [1, 0, 1]);
    world.end(0, Signal::Answered);
    assert_eq!(called_elsewhere(&world), [2, 0, 2]);
    assert_eq!(world.run_in(id(1).outbox, 64), [1, 4]);
    assert_eq!(called_elsewhere(&world), [0, 0, 0]);
}

#[test]
fn an_outbox_alone_lends_its_places_to_nobody() {
    let mut scheduler = Scheduler::new(Limits { per_host: 4, ..LIMITS }, 1);
    let (now, outbox) = (World::new(LIMITS, &[(0, 0)]).now, Outbox::FIRST);
    for action_id in 0..2 {
        let owners = Owners { agent: "a".into(), host: origin(0) };
        let lane = LaneId { outbox, action_id };
        assert!(scheduler.admit(lane, owners, Edition::default(), Manner::Untried, now) && scheduler.found(lane));
    }
    let mut turns = scheduler.plan(outbox, 64, now);
    turns.iter_mut().for_each(|turn| scheduler.lend(turn));
    assert!(scheduler.plan(outbox, 64, now).is_empty(), "the host has no place left");
    for turn in turns {
        let quota = turn.quota;
        let places = scheduler.claimed(turn, quota, true, now);
        assert!(places.len() == quota && places.iter().all(|place| place.may_begin));
    }
}
