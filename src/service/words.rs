//! How numbers and durations are written for people.

pub use crate::domain::duration::{long, long_since};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (given, written) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(number(given), written);
        }
    }
}
