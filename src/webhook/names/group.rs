//! Groups names by domain, so that the many names of one domain share what one domain may use.

/// The greatest length of a second label that is taken for a registry's, as in `co.uk` and `com.br`.
const LONGEST_REGISTRY_LABEL: usize = 3;
/// The length of a country's top-level label.
const COUNTRY_LABEL: usize = 2;

/// The part of `host` that its owner has most likely registered: the last two labels, or three if the last two look
/// like a registry's (`co.uk`). This is a guess; there is no list of all registries. If it is wrong, different owners
/// share a group, and wait for each other a little.
pub(super) fn group(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut labels = host.rsplit('.');
    let (last, second) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    let registry = last.len() == COUNTRY_LABEL && second.len() <= LONGEST_REGISTRY_LABEL;
    let kept = if registry { 3 } else { 2 };
    let start = host.rmatch_indices('.').nth(kept - 1).map_or(0, |(dot, _)| dot + 1);
    &host[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_domain_share_a_group_and_others_do_not() {
        let cases = [
            ("a.b.example.com", "example.com"),
            ("example.com", "example.com"),
            ("example.com.", "example.com"),
            ("hooks.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("hooks.example.de", "example.de"),
            ("a.b.t.co", "b.t.co"),
            ("service", "service"),
            ("", ""),
            ("..", "."),
        ];
        for (host, expected) in cases {
            assert_eq!(group(host), expected, "{host}");
        }
    }
}
