use super::*;
use crate::store::history::floor;

fn key(at: &str, record: &str) -> ActKey {
    ActKey { at: at.parse().unwrap(), record: record.to_owned() }
}

#[test]
fn a_look_begins_at_the_earlier_of_its_end_and_of_where_the_last_one_ended() {
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let begins = |until: Option<&str>, after: Option<ActKey>| {
        let filter = ActFilter { until: until.map(|at| at.parse().unwrap()), ..ActFilter::default() };
        let ActKey { at, record } = start(&filter, after.as_ref());
        (at, record)
    };
    let of = |at: &str, record: &str| (at.parse().unwrap(), record.to_owned());
    assert_eq!(begins(Some(early), Some(key(late, "r"))), of(early, ""));
    assert_eq!(begins(Some(late), Some(key(early, "r"))), of(early, "r"));
    // Nothing of the moment itself, whatever its record.
    assert_eq!(begins(Some(early), Some(key(early, "r"))), of(early, ""));
    assert_eq!(begins(Some(early), None), of(early, ""));
    assert_eq!(begins(None, Some(key(late, "r"))), of(late, "r"));
    assert!(begins(None, None).0 > "9999-12-31T23:59:59Z".parse::<DateTime<Utc>>().unwrap());
}

#[test]
fn tests_that_come_before_an_act_end_at_its_own_id_or_at_its_millisecond() {
    let (whole, next) = ("2026-01-01T00:00:00.001Z", "2026-01-01T00:00:00.002Z");
    let first_of = |at: &str| floor(at.parse().unwrap());
    let id = Uuid::from_u128(7);
    assert_eq!(tests_before(&key(whole, &format!("test-{id}"))), id);
    // The record's name decides within one time: a test of that millisecond comes before what is named behind it.
    assert_eq!(tests_before(&key(whole, "switch-1")), first_of(whole));
    assert_eq!(tests_before(&key(whole, "version-1")), first_of(next));
    assert_eq!(tests_before(&key("2026-01-01T00:00:00.001001Z", "switch-1")), first_of(next));
    assert_eq!(tests_before(&key("2026-01-01T00:00:00.001001Z", "version-1")), first_of(next));
}

#[test]
fn tests_begin_at_the_first_millisecond_that_is_not_before_the_time_from_which_acts_are_looked_for() {
    let first =
        |at: Option<&str>| first_test(&ActFilter { since: at.map(|at| at.parse().unwrap()), ..ActFilter::default() });
    let first_of = |at: &str| floor(at.parse().unwrap());
    assert_eq!(first(Some("2026-01-01T00:00:00.001Z")), first_of("2026-01-01T00:00:00.001Z"));
    assert_eq!(first(Some("2026-01-01T00:00:00.001001Z")), first_of("2026-01-01T00:00:00.002Z"));
    assert_eq!(first(None), first_of("1970-01-01T00:00:00Z"));
}
