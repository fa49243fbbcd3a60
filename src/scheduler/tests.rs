//! Tests what the scheduler promises in a small simulated world: lanes in which deliveries wait, receivers that answer,
//! hang or cannot be reached, and people who pause things.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::host::QUIET;
use super::*;
use crate::domain::pause::PauseTarget;

pub(super) fn origin(number: impl std::fmt::Display) -> Option<Origin> {
    Origin::of_url(&format!("https://h{number}.example/"))
}

/// How many outboxes the world has.
const OUTBOXES: u16 = 3;

pub(super) fn outboxes() -> impl Iterator<Item = Outbox> {
    Outbox::all(OUTBOXES)
}

/// The lane of this number. The outboxes have every third one.
pub(super) fn id(number: usize) -> LaneId {
    let outbox = outboxes().nth(number % usize::from(OUTBOXES)).unwrap();
    LaneId { outbox, action_id: number as i64 }
}

/// One request in flight.
pub(super) struct Out {
    place: Place,
    started: Instant,
    number: u32,
}

/// The simulated world: lanes, what waits in them, and the requests in flight.
pub(super) struct World {
    pub(super) scheduler: Scheduler,
    limits: Limits,
    pub(super) now: Instant,
    owners: Vec<Owners>,
    pub(super) waiting: Vec<u32>,
    /// The number of the next delivery of each lane.
    next: Vec<u32>,
    pub(super) out: Vec<Out>,
    paused: Paused,
    /// Outboxes that make no claim.
    resting: HashSet<Outbox>,
    starts: usize,
    /// How many turns were ever given.
    turns: usize,
}

impl World {
    pub(super) fn new(limits: Limits, lanes: &[(u8, u8)]) -> World {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(limits.clone(), OUTBOXES);
        let owners: Vec<Owners> = lanes
            .iter()
            .map(|(agent, host)| Owners { agent: format!("agent {agent}").into(), host: origin(*host) })
            .collect();
        for (lane, owners) in owners.iter().enumerate() {
            assert!(scheduler.admit(id(lane), owners.clone(), Edition::default(), Manner::Untried, now));
        }
        let (waiting, next) = (vec![0; lanes.len()], vec![0; lanes.len()]);
        World {
            scheduler,
            limits,
            now,
            owners,
            waiting,
            next,
            out: vec![],
            paused: Paused::default(),
            resting: HashSet::new(),
            starts: 0,
            turns: 0,
        }
    }

    pub(super) fn arrive(&mut self, lane: usize, deliveries: u32) {
        self.waiting[lane] += deliveries;
        assert!(self.scheduler.found(id(lane)));
    }

    /// Plans and claims what there is in each outbox, and returns the lanes that started something.
    pub(super) fn run(&mut self, most: usize) -> Vec<usize> {
        outboxes()
            .filter(|outbox| !self.resting.contains(outbox))
            .collect::<Vec<_>>()
            .into_iter()
            .flat_map(|outbox| self.run_in(outbox, most))
            .collect()
    }

    pub(super) fn run_in(&mut self, outbox: Outbox, most: usize) -> Vec<usize> {
        let turns = self.scheduler.plan(outbox, most, self.now);
        assert!(turns.iter().all(|turn| turn.lane.outbox == outbox));
        let lanes: HashSet<LaneId> = turns.iter().map(|turn| turn.lane).collect();
        assert_eq!(lanes.len(), turns.len(), "a lane has one turn at a time");
        assert!(turns.iter().all(|turn| turn.quota > 0));
        let quotas: usize = turns.iter().map(|turn| turn.quota).sum();
        assert!(quotas <= most);
        self.assert_limits_hold();
        self.turns += turns.len();
        let mut started = vec![];
        for turn in turns {
            let lane = turn.lane.action_id as usize;
            let taken = (self.waiting[lane] as usize).min(turn.quota);
            self.waiting[lane] -= taken as u32;
            let more = taken == turn.quota;
            for place in self.scheduler.claimed(turn, taken, more, self.now) {
                self.out.push(Out { place, started: self.now, number: self.next[lane] });
                self.next[lane] += 1;
            }
            self.starts += taken;
            if taken > 0 {
                started.push(lane);
            }
        }
        started
    }

    pub(super) fn end(&mut self, index: usize, signal: Signal) {
        let Out { place, started, .. } = self.out.swap_remove(index);
        if let Some(host) = &place.owners.host {
            self.scheduler.learn(host, started, signal, self.now);
        }
        self.scheduler.leave_place(&place);
    }

    fn in_flight(&self, of: impl Fn(&Owners) -> bool) -> usize {
        self.out.iter().filter(|out| of(&self.owners[out.place.lane.action_id as usize])).count()
    }

    /// Whether a lane could start something now, by all limits. The answer comes from the world, not from the queues.
    fn may_run(&self, lane: usize) -> bool {
        let owners = &self.owners[lane];
        let (agent, host) = (&owners.agent, owners.host.as_ref().unwrap());
        let known = &self.scheduler.hosts[host];
        let of_manner =
            |manner| self.in_flight(|other| self.scheduler.hosts[other.host.as_ref().unwrap()].manner == manner);
        self.waiting[lane] > 0
            && !self.resting.contains(&id(lane).outbox)
            && !self.paused.covers(lane as i64, owners)
            && self.in_flight(|other| other.agent == *agent) < self.limits.per_agent
            && self.in_flight(|other| other.host.as_ref() == Some(host)) < known.limit()
            && (known.manner == Manner::Answering
                || of_manner(known.manner) < self.limits.of_those_waiting(known.manner, of_manner(Manner::Silent)))
    }

    pub(super) fn assert_limits_hold(&self) {
        let scheduler = &self.scheduler;
        assert!(scheduler.in_flight <= self.limits.in_flight);
        for agent in scheduler.agents.values() {
            assert!(agent.queue.in_flight <= self.limits.per_agent);
        }
        for host in scheduler.hosts.values() {
            assert!(host.queue.in_flight <= self.limits.per_host);
        }
    }

    /// Checks that the scheduler's counts match the requests in flight.
    fn assert_counts_are_right(&self) {
        let scheduler = &self.scheduler;
        assert_eq!(scheduler.in_flight, self.out.len());
        for outbox in outboxes() {
            let of_outbox = self.out.iter().filter(|out| out.place.lane.outbox == outbox).count();
            assert_eq!(scheduler.in_flight(outbox), of_outbox);
        }
        for (name, agent) in &scheduler.agents {
            assert_eq!(agent.queue.in_flight, self.in_flight(|owners| owners.agent == *name));
        }
        for (name, host) in &scheduler.hosts {
            assert_eq!(host.queue.in_flight, self.in_flight(|owners| owners.host.as_ref() == Some(name)));
        }
        for (queue, manner) in [(&scheduler.untried, Manner::Untried), (&scheduler.silent, Manner::Silent)] {
            let in_flight: usize =
                scheduler.hosts.values().filter(|host| host.manner == manner).map(|host| host.queue.in_flight).sum();
            assert_eq!(queue.in_flight, in_flight, "{manner:?}");
        }
    }
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    Arrive(usize, u32),
    End(usize, u8),
    Time(u64),
    Pause(u8),
    Probe(bool),
    Publish(usize, u8),
    Rest(usize, bool),
}

fn events(lanes: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0..lanes, 1..20_u32).prop_map(|(lane, deliveries)| Event::Arrive(lane, deliveries)),
        6 => (any::<usize>(), 0..6_u8).prop_map(|(which, signal)| Event::End(which, signal)),
        1 => (0..3_000_u64).prop_map(Event::Time),
        1 => (0..4_u8).prop_map(Event::Pause),
        1 => any::<bool>().prop_map(Event::Probe),
        1 => (0..lanes, 0..6_u8).prop_map(|(lane, host)| Event::Publish(lane, host)),
        1 => (0..3_usize, any::<bool>()).prop_map(|(outbox, rests)| Event::Rest(outbox, rests)),
    ];
    prop::collection::vec(event, 1..150)
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..20_usize, 1..10_usize, 1..10_usize, any::<bool>(), any::<bool>()).prop_map(
        |(in_flight, per_agent, per_host, adapt, hold_unreachable)| Limits {
            in_flight,
            per_agent,
            per_host,
            adapt,
            hold_unreachable,
        },
    )
}

fn signal(number: u8) -> Signal {
    match number {
        0 => Signal::TimedOut,
        1 => Signal::Unreached(Failure::Connect),
        2 => Signal::Nothing,
        3 => Signal::Reached,
        _ => Signal::Answered,
    }
}

impl World {
    fn happen(&mut self, event: &Event) {
        match event {
            Event::Arrive(lane, deliveries) => self.arrive(*lane, *deliveries),
            Event::End(which, number) if !self.out.is_empty() => self.end(which % self.out.len(), signal(*number)),
            Event::End(..) => {}
            Event::Time(millis) => self.now += Duration::from_millis(*millis),
            Event::Pause(agent) => {
                self.paused = Paused::from_iter([PauseTarget::Agent(format!("agent {agent}").into())]);
                for outbox in outboxes() {
                    self.scheduler.pause(outbox, self.paused.clone());
                }
            }
            Event::Probe(connects) => {
                let (hosts, quiet) = self.scheduler.probes_due(10, 10, self.now);
                for host in hosts.into_iter().chain(quiet) {
                    self.scheduler.probed(&host, if *connects { Probe::Connected } else { Probe::Refused }, self.now);
                }
            }
            // Nothing of the lane may be in flight, because the world knows only one host per lane.
            Event::Publish(lane, host) if self.out.iter().all(|out| out.place.lane.action_id as usize != *lane) => {
                self.owners[*lane].host = origin(*host);
                assert!(self.scheduler.admit(
                    id(*lane),
                    self.owners[*lane].clone(),
                    Edition::default(),
                    Manner::Untried,
                    self.now
                ));
            }
            Event::Publish(..) => {}
            Event::Rest(outbox, true) => self.happen_to_rest(id(*outbox).outbox),
            Event::Rest(outbox, false) => self.happen_to_resume(id(*outbox).outbox),
        }
    }
}

impl World {
    pub(super) fn happen_to_rest(&mut self, outbox: Outbox) {
        self.scheduler.rest(outbox);
        self.resting.insert(outbox);
    }

    pub(super) fn happen_to_resume(&mut self, outbox: Outbox) {
        self.scheduler.resume(outbox);
        self.resting.remove(&outbox);
    }
}

proptest! {
    #[test]
    fn limits_are_kept_and_no_place_is_free_while_a_lane_that_may_run_has_work(
        limits in limits(),
        lanes in prop::collection::vec((0..5_u8, 0..6_u8), 1..12),
        seed in any::<u64>(),
        all in events(12),
    ) {
        let mut world = World::new(limits, &lanes);
        for event in &all {
            let event = match event {
                Event::Arrive(lane, deliveries) => Event::Arrive(lane % lanes.len(), *deliveries),
                Event::Publish(lane, host) => Event::Publish(lane % lanes.len(), *host),
                other => other.clone(),
            };
            world.happen(&event);
            world.assert_counts_are_right();
            // Claims are made until there is no turn to give. A plan without turns may leave places to another outbox, or
            // call a lane of it, so one round without a turn is not enough.
            let mut rounds_without_turns = 0;
            while rounds_without_turns < lanes.len() {
                let turns = world.turns;
                world.run(1 + seed as usize % 7);
                world.assert_counts_are_right();
                rounds_without_turns = if world.turns == turns { rounds_without_turns + 1 } else { 0 };
            }
            if world.scheduler.free() > 0 {
                let idle: Vec<usize> = (0..lanes.len()).filter(|lane| world.may_run(*lane)).collect();
                prop_assert!(idle.is_empty(), "{idle:?} may run, and {} places are free", world.scheduler.free());
            }
        }
    }

    #[test]
    fn a_lane_that_may_run_starts_after_a_bounded_number_of_turns_of_others(
        limits in limits(),
        lanes in prop::collection::vec((0..5_u8, 0..6_u8), 2..12),
        ends in prop::collection::vec(any::<usize>(), 200),
        most in 1..8_usize,
    ) {
        // An agent has its lanes in one outbox, as a platform keeps it; hosts are those of all.
        let of_outbox = |(number, (agent, host)): (usize, &(u8, u8))| (agent * 3 + number as u8 % 3, *host);
        let lanes: Vec<(u8, u8)> = lanes.iter().enumerate().map(of_outbox).collect();
        let mut world = World::new(limits, &lanes);
        (0..lanes.len()).for_each(|lane| world.arrive(lane, 1_000));
        // For each lane, how many turns other lanes had while it could have run, since it last started something.
        let mut passed_over = vec![0; lanes.len()];
        for which in ends {
            // Beyond its part, an outbox has only what others leave.
            let has_less = |lane| world.scheduler.in_flight(id(lane).outbox) < world.scheduler.part();
            let may_run: Vec<bool> = (0..lanes.len()).map(|lane| has_less(lane) && world.may_run(lane)).collect();
            let started = world.run(most);
            for (lane, passed) in passed_over.iter_mut().enumerate() {
                if started.contains(&lane) {
                    *passed = 0;
                } else if may_run[lane] {
                    *passed += started.len();
                }
                // Each outbox has as many turns as the others, however few lanes it has.
                let bound = 3 * lanes.len() * usize::from(OUTBOXES);
                prop_assert!(*passed <= bound, "lane {lane} was passed over by {passed} turns");
            }
            if !world.out.is_empty() {
                world.end(which % world.out.len(), Signal::Answered);
            }
        }
    }

    #[test]
    fn the_deliveries_of_a_lane_start_in_their_order(
        limits in limits(),
        lanes in prop::collection::vec((0..5_u8, 0..6_u8), 1..12),
        all in events(1),
    ) {
        let mut world = World::new(limits, &lanes);
        let mut last = HashMap::new();
        for event in &all {
            world.happen(event);
            let before = world.out.len();
            world.run(5);
            for out in &world.out[before..] {
                let previous = last.insert(out.place.lane, out.number);
                prop_assert!(previous.is_none_or(|previous| previous + 1 == out.number));
            }
        }
    }
}

fn many(limits: Limits, lanes: usize) -> World {
    let mut world = World::new(limits.clone(), &[]);
    for lane in 0..lanes {
        let owners = Owners { agent: format!("agent {}", lane % 1_000).into(), host: origin(lane % 997) };
        assert!(world.scheduler.admit(id(lane), owners.clone(), Edition::default(), Manner::Untried, world.now));
        world.owners.push(owners);
        world.waiting.push(0);
        world.next.push(0);
    }
    (0..lanes).for_each(|lane| world.arrive(lane, 100));
    world
}

pub(super) const USUAL: Limits =
    Limits { in_flight: 256, per_agent: 64, per_host: 64, adapt: true, hold_unreachable: true };

#[test]
fn the_effort_of_a_start_does_not_grow_with_the_number_of_lanes() {
    let looks_per_start = |lanes| {
        let mut world = many(USUAL, lanes);
        // Everybody has been looked at.
        while world.starts < 3 * lanes {
            world.run(64);
            (0..32.min(world.out.len())).for_each(|_| world.end(0, Signal::Answered));
        }
        let (looks, starts) = (world.scheduler.looks, world.starts);
        while world.starts < starts + 20_000 {
            world.run(64);
            (0..32.min(world.out.len())).for_each(|_| world.end(0, Signal::Answered));
        }
        (world.scheduler.looks - looks) as f64 / (world.starts - starts) as f64
    };
    let (few, lots) = (looks_per_start(300), looks_per_start(10_000));
    assert!(few < 3.0 && lots < 3.0, "{few} looks a start with few lanes, {lots} with many");
    assert!(few > 0.0 && lots > 0.0, "the looks are counted");
}

#[test]
fn hosts_that_never_answer_hold_half_of_all_places_at_most_however_many_they_are() {
    let mut world = many(USUAL, 10_000);
    // 300 of 997 hosts hang; the others answer at once.
    let hangs = |out: &Out| out.place.lane.action_id as usize % 997 < 300;
    let mut longest = 0;
    for step in 0..4_000 {
        world.now += Duration::from_millis(5);
        world.run(64);
        let mut index = 0;
        while index < world.out.len() {
            match hangs(&world.out[index]) {
                true if world.now - world.out[index].started >= Duration::from_secs(15) => {
                    world.end(index, Signal::TimedOut);
                }
                true => index += 1,
                false => world.end(index, Signal::Answered),
            }
        }
        if let Some(lane) = world.waiting.iter().position(|waiting| *waiting < 50) {
            world.arrive(lane, 50);
        }
        longest = longest.max(world.out.len());
        assert!(world.out.len() <= 128, "{} places are held at step {step}", world.out.len());
    }
    assert!(longest > 100, "the test is about nothing: {longest}");
}

#[test]
fn an_unreachable_host_is_left_alone_until_a_probe_connects() {
    let mut world = World::new(USUAL, &[(0, 0), (1, 1)]);
    world.arrive(0, 1_000);
    let mut failed = 0;
    while !world.run(64).is_empty() {
        failed += world.out.len();
        while !world.out.is_empty() {
            world.end(0, Signal::Unreached(Failure::Connect));
        }
    }
    assert!(failed <= FAILURES_IN_A_ROW as usize, "{failed} failed");
    world.arrive(1, 1);
    assert_eq!(world.run(64), [1], "others go on");
    assert!(world.scheduler.probes_due(10, 10, world.now).0.is_empty());
    world.now = world.scheduler.next_probe().unwrap();
    let (hosts, _) = world.scheduler.probes_due(10, 10, world.now);
    assert_eq!(hosts.len(), 1);
    world.scheduler.probed(&hosts[0], Probe::Refused, world.now);
    assert!(world.run(64).is_empty());
    world.now = world.scheduler.next_probe().unwrap();
    let (hosts, _) = world.scheduler.probes_due(10, 10, world.now);
    world.scheduler.probed(&hosts[0], Probe::Connected, world.now);
    assert_eq!(world.run(64), [0]);
}

#[test]
fn what_is_published_anew_leaves_the_host_that_it_waited_for() {
    let mut world = World::new(USUAL, &[(0, 0)]);
    world.arrive(0, 100);
    while !world.run(64).is_empty() {
        while !world.out.is_empty() {
            world.end(0, Signal::Unreached(Failure::Dns));
        }
    }
    world.owners[0].host = origin(1);
    assert!(world.scheduler.admit(id(0), world.owners[0].clone(), Edition::default(), Manner::Untried, world.now));
    assert_eq!(world.run(64), [0]);
}

#[test]
fn a_host_that_no_lane_sends_to_any_more_is_forgotten_and_not_probed() {
    let mut world = World::new(USUAL, &[(0, 0)]);
    world.arrive(0, 100);
    // The loop ends when the lane waits for its host.
    while !world.run(64).is_empty() {
        while !world.out.is_empty() {
            world.end(0, Signal::Unreached(Failure::Dns));
        }
    }
    world.owners[0].host = origin(1);
    assert!(world.scheduler.admit(id(0), world.owners[0].clone(), Edition::default(), Manner::Untried, world.now));
    assert_eq!(world.run(64), [0]);
    assert_eq!(world.scheduler.hosts.keys().collect::<Vec<_>>(), [&origin(1).unwrap()]);
    world.now += Duration::from_secs(10);
    assert!(world.scheduler.probes_due(10, 10, world.now).0.is_empty());
}

#[test]
fn a_host_whose_last_lane_left_while_it_was_called_is_forgotten() {
    let mut world = World::new(Limits { per_host: 1, ..USUAL }, &[(0, 0), (1, 0)]);
    (0..2).for_each(|lane| world.arrive(lane, 1));
    world.run(64);
    assert_eq!(world.out.len(), 1);
    // The other lane is called, and both leave before it is looked at.
    world.end(0, Signal::Answered);
    for lane in 0..2 {
        let owners = Owners { host: origin(1), ..world.owners[lane].clone() };
        world.owners[lane] = owners.clone();
        assert!(world.scheduler.admit(id(lane), owners, Edition::default(), Manner::Untried, world.now));
    }
    world.run(64);
    assert_eq!(world.scheduler.hosts.keys().collect::<Vec<_>>(), [&origin(1).unwrap()]);
}

#[test]
fn idle_lanes_are_forgotten_where_there_are_too_many_and_never_those_with_work() {
    let owners = Owners { agent: "a".into(), host: origin(0) };
    let now = Instant::now();
    let mut scheduler = Scheduler::new(USUAL, 1);
    let id = |action_id| LaneId { outbox: Outbox::FIRST, action_id };
    for lane in (0..MAX_LANES as i64).map(id) {
        assert!(scheduler.admit(lane, owners.clone(), Edition::default(), Manner::Untried, now));
        scheduler.found(lane);
    }
    assert!(
        !scheduler.admit(id(-1), owners.clone(), Edition::default(), Manner::Untried, now),
        "all of them have work"
    );
    let turns = scheduler.plan(Outbox::FIRST, 1, now);
    let idle = turns[0].lane;
    for turn in turns {
        scheduler.claimed(turn, 0, false, now);
    }
    assert!(scheduler.admit(id(-1), owners.clone(), Edition::default(), Manner::Untried, now));
    assert_eq!((scheduler.lanes.len(), scheduler.lanes.contains_key(&idle)), (MAX_LANES, false));
    assert!(!scheduler.found(idle));
    assert_eq!(scheduler.ring(Outbox::FIRST).lanes, MAX_LANES);
    for _ in 0..10_000 {
        scheduler.found(id(-1));
        if let Some(turn) = scheduler.plan(Outbox::FIRST, MAX_TURNS, now).pop() {
            scheduler.claimed(turn, 0, false, now);
        }
    }
    assert!(scheduler.ring(Outbox::FIRST).idle.len() <= 2 * MAX_LANES + 65, "what is kept of idle lanes is bounded");
}

#[test]
fn a_host_that_is_new_and_answers_waits_for_none_of_those_that_hang_however_many_they_are() {
    let mut world = World::new(USUAL, &[]);
    let owners = |number: usize| Owners { agent: format!("agent {number}").into(), host: origin(number) };
    let add = |world: &mut World, number: usize| {
        assert!(world.scheduler.admit(id(number), owners(number), Edition::default(), Manner::Untried, world.now));
        world.owners.push(owners(number));
        world.waiting.push(0);
        world.next.push(0);
        world.arrive(number, if number < 300 { 10 } else { 1 });
    };
    // 300 hosts hang for longer than this test lasts. After `QUIET` the scheduler knows that they do.
    (0..300).for_each(|number| add(&mut world, number));
    world.run(64);
    world.now += QUIET;
    for number in 300..340 {
        for _ in 0..25 {
            world.now += Duration::from_millis(10);
            world.run(64);
        }
        add(&mut world, number);
        assert!(world.run(64).contains(&number), "after {} s", (number - 300) / 4);
        let index = world.out.iter().position(|out| out.place.lane.action_id as usize == number).unwrap();
        world.end(index, Signal::Answered);
    }
}

#[test]
fn black_holes_keep_nobody_else_from_being_probed() {
    let mut world = World::new(USUAL, &[(0, 0), (1, 1)]);
    (0..2).for_each(|lane| world.arrive(lane, 100));
    while !world.run(64).is_empty() {
        while !world.out.is_empty() {
            world.end(0, Signal::Unreached(Failure::Connect));
        }
    }
    world.now = world.scheduler.next_probe().unwrap();
    let (hosts, _) = world.scheduler.probes_due(2, 0, world.now);
    assert_eq!(hosts.len(), 2);
    world.scheduler.probed(&hosts[0], Probe::NoAnswer, world.now);
    world.scheduler.probed(&hosts[1], Probe::Refused, world.now);
    world.now += Duration::from_secs(60);
    assert_eq!(world.scheduler.probes_due(2, 0, world.now).0, [hosts[1].clone()]);
    assert_eq!(world.scheduler.probes_due(0, 2, world.now).1, [hosts[0].clone()]);
}

/// Each answer arrives before the next claim is made, and each lane has less than the host could take.
#[test]
fn a_host_that_answers_at_once_is_soon_used_to_its_limit_however_little_each_lane_has() {
    let lanes: Vec<(u8, u8)> = (0..200).map(|agent| (agent, 0)).collect();
    let mut world = World::new(USUAL, &lanes);
    let mut most = 0;
    for _ in 0..10 {
        (0..lanes.len()).filter(|lane| world.waiting[*lane] == 0).collect::<Vec<_>>().into_iter().for_each(|lane| {
            world.arrive(lane, 2);
        });
        world.run(MAX_TURNS);
        most = most.max(world.out.len());
        while !world.out.is_empty() {
            world.end(0, Signal::Answered);
        }
    }
    assert_eq!(most, USUAL.per_host);
}

#[test]
fn places_that_hosts_hold_which_are_not_known_to_answer_are_not_in_reach_until_they_answer() {
    let limits = Limits { in_flight: 16, per_agent: 16, per_host: 16, adapt: true, hold_unreachable: true };
    let mut world = World::new(limits, &[(0, 0), (1, 1)]);
    world.arrive(0, 16);
    assert_eq!(world.scheduler.places_in_reach(), 16, "free places are in reach");
    world.run(16);
    let of_new_host = world.out.len();
    assert!((1..16).contains(&of_new_host), "{of_new_host}");
    assert_eq!(world.scheduler.places_in_reach(), 16 - of_new_host);
    world.now += QUIET;
    world.arrive(1, 1);
    world.run(16);
    assert_eq!(world.scheduler.hosts[&origin(0).unwrap()].manner, Manner::Silent);
    assert_eq!(world.scheduler.places_in_reach(), 16 - world.out.len(), "nor if a host has fallen silent");
    world.end(0, Signal::Answered);
    let of_others = world.in_flight(|owners| owners.host == origin(1));
    assert_eq!(world.scheduler.places_in_reach(), 16 - of_others, "what answers soon answers again");
}
