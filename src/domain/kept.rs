//! What history stores of a text. Each text has a limit, so that no row is too large for an index, a page or a CHECK
//! constraint, whatever a platform, an author or a receiver wrote. NUL characters are removed, because Postgres refuses
//! them.
//!
//! The agent and the call's provider id are copied into history within the database. They are cut there, by `left(…)`
//! with the limits of this module as arguments. The texts that the dispatcher writes are cut here.

use std::borrow::Cow;

/// The largest number of characters of an agent's name.
pub const MAX_AGENT_CHARS: i32 = 200;
/// The largest number of characters of the provider's id of a call.
pub const MAX_CALL_SID_CHARS: i32 = 256;
/// The largest number of bytes of a URL.
pub const MAX_URL_BYTES: usize = 2_048;
/// The largest number of bytes of an error's detail.
pub const MAX_DETAIL_BYTES: usize = 1_024;
/// The largest number of names of unresolved placeholders, without the entry that says how many more there are.
pub const MAX_UNRESOLVED: usize = 32;
/// The largest number of bytes of all these names together.
pub const MAX_UNRESOLVED_BYTES: usize = 2_048;
/// Bytes that the entry about more names and the separators between all entries take at most.
const UNRESOLVED_OVERHEAD_BYTES: usize = 128;

/// The mark at the end of a text that was cut.
const CUT: &str = "…";

/// The URL as history stores it.
pub fn url(text: &str) -> Cow<'_, str> {
    cut(text, MAX_URL_BYTES)
}

/// The error's detail as history stores it.
pub fn detail(text: &str) -> Cow<'_, str> {
    cut(text, MAX_DETAIL_BYTES)
}

/// These names, one a line; `None` if there are none. A request already limits its names
/// ([`super::request::bounded_unresolved`]), but this function does not rely on it. A line feed inside a name becomes a
/// space.
pub fn unresolved(names: &[String]) -> Option<String> {
    let mut lines = String::new();
    for name in names.iter().map(|name| name.replace('\0', "").replace('\n', " ")).take(MAX_UNRESOLVED + 1) {
        let separator = usize::from(!lines.is_empty());
        let room = MAX_UNRESOLVED_BYTES + UNRESOLVED_OVERHEAD_BYTES - lines.len();
        if room <= separator + CUT.len() {
            break;
        }
        if separator > 0 {
            lines.push('\n');
        }
        lines.push_str(&cut(&name, room - separator));
    }
    (!lines.is_empty()).then_some(lines)
}

/// `text` without NULs. If that is longer than `max` bytes, it is cut so that it fits together with the mark of the
/// cut.
fn cut(text: &str, max: usize) -> Cow<'_, str> {
    let clean = match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "")),
        false => Cow::Borrowed(text),
    };
    if clean.len() <= max {
        return clean;
    }
    let mut end = max.saturating_sub(CUT.len());
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}{CUT}", &clean[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_within_its_bound_is_kept_to_the_letter_and_a_longer_one_up_to_a_whole_character() {
        for text in ["", "é", &"x".repeat(MAX_DETAIL_BYTES)] {
            assert!(matches!(detail(text), Cow::Borrowed(kept) if kept == text));
        }
        for unit in ["x", "é", "€", "😀"] {
            let kept = detail(&unit.repeat(MAX_DETAIL_BYTES + 1)).into_owned();
            assert!(kept.len() <= MAX_DETAIL_BYTES && kept.len() > MAX_DETAIL_BYTES - 7, "{}", kept.len());
            assert!(kept.ends_with(CUT) && kept.trim_end_matches(CUT).replace(unit, "").is_empty());
            assert_eq!(detail(&kept), kept, "a second cut changes nothing");
        }
        assert_eq!(url(&"u".repeat(100_000)).len(), MAX_URL_BYTES);
    }

    #[test]
    fn no_text_holds_a_nul() {
        assert_eq!(detail("a\0b\0"), "ab");
        assert_eq!(url(&"\0u".repeat(MAX_URL_BYTES)), "u".repeat(MAX_URL_BYTES));
        assert_eq!(unresolved(&["\0a".to_owned()]).unwrap(), "a");
    }

    #[test]
    fn names_of_placeholders_are_bounded_in_number_and_in_sum() {
        assert_eq!(unresolved(&[]), None);
        let names = |count: usize, bytes: usize| vec!["n".repeat(bytes); count];
        assert_eq!(unresolved(&names(500, 3)).unwrap().split('\n').count(), MAX_UNRESOLVED + 1);
        for (count, bytes) in [(500, 112), (1, 60_000), (32, 64), (2, 2_046), (32, 63)] {
            let kept = unresolved(&names(count, bytes)).unwrap();
            assert!(kept.len() <= MAX_UNRESOLVED_BYTES + UNRESOLVED_OVERHEAD_BYTES, "{}", kept.len());
            assert!(kept.split('\n').all(|name| !name.is_empty()), "{kept}");
        }
        assert_eq!(unresolved(&["a\nb".to_owned(), "c".to_owned()]).unwrap(), "a b\nc");
    }

    #[test]
    fn names_within_their_bounds_are_kept_whole_and_no_line_is_the_mark_of_a_cut_alone() {
        let within = vec!["n".repeat(MAX_UNRESOLVED_BYTES / MAX_UNRESOLVED); MAX_UNRESOLVED];
        assert_eq!(unresolved(&within), Some(within.join("\n")));
        let most = MAX_UNRESOLVED_BYTES + UNRESOLVED_OVERHEAD_BYTES;
        for first in most - 16..=most + 1 {
            let kept = unresolved(&["a".repeat(first), "b".repeat(64)]).unwrap();
            assert!(kept.len() <= most && kept.split('\n').all(|name| name != CUT), "{first}");
        }
    }
}
