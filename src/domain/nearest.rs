//! Suggests the name that was probably meant by one that does not exist.

/// From this likeness (0 to 1) on, two words count as alike.
const ALIKE: f64 = 0.8;
/// Only this many characters of a longer word are compared.
const MAX_CHARS: usize = 200;

/// The candidate that is most like `name`, if one is similar enough: for words of ours, such as those of a documented call. Letter case
/// is ignored.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = comparable(name);
    let likeness = candidates.into_iter().map(|other| (other, strsim::jaro_winkler(&name, &comparable(other))));
    likeness.filter(|(_, likeness)| *likeness >= ALIKE).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(other, _)| other)
}

/// The candidate of which `name` is probably a slip of the fingers: for names that people choose, such as those of agents. Many of them
/// begin alike, or differ in a number, and are not the same for that. So what they have in common up to a separator says nothing, and
/// neither does another number.
pub fn nearest_name<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = comparable(name);
    let slips = candidates.into_iter().filter_map(|other| Some((other, slips(&name, &comparable(other))?)));
    slips.min_by_key(|(_, slips)| *slips).map(|(other, _)| other)
}

fn comparable(text: &str) -> String {
    text.chars().take(MAX_CHARS).collect::<String>().to_lowercase()
}

/// How many slips make one name of the other; `None` if these are too many to be slips.
fn slips(one: &str, other: &str) -> Option<usize> {
    let (one, other) = where_they_differ(one, other);
    if once_each(&one) == once_each(&other) {
        return Some(0);
    }
    let is_number = |text: &[char]| text.iter().all(char::is_ascii_digit);
    let shape = |text: &[char]| text.iter().map(|c| if c.is_ascii_digit() { '0' } else { *c }).collect::<Vec<_>>();
    if (is_number(&one) && is_number(&other)) || shape(&one) == shape(&other) {
        return None;
    }
    let most = match one.len().max(other.len()) {
        0..=2 => return None,
        3..=7 => 1,
        _ => 2,
    };
    if one.len().abs_diff(other.len()) > most {
        return None;
    }
    let slips = strsim::osa_distance(&String::from_iter(one), &String::from_iter(other));
    (slips <= most).then_some(slips)
}

/// Both without what they begin and end with alike, up to a separator.
fn where_they_differ(one: &str, other: &str) -> (Vec<char>, Vec<char>) {
    let (mut one, mut other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    for _ in 0..2 {
        let same = one.iter().zip(&other).take_while(|(a, b)| a == b).map(|(c, _)| *c);
        let ends = same.enumerate().filter(|(_, c)| !c.is_alphanumeric()).map(|(at, _)| at + 1);
        let common = ends.last().unwrap_or(0);
        one.drain(..common);
        other.drain(..common);
        // Then the ends, and then as they were again.
        one.reverse();
        other.reverse();
    }
    (one, other)
}

/// The text with each character that is not a digit once where it stands twice in a row.
fn once_each(text: &[char]) -> Vec<char> {
    let mut text = text.to_vec();
    text.dedup_by(|a, b| a == b && !a.is_ascii_digit());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_near_and_another_name_is_not() {
        let agents = ["agent_7f3k2", "agent_9x1", "reception"];
        for (name, meant) in [("agent_7f3k", Some("agent_7f3k2")), ("Recepton", Some("reception")), ("zzz", None)] {
            assert_eq!((nearest(name, agents), nearest_name(name, agents)), (meant, meant), "{name}");
        }
        assert_eq!((nearest("a", []), nearest_name("a", [])), (None, None));
    }

    #[test]
    fn what_names_have_in_common_and_their_numbers_make_nobody_the_one_who_was_meant() {
        let agents =
            ["agent_good", "agent_off", "agent_notfound", "agent_17", "agent_100", "de_sales", "cr", "agent_7f3k2"];
        for (name, meant) in [
            ("agent_goood", Some("agent_good")),
            ("agent_god", Some("agent_good")),
            ("agnet_good", Some("agent_good")),
            ("AGENT_GOOD", Some("agent_good")),
            ("agent-good", Some("agent_good")),
            ("agent_of", Some("agent_off")),
            ("agnet_17", Some("agent_17")),
            ("crr", Some("cr")),
            ("agent_none", None),
            ("agent_9", None),
            ("agent_on", None),
            ("agent_1", None),
            ("agent_18", None),
            ("agent_1000", None),
            ("agent_7f3k3", None),
            ("en_sales", None),
            ("dr", None),
        ] {
            assert_eq!(nearest_name(name, agents), meant, "{name}");
        }
    }
}
