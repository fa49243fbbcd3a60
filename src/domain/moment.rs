//! Times as people give them: a day, a time, or a span back from now.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

/// The longest span: a hundred years.
const MAX_SPAN: TimeDelta = TimeDelta::days(36_500);

/// What is said where [`Moment::is_nothing_between`] two times.
pub const NOTHING_BETWEEN: &str = "the time since which is not before the time until which, so nothing can be found";

/// What a text that names no moment should have been.
pub const EXPECTED: &str =
    "a day (2026-11-24), a time with an offset (2026-11-24T09:30:00Z), or a span back from now (30m, 24h, 7d)";

/// A time as a person says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At this time.
    At(DateTime<Utc>),
    /// So long ago, by the database's clock.
    Ago(TimeDelta),
}

impl Moment {
    /// Reads a span (`90s`, `30m`, `1h`, `2d`, `1w`), a day (its midnight in UTC) or a time with an offset.
    pub fn named(text: &str) -> Option<Moment> {
        if let Some(span) = span(text) {
            return Some(Moment::Ago(span));
        }
        if let Ok(day) = NaiveDate::from_str(text) {
            return Some(Moment::At(day.and_time(NaiveTime::MIN).and_utc()));
        }
        DateTime::parse_from_rfc3339(text).ok().map(|time| Moment::At(time.to_utc()))
    }

    /// Whether nothing can be since one time and before the other, whatever time it is. Of a time and a span, that depends on what
    /// time it is, so it is not said of them.
    pub fn is_nothing_between(since: Option<Moment>, until: Option<Moment>) -> bool {
        match (since, until) {
            (Some(Moment::At(since)), Some(Moment::At(until))) => since >= until,
            (Some(Moment::Ago(since)), Some(Moment::Ago(until))) => since <= until,
            _ => false,
        }
    }

    /// Whether it depends on what time it is.
    pub fn is_relative(self) -> bool {
        matches!(self, Moment::Ago(_))
    }

    /// The time that is meant if it is `now`.
    pub fn at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Moment::At(at) => at,
            Moment::Ago(span) => now.checked_sub_signed(span).unwrap_or(DateTime::<Utc>::MIN_UTC),
        }
    }
}

/// Reads a span: `90s`, `30m`, `1h`, `2d`, `1w`; at most a hundred years.
pub fn span(text: &str) -> Option<TimeDelta> {
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
    use super::*;

    fn time(at: DateTime<Utc>) -> String {
        at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    #[test]
    fn a_day_means_its_midnight_and_a_time_needs_an_offset() {
        let parse_time = |text: &str| Moment::named(text).map(|moment| moment.at(DateTime::UNIX_EPOCH));
        assert_eq!(time(parse_time("2026-11-24").unwrap()), "2026-11-24T00:00:00Z");
        assert_eq!(time(parse_time("2026-11-24T09:30:00+05:30").unwrap()), "2026-11-24T04:00:00Z");
        assert_eq!(parse_time("2026-11-24T09:30:00"), None);
        assert_eq!(parse_time("yesterday"), None);
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
            assert_eq!(time(Moment::named(text).unwrap().at(now)), meant, "{text}");
        }
        let no_times = [
            "",
            "h",
            "1",
            "1.5h",
            "-1h",
            "1 h",
            "1h30m",
            "36501d",
            "99999999999999999999s",
            "4294967295d",
            "1y",
            "é",
            "yesterday",
        ];
        for text in no_times {
            assert_eq!(Moment::named(text), None, "{text}");
        }
    }

    #[test]
    fn there_is_nothing_between_a_time_and_one_that_is_not_later() {
        for (since, until, is_nothing) in [
            ("1h", "2h", true),
            ("1h", "60m", true),
            ("2h", "1h", false),
            ("2026-11-25", "2026-11-24", true),
            ("2026-11-24", "2026-11-24", true),
            ("2026-11-24", "2026-11-25", false),
            ("2026-11-24", "1h", false),
            ("1h", "2026-11-24", false),
        ] {
            let (since, until) = (Moment::named(since), Moment::named(until));
            assert_eq!(Moment::is_nothing_between(since, until), is_nothing, "{since:?} {until:?}");
            assert!(!Moment::is_nothing_between(since, None) && !Moment::is_nothing_between(None, until));
        }
    }

    #[test]
    fn a_span_alone_means_another_time_at_another_now() {
        let (now, later) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + TimeDelta::days(1));
        for text in ["90s", "1w", "2026-11-24", "2026-11-24T09:30:00+05:30"] {
            let moment = Moment::named(text).unwrap();
            assert_eq!(moment.is_relative(), moment.at(now) != moment.at(later), "{text}");
        }
    }
}
