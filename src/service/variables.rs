//! The variables that an author can use for an agent: the documented ones, and the paths that the agent's latest calls have. Names
//! only, never values.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::documented;
use crate::store::calls::CallFilter;
use crate::store::{Store, StoreError};

/// How many of the agent's latest calls are looked into.
pub const MOST_CALLS: usize = 20;
/// The largest call that is looked into, in bytes.
pub const MOST_CALL_BYTES: i64 = 256 * 1024;
/// How many steps a path has at most.
pub const MOST_STEPS: usize = 8;
/// How many paths are told at most, beside the documented ones.
pub const MOST_PATHS: usize = 500;
/// The longest name of a step, in bytes. A longer one is probably no name but a value that somebody used as a key.
pub const MOST_NAME_BYTES: usize = 100;

/// The variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variables {
    /// The paths that the documentation has.
    pub documented: Vec<String>,
    /// Further paths of the agent's latest calls, sorted, at most [`MOST_PATHS`].
    pub seen: Vec<String>,
    /// How many calls were looked into.
    pub calls: usize,
    /// Whether calls may not be read with these rights. Then nothing was seen.
    pub withheld: bool,
}

/// The variables that are known for `agent`.
///
/// # Errors
/// Only those of the database. That calls may not be read is no error.
pub async fn variables(store: &Store, agent: &str) -> Result<Variables, StoreError> {
    let documented = documented::paths();
    let mut known = Variables { documented, seen: Vec::new(), calls: 0, withheld: false };
    let mut paths = Paths::default();
    for call_id in latest_calls(store, agent).await? {
        match store.payload_within(call_id, MOST_CALL_BYTES).await {
            Ok(None) => {}
            Ok(Some(text)) => {
                known.calls += 1;
                paths = tokio::task::spawn_blocking(move || paths.with(&text)).await.unwrap_or_default();
            }
            Err(error) if error.is_forbidden() => {
                known.withheld = true;
                return Ok(known);
            }
            Err(error) => return Err(error),
        }
    }
    paths.0.retain(|path| !known.documented.contains(path));
    known.seen = paths.0.into_iter().take(MOST_PATHS).collect();
    Ok(known)
}

/// The agent's latest calls, by its latest deliveries. Where there are none, the newest calls are looked through, as far as
/// `postcall calls` does.
async fn latest_calls(store: &Store, agent: &str) -> Result<Vec<Uuid>, StoreError> {
    let delivered = store.latest_calls(agent, MOST_CALLS).await?;
    if !delivered.is_empty() {
        return Ok(delivered);
    }
    let filter = CallFilter { agent: Some(agent.to_owned()), ..CallFilter::default() };
    let found = store.calls(&filter, None, MOST_CALLS).await?;
    Ok(found.calls.into_iter().map(|call| call.call_id).collect())
}

#[derive(Debug, Default)]
struct Paths(BTreeSet<String>);

impl Paths {
    /// These, and those of a call. What is not JSON has none.
    fn with(mut self, text: &str) -> Paths {
        if let Ok(call) = serde_json::from_str(text) {
            self.add(&mut Vec::new(), &call);
        }
        self
    }

    /// Adds the path to each value below `value` that is not an object or array itself, and those to arrays. Of an array, only
    /// the first element counts: the others are like it.
    fn add(&mut self, steps: &mut Vec<String>, value: &Value) {
        // Room for those that turn out to be documented.
        if self.0.len() >= 2 * MOST_PATHS {
            return;
        }
        match value {
            Value::Object(fields) if steps.len() < MOST_STEPS => {
                for (name, value) in fields.iter().filter(|(name, _)| is_name(name)) {
                    steps.push(name.clone());
                    self.add(steps, value);
                    steps.pop();
                }
            }
            Value::Array(elements) if steps.len() < MOST_STEPS && !steps.is_empty() => {
                self.tell(steps);
                if let Some(first) = elements.first() {
                    steps.push("0".to_owned());
                    self.add(steps, first);
                    steps.pop();
                }
            }
            _ if steps.is_empty() => {}
            _ => self.tell(steps),
        }
    }

    fn tell(&mut self, steps: &[String]) {
        self.0.insert(documented::written(&steps.iter().map(String::as_str).collect::<Vec<_>>()));
    }
}

/// Whether a key can be written in a placeholder as it is.
fn is_name(key: &str) -> bool {
    !key.is_empty() && key.len() <= MOST_NAME_BYTES && !key.chars().any(|c| c.is_control() || "'\"\\`${}[]".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_those_of_placeholders_bounded_and_without_a_value() {
        let call = json!({
            "context": {"leadId": "SECRET", "Order ID": 1, "it's": 1, "empty": {}, "": 1, "x".repeat(101): 1},
            "transcript": [{"role": "SECRET"}, {"other": 1}],
            "none": [],
        });
        let seen: Vec<String> = Paths::default().with(&call.to_string()).0.into_iter().collect();
        let expected = ["context.leadId", "context['Order ID']", "none", "transcript", "transcript[0].role"];
        assert_eq!(seen, expected);
        let deep = (0..100).fold(json!(1), |value, _| json!({"d": value}));
        let seen = Paths::default().with(&deep.to_string()).0;
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [["d"; MOST_STEPS].join(".")]);
        let wide: serde_json::Map<String, Value> = (0..5_000).map(|number| (format!("k{number}"), json!(1))).collect();
        assert_eq!(Paths::default().with(&Value::Object(wide).to_string()).0.len(), 2 * MOST_PATHS);
    }

    #[test]
    fn each_path_that_is_told_can_be_written_in_a_placeholder() {
        let sample = Paths::default().with(documented::SAMPLE).0;
        assert!(sample.len() > 30, "{sample:?}");
        for path in sample.into_iter().chain(documented::paths()) {
            let template = format!("https://h/?x=${{{path}}}");
            let used = crate::render::used::placeholders(crate::domain::problem::Field::Url, &template);
            assert_eq!(used.into_iter().map(|used| used.path).collect::<Vec<_>>(), [path]);
        }
    }
}
