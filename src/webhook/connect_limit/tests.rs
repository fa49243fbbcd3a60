//! Tests of what requests that come together may open at once.

use futures_util::FutureExt;
use url::Host;

use super::*;

fn target() -> Target {
    Target { tls: false, host: Host::Domain("h.example".to_owned()), port: 80, client: None }
}

fn open(limits: &Arc<ConnectLimits>) -> Option<Opening> {
    match limits.open(&target(), || None::<()>).now_or_never() {
        Some(Ok(Way::Open(opening))) => Some(opening),
        _ => None,
    }
}

#[test]
fn a_few_are_opened_at_once_and_more_while_that_goes_well() {
    let limits = Arc::new(ConnectLimits::new(true));
    let mut opening: Vec<Opening> = std::iter::from_fn(|| open(&limits)).collect();
    assert_eq!(opening.len(), FIRST);
    for _ in 0..OPENED_TO_GROW {
        opening.pop().unwrap().connected();
    }
    assert_eq!(std::iter::from_fn(|| open(&limits)).map(Opening::connected).take(1_000).count(), 1_000);
    let opening: Vec<Opening> = std::iter::from_fn(|| open(&limits)).collect();
    assert_eq!(opening.len(), MOST);
}

#[test]
fn after_failures_in_a_row_those_that_wait_are_sent_away_and_the_next_one_tries() {
    let limits = Arc::new(ConnectLimits::new(true));
    let mut opening: Vec<Opening> = std::iter::from_fn(|| open(&limits)).collect();
    let target = target();
    let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(limits.open(&target, || None::<()>))).collect();
    waiting.iter_mut().for_each(|waiting| assert!(waiting.as_mut().now_or_never().is_none()));
    for _ in 0..FAILURES_TO_SEND_AWAY {
        drop(opening.pop());
    }
    for waiting in &mut waiting {
        assert!(matches!(waiting.as_mut().now_or_never(), Some(Err(Unreachable))));
    }
    drop((opening, waiting));
    let one = open(&limits);
    assert!(one.is_some() && open(&limits).is_none(), "one at a time");
    drop(one);
    open(&limits).unwrap().connected();
    assert!(open(&limits).is_some());
}

#[test]
fn a_connection_that_comes_free_serves_one_that_waits() {
    let limits = Arc::new(ConnectLimits::new(true));
    let _opening: Vec<Opening> = std::iter::from_fn(|| open(&limits)).collect();
    let free = std::cell::Cell::new(None);
    let target = target();
    let mut waiting = Box::pin(limits.open(&target, || free.take()));
    assert!(waiting.as_mut().now_or_never().is_none());
    free.set(Some(7));
    limits.one_is_free(&target);
    assert!(matches!(waiting.as_mut().now_or_never(), Some(Ok(Way::Ready(7)))));
}

#[test]
fn where_there_are_no_doors_everybody_opens_at_once() {
    let limits = Arc::new(ConnectLimits::new(false));
    assert_eq!(std::iter::from_fn(|| open(&limits)).take(1_000).count(), 1_000);
}

#[test]
fn after_a_pause_the_number_is_small_again_unless_a_connection_is_being_opened() {
    let used = Moment::now();
    for (opening, pause, most) in
        [(0, SMALL_AGAIN_AFTER, FIRST), (0, SMALL_AGAIN_AFTER / 2, MOST), (1, SMALL_AGAIN_AFTER, MOST)]
    {
        let mut limit = ConnectLimit { opening, most: MOST, used, ..ConnectLimit::new() };
        assert!(limit.begin(used + pause));
        assert_eq!((limit.most, limit.opening), (most, opening + 1), "{opening} {pause:?}");
        assert_eq!(limit.used, used + pause);
    }
    let mut limit = ConnectLimit { most: 1, used, ..ConnectLimit::new() };
    assert!(limit.begin(used + SMALL_AGAIN_AFTER) && !limit.begin(used + SMALL_AGAIN_AFTER), "no larger, either");
}

#[test]
fn only_a_limit_that_nobody_has_used_for_a_while_is_forgotten() {
    let used = Moment::now();
    for (opening, waiting, pause, forgotten) in [
        (0, 0, SMALL_AGAIN_AFTER, true),
        (0, 0, SMALL_AGAIN_AFTER / 2, false),
        (1, 0, SMALL_AGAIN_AFTER, false),
        (0, 1, SMALL_AGAIN_AFTER, false),
    ] {
        let limit = ConnectLimit { opening, waiting, used, ..ConnectLimit::new() };
        assert_eq!(limit.is_forgotten(used + pause), forgotten, "{opening} {waiting} {pause:?}");
    }
}

#[test]
fn the_table_grows_only_with_the_targets_that_are_in_use() {
    // More than there may be before unused ones are looked for.
    const USED: u16 = 1_100;
    let limits = Arc::new(ConnectLimits::new(true));
    let of = |port| Target { port, ..target() };
    let mut in_use = vec![];
    for port in 1..=10_000 {
        let waiting = limits.wait(&of(port)).unwrap();
        if port <= USED {
            in_use.push(waiting);
        }
        limits.lock().unwrap().get_mut(&of(port)).unwrap().used = Moment::from_nanos(0);
    }
    let table = limits.lock().unwrap();
    assert!(table.len() < 4 * MANY, "{}", table.len());
    assert!((1..=USED).all(|port| table.contains_key(&of(port))), "those that wait lose nothing");
}

#[test]
fn a_target_that_was_reached_by_other_means_is_tried_by_more_again() {
    let limits = Arc::new(ConnectLimits::new(true));
    drop(open(&limits));
    assert_eq!(std::iter::from_fn(|| open(&limits)).take(9).collect::<Vec<_>>().len(), 1);
    limits.reached(&target());
    assert_eq!(std::iter::from_fn(|| open(&limits)).take(9).collect::<Vec<_>>().len(), 2);
}

#[test]
fn failures_send_away_only_if_they_come_in_a_row() {
    let limits = Arc::new(ConnectLimits::new(true));
    let target = target();
    let hold = open(&limits).unwrap();
    for _ in 0..4 * FAILURES_TO_SEND_AWAY {
        for _ in 1..FAILURES_TO_SEND_AWAY {
            limits.lock().unwrap().get_mut(&target).unwrap().failed();
        }
        limits.lock().unwrap().get_mut(&target).unwrap().connected();
    }
    assert_eq!(limits.lock().unwrap()[&target].sent_away, 0);
    drop(hold);
}

#[test]
fn a_signal_that_one_cannot_use_any_more_goes_to_the_next() {
    let limits = Arc::new(ConnectLimits::new(true));
    let _opening: Vec<Opening> = std::iter::from_fn(|| open(&limits)).collect();
    let free = std::cell::Cell::new(None);
    let target = target();
    let mut first = Box::pin(limits.open(&target, || free.take()));
    let mut second = Box::pin(limits.open(&target, || free.take()));
    assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
    assert_eq!(limits.lock().unwrap()[&target].waiting, 2);
    free.set(Some(7));
    limits.one_is_free(&target);
    drop(first);
    assert!(matches!(second.as_mut().now_or_never(), Some(Ok(Way::Ready(7)))));
    drop(second);
    assert_eq!(limits.lock().unwrap()[&target].waiting, 0);
}

#[test]
fn below_the_first_number_each_connection_makes_it_larger_and_above_it_every_fourth_up_to_a_bound() {
    let mut limit = ConnectLimit::new();
    limit.failed();
    assert_eq!(limit.most, 1);
    for most in 2..=FIRST {
        limit.connected();
        assert_eq!(limit.most, most);
    }
    for most in FIRST..MOST {
        for _ in 0..OPENED_TO_GROW {
            assert_eq!(limit.most, most);
            limit.connected();
        }
    }
    (0..100).for_each(|_| limit.connected());
    assert_eq!(limit.most, MOST);
}

#[test]
fn unused_limits_are_removed_only_when_a_large_table_would_grow() {
    let limits = Arc::new(ConnectLimits::new(true));
    for port in 1..=5_000 {
        let of = Target { port, ..target() };
        let before = limits.lock().map(|table| (table.len(), table.capacity())).unwrap();
        drop(limits.wait(&of));
        let mut table = limits.lock().unwrap();
        table.get_mut(&of).unwrap().used = Moment::from_nanos(0);
        let would_grow = before.0 >= MANY && before.0 == before.1;
        assert_eq!(table.len(), if would_grow { 1 } else { before.0 + 1 }, "of {before:?}");
    }
}
