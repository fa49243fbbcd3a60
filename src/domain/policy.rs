//! The policy: where an installation's dispatchers may send. Dispatchers share one queue, so if two had different
//! policies, chance would decide what happens to a call. Therefore each dispatcher records its policy, and the policies
//! are compared.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The settings that decide where requests may go, by name. A setting with its default value is left out. So a later
/// release, which knows more settings, has the same policy as this one as long as nobody uses them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policy {
    settings: Map<String, Value>,
}

/// One setting in which two policies differ. `None` is the setting's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The setting's name.
    pub setting: String,
    /// The value in this policy.
    pub here: Option<Value>,
    /// The value in the other policy.
    pub there: Option<Value>,
}

impl Policy {
    /// Adds a setting that does not have its default value. The value must be canonical: the same meaning must always
    /// give the same value.
    #[must_use]
    pub fn with(mut self, setting: &str, value: Value) -> Policy {
        self.settings.insert(setting.to_owned(), value);
        self
    }

    /// The settings in which `other` differs, ordered by name.
    pub fn differences(&self, other: &Policy) -> Vec<Difference> {
        let names: BTreeSet<&String> = self.settings.keys().chain(other.settings.keys()).collect();
        names
            .into_iter()
            .map(|name| Difference {
                setting: name.clone(),
                here: self.settings.get(name).cloned(),
                there: other.settings.get(name).cloned(),
            })
            .filter(|difference| difference.here != difference.there)
            .collect()
    }
}

impl fmt::Display for Policy {
    /// The settings that do not have their defaults, in the order of their names.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.settings.is_empty() {
            return formatter.write_str("the defaults");
        }
        for (index, (name, value)) in self.settings.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{name} {value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| value.as_ref().map_or("not set".to_owned(), Value::to_string);
        write!(formatter, "{} is {} here and {} there", self.setting, shown(&self.here), shown(&self.there))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_differ_in_what_either_says_and_the_other_does_not_say_in_the_same_words() {
        let one = Policy::default().with("allow_http", json!(true)).with("allow_targets", json!(["10.0.0.0/8"]));
        assert_eq!(one.differences(&one.clone()), []);
        assert_eq!(one.to_string(), "allow_http true, allow_targets [\"10.0.0.0/8\"]");
        assert_eq!(Policy::default().to_string(), "the defaults");
        let other = Policy::default().with("allow_targets", json!([])).with("ports", json!([443]));
        let told: Vec<String> = one.differences(&other).iter().map(Difference::to_string).collect();
        assert_eq!(
            told,
            [
                "allow_http is true here and not set there",
                "allow_targets is [\"10.0.0.0/8\"] here and [] there",
                "ports is not set here and [443] there",
            ]
        );
    }
}
