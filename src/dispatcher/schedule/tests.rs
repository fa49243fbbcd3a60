use super::*;
use crate::domain::claim::{ClaimToken, Claimed, Payload, VersionKey};

const PLACES: usize = 8;
/// Longer than any test takes: time stands still in them, unless nothing else is to be done.
const LONG: Duration = Duration::from_secs(100);

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
