//! How numbers and durations are written for people.

use crate::store::status::Count;

/// A number with its thousands apart.
pub fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    format!("{}{}", if number < 0 { "-" } else { "" }, groups.join(","))
}

/// A number that was counted up to a limit.
pub fn count(Count { counted, is_more }: Count) -> String {
    if is_more { format!("more than {}", number(counted)) } else { number(counted) }
}

/// A number of which at least so many were counted.
pub fn at_least(Count { counted, is_more }: Count) -> String {
    if is_more { format!("{} or more", number(counted)) } else { number(counted) }
}

/// A duration in its two largest units.
pub fn long(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_written_for_people() {
        for (given, written) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(number(given), written);
        }
        for (ms, written) in [(0, "0 s"), (61_000, "1 min 1 s"), (7_260_000, "2 h 1 min"), (90_000_000, "1 d 1 h")] {
            assert_eq!(long(ms), written);
        }
    }
}
