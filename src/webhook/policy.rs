//! The rules of what may be called, as the [`Policy`] that dispatchers compare.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde_json::json;

use super::TargetRules;
use crate::domain::policy::Policy;

impl TargetRules {
    /// These rules as a policy. Ranges of addresses that contain each other or lie side by side are joined, and whatever is
    /// a list is sorted, so that the same permission has the same text.
    pub fn policy(&self) -> Policy {
        // Each rule is named, so that a new one is compared, too.
        let TargetRules { allow_http, allow_targets, deny_targets, allow_ports, only_ports } = self;
        let policy = if *allow_http { Policy::default().with("allow_http", json!(true)) } else { Policy::default() };
        let mut ranges = IpNet::aggregate(allow_targets);
        ranges.sort();
        let policy = listed(policy, "allow_targets", ranges);
        let policy = listed(policy, "deny_targets", deny_targets.iter().collect::<BTreeSet<_>>());
        let policy = listed(policy, "allow_ports", allow_ports.iter().collect::<BTreeSet<_>>());
        listed(policy, "only_ports", only_ports.iter().collect::<BTreeSet<_>>())
    }
}

/// The policy with a rule that is a list. An empty one is the default, and left out.
fn listed<T: ToString>(policy: Policy, name: &str, items: impl IntoIterator<Item = T>) -> Policy {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { policy } else { policy.with(name, json!(items)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow_http: bool, ranges: &[&str]) -> TargetRules {
        let allow_targets = ranges.iter().map(|range| range.parse().unwrap()).collect();
        TargetRules { allow_http, allow_targets, ..TargetRules::default() }
    }

    #[test]
    fn the_same_permission_is_the_same_policy_however_it_is_written() {
        let written = rules(true, &["fd00::/8", "10.0.0.0/8", "127.0.0.0/8"]).policy();
        for same in [
            &["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"][..],
            &["127.0.0.0/8", "127.1.2.3/32", "10.0.0.0/9", "10.128.0.0/9", "fd00::1/8"],
        ] {
            assert_eq!(rules(true, same).policy(), written, "{same:?}");
        }
        assert_ne!(rules(false, &["fd00::/8", "10.0.0.0/8", "127.0.0.0/8"]).policy(), written);
        assert_ne!(rules(true, &["fd00::/8", "10.0.0.0/8"]).policy(), written);
        assert_eq!(rules(false, &[]).policy(), Policy::default());
    }

    #[test]
    fn each_rule_is_compared_and_the_order_of_a_list_is_not() {
        let denying = |targets: [&str; 2]| TargetRules {
            deny_targets: targets.map(|target| target.parse().unwrap()).to_vec(),
            ..TargetRules::default()
        };
        assert_eq!(denying(["b.test", "203.0.113.7"]).policy(), denying(["203.0.113.7/32", "B.test."]).policy());
        let ports = vec!["8443".parse().unwrap()];
        let rules = [
            TargetRules::default(),
            denying(["b.test", "a.test"]),
            TargetRules { allow_ports: ports.clone(), ..TargetRules::default() },
            TargetRules { only_ports: ports, ..TargetRules::default() },
        ];
        for (one, rule) in rules.iter().enumerate() {
            for (other, another) in rules.iter().enumerate() {
                assert_eq!(rule.policy() == another.policy(), one == other, "{one} {other}");
            }
        }
    }
}
