//! Suggests the name that was probably meant by one that does not exist.

/// From this likeness (0 to 1) on, two names count as alike.
const ALIKE: f64 = 0.8;
/// Only this many characters of a longer name are compared.
const MAX_CHARS: usize = 200;

/// The candidate that is most like `name`, if one is similar enough. Letter case is ignored.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let comparable = |text: &str| text.chars().take(MAX_CHARS).collect::<String>().to_lowercase();
    let name = comparable(name);
    let likeness = candidates.into_iter().map(|other| (other, strsim::jaro_winkler(&name, &comparable(other))));
    likeness.filter(|(_, likeness)| *likeness >= ALIKE).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(other, _)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_near_and_another_name_is_not() {
        let agents = ["agent_7f3k2", "agent_9x1", "reception"];
        assert_eq!(nearest("agent_7f3k", agents), Some("agent_7f3k2"));
        assert_eq!(nearest("Recepton", agents), Some("reception"));
        assert_eq!(nearest("zzz", agents), None);
        assert_eq!(nearest("a", []), None);
    }
}
