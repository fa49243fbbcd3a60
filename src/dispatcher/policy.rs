//! All live dispatchers must have the same policy. If policies differed, whether a target may be called would depend on
//! which dispatcher happens to claim the call. So a dispatcher with another policy does not start beside live ones.

use std::fmt;
use std::time::Duration;

use tracing::warn;

use crate::domain::policy::Policy;
use crate::store::dispatchers::Neighbour;

/// Why a dispatcher does not start: other live dispatchers have another policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyConflict {
    policy: Policy,
    others: Vec<Neighbour>,
}

impl PolicyConflict {
    /// The conflict between a dispatcher with `policy` and the others.
    pub(super) fn new(policy: &Policy, others: Vec<Neighbour>) -> PolicyConflict {
        PolicyConflict { policy: policy.clone(), others }
    }

    /// The longest time until none of the others counts as alive, if all of them are in fact dead.
    fn lease_left(&self) -> Duration {
        self.others.iter().map(|other| other.lease_left).max().unwrap_or_default()
    }
}

impl fmt::Display for PolicyConflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("what may be called differs between this dispatcher and those that run:")?;
        for other in &self.others {
            let theirs = other.policy.clone().unwrap_or_default();
            let told: Vec<String> = self.policy.differences(&theirs).iter().map(ToString::to_string).collect();
            write!(formatter, "\n  dispatcher {} ({}): {}", other.dispatcher_id, other.name, told.join("; "))?;
        }
        let seconds = self.lease_left().as_secs_f64().ceil();
        write!(
            formatter,
            "\n(One of them that is dead counts until its lease is over, {seconds} s from now at the latest.)"
        )
    }
}

/// Writes to the log which other live dispatchers have another policy, or a policy that is not known.
pub(super) fn warn_of(others: &[Neighbour]) {
    for other in others {
        let (dispatcher_id, name) = (other.dispatcher_id, &other.name);
        match &other.policy {
            Some(_) => warn!(
                dispatcher.id = dispatcher_id,
                dispatcher.name = name,
                "runs beside this one by another policy; stop it soon"
            ),
            None => warn!(
                dispatcher.id = dispatcher_id,
                dispatcher.name = name,
                dispatcher.version = other.version,
                "an earlier release runs beside this one; whether it may call the same targets is not known"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conflict_names_each_other_dispatcher_and_each_difference() {
        let neighbour = |dispatcher_id, policy, seconds: u64| Neighbour {
            dispatcher_id,
            name: format!("host:{dispatcher_id}"),
            version: "1".to_owned(),
            policy: Some(policy),
            lease_left: Duration::from_millis(seconds * 1_000 - 500),
        };
        let http = Policy::default().with("allow_http", json!(true));
        let targets = Policy::default().with("allow_targets", json!(["10.0.0.0/8"]));
        let conflict = PolicyConflict::new(&Policy::default(), vec![neighbour(3, http, 7), neighbour(5, targets, 9)]);
        assert_eq!(
            conflict.to_string(),
            "what may be called differs between this dispatcher and those that run:\n  \
             dispatcher 3 (host:3): allow_http is not set here and true there\n  \
             dispatcher 5 (host:5): allow_targets is not set here and [\"10.0.0.0/8\"] there\n\
             (One of them that is dead counts until its lease is over, 9 s from now at the latest.)"
        );
    }
}
