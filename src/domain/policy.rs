//! What an installation's dispatchers may call. Two that judge differently would share one queue, and whichever comes
//! first would decide what becomes of a call: so each writes its policy down, and they are compared.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The settings that decide what may be called, by name. A setting that has its default is left out: so a later release,
/// which knows more settings, has the same policy as this one as long as nobody uses them.
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
    /// What this policy says.
    pub here: Option<Value>,
    /// What the other one says.
    pub there: Option<Value>,
}

impl Policy {
    /// Adds a setting that does not have its default. The value must be canonical: the same meaning, the same value.
    #[must_use]
    pub fn with(mut self, setting: &str, value: Value) -> Policy {
        self.settings.insert(setting.to_owned(), value);
        self
    }

    /// Where `other` differs, setting by setting, in the order of their names.
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
