//! How long calls and history are kept.

use std::str::FromStr;

/// The largest number of days that can be given.
const MAX_DAYS: u32 = 36_500;

/// How long something is kept: a number of days, or forever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Days(Option<u32>);

impl FromStr for Days {
    type Err = String;

    /// An empty text means forever, because an unset variable in a compose file is empty.
    fn from_str(text: &str) -> Result<Days, String> {
        match text.trim() {
            "" => Ok(Days(None)),
            number => match number.parse() {
                Ok(days @ 1..=MAX_DAYS) => Ok(Days(Some(days))),
                _ => Err(format!("it must be a number of days, 1 to {MAX_DAYS}")),
            },
        }
    }
}

/// For how many days excerpts of responses are kept, if at all. They may hold personal data, so they are never kept
/// forever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExcerptDays(Option<u16>);

impl ExcerptDays {
    /// The largest number of days.
    const MAX: u16 = 366;

    /// The number of days; `None` if excerpts are not kept.
    pub fn days(self) -> Option<i32> {
        self.0.map(i32::from)
    }
}

impl FromStr for ExcerptDays {
    type Err = String;

    /// An empty text means that they are not kept, because an unset variable in a compose file is empty.
    fn from_str(text: &str) -> Result<ExcerptDays, String> {
        match text.trim() {
            "" => Ok(ExcerptDays(None)),
            number => match number.parse() {
                Ok(days @ 1..=ExcerptDays::MAX) => Ok(ExcerptDays(Some(days))),
                _ => Err(format!("it must be a number of days, 1 to {}", ExcerptDays::MAX)),
            },
        }
    }
}

/// How long calls and history are kept, in days; `None` means forever. A value of this type is always valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    calls_days: Option<u32>,
    history_days: Option<u32>,
}

/// History would be removed before its calls. A call could then be sent again although nobody could see any more that
/// it was sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("history must be kept for at least as long as calls: --keep-history-days is {history_days}, --keep-calls-days is {}",
        .calls_days.map_or("forever".to_owned(), |days| days.to_string()))]
pub struct HistoryLeavesFirst {
    history_days: u32,
    calls_days: Option<u32>,
}

impl Retention {
    /// Makes a retention from the two periods.
    ///
    /// # Errors
    /// [`HistoryLeavesFirst`] if history is kept for a shorter time than calls.
    pub fn new(calls: Days, history: Days) -> Result<Retention, HistoryLeavesFirst> {
        match (calls.0, history.0) {
            (calls_days, Some(history_days)) if calls_days.is_none_or(|days| days > history_days) => {
                Err(HistoryLeavesFirst { history_days, calls_days })
            }
            (calls_days, history_days) => Ok(Retention { calls_days, history_days }),
        }
    }

    /// Whether everything is kept forever. History is never kept for a shorter time than calls, so calls decide.
    pub fn is_for_ever(self) -> bool {
        self.calls_days.is_none()
    }

    /// Days for which calls are kept; `None` means forever.
    pub fn calls_days(self) -> Option<u32> {
        self.calls_days
    }

    /// Days for which history is kept; `None` means forever.
    pub fn history_days(self) -> Option<u32> {
        self.history_days
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(calls: &str, history: &str) -> Result<Retention, HistoryLeavesFirst> {
        Retention::new(calls.parse().unwrap(), history.parse().unwrap())
    }

    #[test]
    fn days_are_at_least_one_and_nothing_means_for_ever() {
        for (calls, history, days) in
            [("", "", (None, None)), ("7", "", (Some(7), None)), ("7", "8", (Some(7), Some(8)))]
        {
            let kept = retention(calls, history).unwrap();
            assert_eq!((kept.calls_days(), kept.history_days()), days, "{calls} {history}");
            assert_eq!(kept.is_for_ever(), days == (None, None), "{calls} {history}");
        }
        assert_eq!("36500".parse(), Ok(Days(Some(36_500))));
        for wrong in ["0", "-1", "36501", "1.5", "ten"] {
            assert!(wrong.parse::<Days>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn history_is_kept_for_at_least_as_long_as_calls() {
        for (calls, history) in [("7", "7"), ("7", "8"), ("7", "")] {
            assert!(retention(calls, history).is_ok(), "{calls} {history}");
        }
        for (calls, history) in [("8", "7"), ("", "7")] {
            assert!(retention(calls, history).is_err(), "{calls} {history}");
        }
        let error = retention("", "7").unwrap_err().to_string();
        assert!(error.ends_with("--keep-history-days is 7, --keep-calls-days is forever"), "{error}");
    }

    #[test]
    fn excerpts_are_kept_for_a_year_at_most_and_not_at_all_unless_that_is_said() {
        let days = |text: &str| text.parse::<ExcerptDays>().map(ExcerptDays::days);
        assert_eq!([days(""), days("1"), days(" 366 ")], [Ok(None), Ok(Some(1)), Ok(Some(366))]);
        assert!(days("0").is_err() && days("367").is_err() && days("ever").is_err());
    }
}
