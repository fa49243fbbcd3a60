//! The texts of several scrapes as one. Each family of metrics may appear once only in a text, with all its samples below
//! it; so the samples of one family from several dispatchers are brought together.

/// A family, as it stands in a text.
struct Family {
    name: String,
    /// The lines that begin with `#`.
    head: String,
    samples: String,
}

/// Brings the samples of each family together. The families stand in the order in which they first appear.
pub(super) fn merge(texts: impl IntoIterator<Item = String>) -> String {
    let mut families: Vec<Family> = Vec::new();
    for text in texts {
        let mut at = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# HELP ").and_then(|rest| rest.split(' ').next()) {
                at = families.iter().position(|family| family.name == name);
                if at.is_none() {
                    at = Some(families.len());
                    families.push(Family { name: name.to_owned(), head: String::new(), samples: String::new() });
                }
            }
            let Some(family) = at.and_then(|at| families.get_mut(at)) else { continue };
            if !line.starts_with('#') {
                family.samples.extend([line, "\n"]);
            } else if family.samples.is_empty() {
                family.head.extend([line, "\n"]);
            }
        }
    }
    families.into_iter().map(|family| family.head + &family.samples).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_appears_once_with_the_samples_of_all() {
        let one = "# HELP a x.\n# TYPE a gauge\na{d=\"1\"} 1\n# HELP b y.\n# TYPE b counter\nb{d=\"1\"} 2\n";
        let two = "# HELP b y.\n# TYPE b counter\nb{d=\"2\"} 4\n# HELP c z.\n# TYPE c gauge\nc{d=\"2\"} 5\n";
        let both = "# HELP a x.\n# TYPE a gauge\na{d=\"1\"} 1\n\
                    # HELP b y.\n# TYPE b counter\nb{d=\"1\"} 2\nb{d=\"2\"} 4\n\
                    # HELP c z.\n# TYPE c gauge\nc{d=\"2\"} 5\n";
        assert_eq!(merge([one, two].map(str::to_owned)), both);
        assert_eq!(merge([one.to_owned()]), one);
    }
}
