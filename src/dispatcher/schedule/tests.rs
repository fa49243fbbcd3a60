use super::*;
use crate::domain::claim::{ClaimToken, Claimed, Payload, VersionKey};

const PLACES: usize = 8;
/// Longer than any test takes: time stands still in them, unless nothing else is to be done.
const LONG: Duration = Duration::from_secs(100);

impl Schedule {
    /// Replaces the scheduler by this one.
    pub(in crate::dispatcher) fn take_over(&self, scheduler: Scheduler) {
        self.lock().scheduler = scheduler;
    }
}

/// A schedule with a lane in which something waits.
fn with_a_lane() -> Schedule {
    let limits =
        Limits { in_flight: PLACES, per_agent: PLACES, per_host: PLACES, adapt: false, hold_unreachable: false };
    let schedule = Schedule::all(limits, 1).remove(0);
    let lane = LaneSeen { action_id: 1, version: 1, enabled: true };
    let url = "http://receiver.example/".to_owned();
    schedule.introduce(&[lane], vec![LaneAbout { lane, agent: "a".to_owned(), url, answered: Some(true) }]);
    schedule
}

/// How long [`Schedule::gather_places`] waits.
async fn gathers(schedule: &Schedule) -> Duration {
    let begun = tokio::time::Instant::now();
    schedule.gather_places(LONG).await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_claim_waits_for_half_of_all_places_only_while_less_than_a_quarter_is_free() {
    let schedule = with_a_lane();
    assert_eq!(gathers(&schedule).await, Duration::ZERO);
    let mut held = schedule.turns(PLACES).await;
    assert!(gathers(&schedule).await >= LONG);
    schedule.shrink(held.first_mut().unwrap(), 7);
    assert!(gathers(&schedule).await >= LONG);
    let (waited, ()) = tokio::join!(gathers(&schedule), async {
        tokio::task::yield_now().await;
        schedule.shrink(held.first_mut().unwrap(), 4);
        schedule.tell_all();
    });
    assert_eq!(waited, Duration::ZERO, "half are free");
    schedule.shrink(held.first_mut().unwrap(), 3);
    drop(held);
    let _held = schedule.turns(6).await;
    assert_eq!(gathers(&schedule).await, Duration::ZERO, "a quarter is free");
}

/// What a claim has taken from the lane, so many of which it saw.
fn taken(claimed: usize, seen: usize, cut_short: bool) -> Taken {
    let one = || Claimed {
        token: ClaimToken::new(Uuid::now_v7(), Uuid::nil()),
        message_id: Uuid::nil(),
        version: VersionKey { action_id: 1, version: 1 },
        enabled: true,
        waited: Duration::ZERO,
        payload: Payload::Gone,
        signing: None,
    };
    Taken { claimed: (0..claimed).map(|_| one()).collect(), seen: [(1, seen)].into_iter().collect(), cut_short }
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_claimed_from_again_exactly_if_something_may_be_left_in_it() {
    const QUOTA: usize = 4;
    for (claimed, seen, cut_short, small_only, expected) in [
        (0, 0, false, false, false),
        (2, 2, false, false, false),
        (2, 3, false, false, true),
        (QUOTA, QUOTA, false, false, true),
        (0, 0, true, false, true),
        (1, 1, true, false, false),
        (1, 1, false, true, true),
    ] {
        let schedule = with_a_lane();
        let turns = schedule.turns(QUOTA).await;
        let places = schedule.claimed(turns, &taken(claimed, seen, cut_short), small_only);
        assert_eq!(places.values().map(Vec::len).sum::<usize>(), claimed);
        let again = tokio::time::timeout(LONG, schedule.turns(QUOTA)).await.is_ok();
        assert_eq!(again, expected, "{claimed} of {seen} {cut_short} {small_only}");
    }
}

#[test]
fn a_pause_that_was_known_already_changes_nothing() {
    let schedule = with_a_lane();
    let paused = || schedule.pause([PauseTarget::Agent("a".into())]);
    assert_eq!([paused(), paused(), schedule.pause([]), schedule.pause([])], [true, false, true, false]);
}

const LANE: LaneId = LaneId { outbox: Outbox::FIRST, action_id: 1 };

/// Whether a claim is possible, of which nothing is kept.
async fn is_possible(schedule: &Schedule) -> bool {
    tokio::time::timeout(LONG, schedule.turns(1)).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_claim_moves_the_cursor_of_a_lane_to_the_last_that_it_took_unless_large_calls_were_left_out() {
    for (claimed, small_only) in [(0, false), (2, false), (2, true)] {
        let schedule = with_a_lane();
        schedule.raise_floor(Uuid::max());
        let turns = schedule.turns(4).await;
        let taken = taken(claimed, claimed, false);
        let last = taken.claimed.last().map(|one| one.token.delivery_id()).filter(|_| !small_only);
        drop(schedule.claimed(turns, &taken, small_only));
        let cursors: Vec<LaneCursor> = last.map(|after| LaneCursor { action_id: 1, after }).into_iter().collect();
        assert_eq!(schedule.all_cursors(), cursors, "{claimed} {small_only}");
        assert_eq!(schedule.after(LANE), last.unwrap_or_default());
    }
}

#[tokio::test(start_paused = true)]
async fn what_went_back_to_waiting_is_claimed_again_at_once_and_what_is_passed_over_is_not() {
    let schedule = with_a_lane();
    schedule.raise_floor(Uuid::max());
    let taken = taken(2, 2, false);
    drop(schedule.claimed(schedule.turns(4).await, &taken, false));
    assert!(!is_possible(&schedule).await);
    let (first, last) = (taken.claimed[0].token.delivery_id(), taken.claimed[1].token.delivery_id());
    schedule.returned(LANE, first);
    assert!(is_possible(&schedule).await && schedule.after(LANE) < first);
    schedule.pass_over(LANE, last);
    let turns = schedule.turns(4).await;
    let asks: Vec<(i64, usize, Uuid)> =
        schedule.asks(turns.as_slice()).iter().map(|ask| (ask.action_id, ask.deliveries, ask.after)).collect();
    assert_eq!(asks, [(1, 4, last)]);
}

#[test]
fn lanes_are_read_about_that_are_not_known_or_whose_action_has_changed() {
    let schedule = with_a_lane();
    let seen = |action_id, version, enabled| LaneSeen { action_id, version, enabled };
    let (known, unknown) = (seen(1, 1, true), [seen(1, 2, true), seen(1, 1, false), seen(2, 1, true)]);
    let all = || [known].into_iter().chain(unknown);
    assert_eq!(schedule.found(all()), unknown);
    let checked = all().map(|lane| LaneChecked { lane, behind: None });
    assert_eq!(schedule.checked(checked.collect()), unknown);
    let mut taken = taken(2, 2, false);
    assert!(schedule.outdated(&taken).is_empty());
    taken.claimed[1].version.version = 2;
    assert_eq!(schedule.outdated(&taken), [seen(1, 2, true)]);
    schedule.forget();
    assert_eq!(schedule.found([known]), [known]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_cursor_is_claimed_again_once_a_look_has_found_it() {
    let schedule = with_a_lane();
    schedule.raise_floor(Uuid::max());
    let taken = taken(2, 2, false);
    drop(schedule.claimed(schedule.turns(4).await, &taken, false));
    let behind = taken.claimed[0].token.delivery_id();
    let lane = LaneSeen { action_id: 1, version: 1, enabled: true };
    schedule.checked(vec![LaneChecked { lane, behind: Some(behind) }]);
    assert!(is_possible(&schedule).await && schedule.after(LANE) < behind);
}

#[tokio::test(start_paused = true)]
async fn turns_are_counted_divided_into_halves_and_given_back() {
    let schedule = with_a_lane();
    let lane = |action_id| LaneSeen { action_id, version: 1, enabled: true };
    let about = |action_id| {
        let url = "http://receiver.example/".to_owned();
        LaneAbout { lane: lane(action_id), agent: "a".to_owned(), url, answered: Some(true) }
    };
    schedule.introduce(&[2, 3, 4].map(lane), vec![about(2), about(3), about(4)]);
    let mut turns = schedule.turns(PLACES).await;
    let back = turns.halve();
    assert_eq!((turns.len(), back.len(), schedule.no_turns().len()), (2, 2, 0));
    assert_eq!(schedule.report().0, PLACES);
    drop((turns, back));
    assert_eq!(schedule.report().0, 0);
}

/// The schedules of two outboxes. In the first one, something waits.
fn of_two() -> Vec<Schedule> {
    let limits = Limits { in_flight: 4, per_agent: 4, per_host: 2, adapt: false, hold_unreachable: true };
    let schedules = Schedule::all(limits, 2);
    let lane = LaneSeen { action_id: 1, version: 1, enabled: true };
    let url = "http://receiver.example/".to_owned();
    let about = LaneAbout { lane, agent: "a".to_owned(), url, answered: Some(true) };
    schedules.iter().for_each(|schedule| schedule.introduce(&[lane], vec![about.clone()]));
    schedules
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_answered_lends_its_places_and_what_has_none_by_then_may_not_begin() {
    let schedules = of_two();
    let mut turns = schedules[0].turns(2).await;
    assert!(!is_possible(&schedules[1]).await, "the host has no place left");
    schedules[0].lend(&mut turns);
    let of_others = tokio::time::timeout(LONG, schedules[1].turns(2)).await.expect("places are lent");
    let places = schedules[0].claimed(turns, &taken(2, 2, false), false);
    let of_others = schedules[1].claimed(of_others, &taken(2, 2, false), false);
    let may_begin = |places: HashMap<i64, Vec<Place>>| -> Vec<bool> {
        let held = places.into_values().flatten().map(|place| super::super::held::HeldPlace::new(place, &schedules[0]));
        held.map(|place| place.may_begin()).collect()
    };
    assert_eq!([may_begin(places), may_begin(of_others)], [[false; 2], [true; 2]]);
}

#[test]
fn a_plan_concerns_others_if_it_leaves_places_that_were_kept_or_calls_one_of_their_lanes() {
    let concerns = concerns_others;
    assert!(concerns((true, 1), false, (false, 1)), "it waits no more, and takes nothing");
    assert!(!concerns((true, 1), false, (true, 1)), "it still waits");
    assert!(!concerns((true, 1), true, (false, 1)), "it has what it waited for");
    assert!(!concerns((false, 1), false, (false, 1)), "nothing was kept for it");
    assert!(concerns((false, 1), true, (false, 2)) && !concerns((false, 2), true, (false, 1)));
}

#[test]
fn probes_are_looked_for_when_they_are_due_and_not_all_the_time() {
    let now = Instant::now();
    let later = now + 2 * BETWEEN_PROBES;
    assert_eq!([next_look(now, now), next_look(later, now)], [now + BETWEEN_PROBES, later]);
}

#[test]
fn what_attempts_say_of_a_host_is_noted() {
    let schedule = &of_two()[0];
    let host = Origin::of_url("http://receiver.example/").unwrap();
    assert!(schedule.in_flight_and_ailing().1.unreachable == 0);
    for _ in 0..crate::scheduler::FAILURES_IN_A_ROW {
        schedule.learn(&host, Instant::now(), Signal::Unreached(crate::domain::delivery::Failure::Connect));
    }
    assert_eq!(schedule.in_flight_and_ailing().1.unreachable, 1);
}
