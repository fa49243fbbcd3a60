//! Where searches end, and what follows from how long their parts took.

use super::super::tests::reported;
use super::*;
use crate::domain::error_kind::ErrorKind;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn year() -> Window {
    Window::newest_of(at("2025-11-24T00:00:00Z")..at("2026-11-24T00:00:00Z"))
}

#[test]
fn windows_follow_each_other_without_a_gap_and_grow_while_there_is_time() {
    let all = Uuid::nil()..Uuid::max();
    let (mut window, mut searched) = (year(), 1);
    assert_eq!(window.ids(&all).end, Uuid::max(), "what is newer than the newest belongs to the first");
    while let Next::Window(next) = window.next(Duration::from_millis(10), Duration::from_millis(500)) {
        assert_eq!(next.ids(&all).end, window.ids(&all).start);
        assert_eq!(next.width, window.width * 8);
        (window, searched) = (next, searched + 1);
    }
    assert!(window.since() <= window.oldest && searched < 8, "{searched}");
}

#[test]
fn a_search_ends_in_time_and_says_how_far_it_got() {
    let (took, since) = (Duration::from_millis(100), at("2026-11-23T23:00:00Z"));
    assert_eq!(year().next(took, Duration::from_millis(100)), Next::TimeIsUp(since));
    assert!(matches!(year().next(took, Duration::from_millis(200)), Next::Window(next) if next.width == FIRST_WINDOW));
}

#[test]
fn a_window_that_takes_too_long_is_narrowed_down_to_a_second_and_no_further() {
    let (mut window, mut tried) = (year(), 0);
    while let Ok(next) = window.after(reported("57014")) {
        let Next::Window(narrower) = next else { panic!("{next:?}") };
        assert_eq!((narrower.until, narrower.is_first), (window.until, true));
        (window, tried) = (narrower, tried + 1);
    }
    assert!(window.width == LEAST_WINDOW && tried < 5, "{tried}");
}

#[test]
fn a_later_window_that_takes_too_long_ends_the_search_where_the_one_before_it_ended() {
    let Next::Window(second) = year().next(Duration::ZERO, Duration::from_secs(1)) else { panic!("one window") };
    assert_eq!(second.after(reported("57014")).unwrap(), Next::TimeIsUp(year().since()));
}

#[test]
fn no_window_is_taken_for_one_that_takes_too_long_if_something_else_failed() {
    let Next::Window(second) = year().next(Duration::ZERO, Duration::from_secs(1)) else { panic!("one window") };
    assert!(year().after(reported("08006")).is_err() && second.after(reported("08006")).is_err());
}

#[test]
fn windows_keep_to_the_ids_that_are_asked_for() {
    let page = floor(at("2026-11-23T23:30:00Z"))..floor(at("2026-11-23T23:45:00Z"));
    assert_eq!(year().ids(&page), page);
}

#[test]
fn the_rest_of_a_search_begins_exactly_where_it_ended() {
    let until = at("2026-11-23T23:30:00Z");
    let rest = |reached| Found { rows: Vec::new(), reached }.rest_before();
    assert_eq!(
        rest(Reached::Time(until)),
        Some(Window { until, is_first: false, ..year() }.ids(&(Uuid::nil()..Uuid::max())).end)
    );
    assert_eq!(rest(Reached::End), None);
}

#[test]
fn what_no_index_finds_is_searched_in_windows() {
    let filter = |change: fn(&mut HistoryFilter)| {
        let mut filter = HistoryFilter::default();
        change(&mut filter);
        has_an_index(&filter)
    };
    assert!(filter(|_| {}), "the newest page of everything");
    assert!(filter(|filter| filter.agent = Some("a".to_owned())));
    assert!(filter(|filter| filter.error_kind = ErrorKind::named("dns")));
    assert!(filter(|filter| filter.response_code = Some(404)));
    assert!(filter(|filter| filter.states = Some(vec![State::Delivered])), "nearly every row matches");
    assert!(!filter(|filter| filter.response_code = Some(204)));
    assert!(!filter(|filter| filter.action = Some("crm".to_owned())));
    // Whatever else is asked for.
    for named in [
        |filter: &mut HistoryFilter| filter.delivery_ids = Some(vec![Uuid::nil()]),
        |filter: &mut HistoryFilter| filter.agent = Some("a".to_owned()),
        |filter: &mut HistoryFilter| filter.call_sid = Some("CA1".to_owned()),
        |filter: &mut HistoryFilter| filter.call_id = Some(Uuid::nil()),
    ] {
        let mut filter = HistoryFilter { action: Some("crm".to_owned()), ..HistoryFilter::default() };
        named(&mut filter);
        assert!(has_an_index(&filter), "{filter:?}");
    }
}

#[test]
fn a_search_for_what_is_open_goes_on_in_wider_steps_until_a_page_is_full_or_nothing_is_left_or_the_time_is_over() {
    let (last, second) = (Uuid::from_u128(7), Duration::from_secs(1));
    let next = |step, looked_at, missing, left| next_candidates(step, looked_at, missing, last, left);
    assert_eq!(next(100, 100, 0, Duration::ZERO), ControlFlow::Break(Reached::Limit));
    assert_eq!(next(100, 99, 1, Duration::ZERO), ControlFlow::Break(Reached::End));
    assert_eq!(next(100, 100, 1, Duration::ZERO), ControlFlow::Break(Reached::Before(last)));
    assert_eq!(next(100, 100, 1, second), ControlFlow::Continue(400));
    assert_eq!(next(CANDIDATES.end, CANDIDATES.end, 1, second), ControlFlow::Continue(CANDIDATES.end));
}

#[test]
fn only_a_search_by_an_index_that_takes_too_long_is_followed_by_one_in_windows() {
    assert_eq!(in_time(Ok(1)).unwrap(), Some(1));
    assert_eq!(in_time::<()>(Err(reported("57014"))).unwrap(), None);
    assert!(in_time::<()>(Err(reported("08006"))).is_err());
}

#[test]
fn only_of_what_an_index_does_not_find_in_order_a_glance_is_over_sooner_than_a_search() {
    let named = HistoryFilter { agent: Some("a".to_owned()), ..HistoryFilter::default() };
    let picky = [
        HistoryFilter { action: Some("crm".to_owned()), ..HistoryFilter::default() },
        HistoryFilter { response_code: Some(404), ..HistoryFilter::default() },
        HistoryFilter { error_kind: ErrorKind::named("dns"), ..HistoryFilter::default() },
    ];
    let time = |filter: &HistoryFilter| time_of_an_index(filter, Budget::of(Patience::Glance));
    for filter in picky {
        assert!(time(&filter) > Duration::ZERO && time(&filter) < SEARCH_TIME, "{filter:?}");
        assert_eq!(time(&HistoryFilter { agent: named.agent.clone(), ..filter }), SEARCH_TIME);
    }
    assert_eq!([time(&named), time(&HistoryFilter::default())], [SEARCH_TIME; 2]);
}
