//! Times as people give them: a day, a time, or a span back from now.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::store::{Store, StoreError};

/// The longest span: a hundred years.
const MAX_SPAN: TimeDelta = TimeDelta::days(36_500);

/// A time as an argument says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// At this time.
    At(DateTime<Utc>),
    /// So long ago, by the database's clock.
    Ago(TimeDelta),
}

impl Moment {
    /// The time that is meant if it is `now`.
    fn from(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Moment::At(at) => at,
            Moment::Ago(span) => now.checked_sub_signed(span).unwrap_or(DateTime::<Utc>::MIN_UTC),
        }
    }
}

/// The times that are meant, all from the same now. The database is asked only if one of them is a span.
pub(super) async fn resolved<const N: usize>(
    store: &Store,
    moments: [Option<Moment>; N],
) -> Result<[Option<DateTime<Utc>>; N], StoreError> {
    let needs_now = moments.iter().any(|moment| matches!(moment, Some(Moment::Ago(_))));
    let now = if needs_now { store.now().await? } else { DateTime::UNIX_EPOCH };
    Ok(moments.map(|moment| moment.map(|moment| moment.from(now))))
}

/// Parses a span (`90s`, `30m`, `1h`, `2d`, `1w`), a day (its midnight in UTC) or a time with an offset.
pub(super) fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Some(span) = parse_span(text) {
        return Ok(Moment::Ago(span));
    }
    if let Ok(day) = NaiveDate::from_str(text) {
        return Ok(Moment::At(day.and_time(NaiveTime::MIN).and_utc()));
    }
    DateTime::parse_from_rfc3339(text).map(|time| Moment::At(time.to_utc())).map_err(|_| {
        "expected a span back from now (30m, 1h, 2d), a day (2026-11-24) or a time with an offset \
         (2026-11-24T09:30:00Z)"
            .to_owned()
    })
}

fn parse_span(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: i64 = number.parse().ok()?;
    let span = match unit {
        's' => TimeDelta::try_seconds(number),
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        'w' => TimeDelta::try_weeks(number),
        _ => None,
    };
    span.filter(|span| *span <= MAX_SPAN)
}

#[cfg(test)]
mod tests {
    use super::super::table::time;
    use super::*;

    #[test]
    fn a_day_means_its_midnight_and_a_time_needs_an_offset() {
        let parse_time = |text: &str| parse_moment(text).map(|moment| moment.from(DateTime::UNIX_EPOCH));
        assert_eq!(time(parse_time("2026-11-24").unwrap()), "2026-11-24T00:00:00Z");
        assert_eq!(time(parse_time("2026-11-24T09:30:00+05:30").unwrap()), "2026-11-24T04:00:00Z");
        assert!(parse_time("2026-11-24T09:30:00").is_err());
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn a_span_is_a_whole_number_with_one_unit_and_counts_back_from_now() {
        let now: DateTime<Utc> = "2026-11-24T09:30:00Z".parse().unwrap();
        for (text, meant) in [
            ("90s", "2026-11-24T09:28:30Z"),
            ("30m", "2026-11-24T09:00:00Z"),
            ("1h", "2026-11-24T08:30:00Z"),
            ("2d", "2026-11-22T09:30:00Z"),
            ("1w", "2026-11-17T09:30:00Z"),
            ("0s", "2026-11-24T09:30:00Z"),
        ] {
            assert_eq!(time(parse_moment(text).unwrap().from(now)), meant, "{text}");
        }
        let no_times =
            ["", "h", "1", "1.5h", "-1h", "1 h", "1h30m", "36501d", "99999999999999999999s", "1y", "yesterday"];
        for text in no_times {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }
}
