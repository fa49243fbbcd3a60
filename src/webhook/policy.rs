//! The client's settings as the [`Policy`] that dispatchers compare.

use ipnet::IpNet;
use serde_json::json;

use super::WebhookSettings;
use crate::domain::policy::Policy;

impl WebhookSettings {
    /// These settings as a policy. Ranges that contain each other or lie side by side are joined, and all ranges are
    /// sorted, so that the same permission always has the same text.
    pub fn policy(&self) -> Policy {
        // Each setting is named, so that a new one is compared too, or left out on purpose: what does not decide which
        // targets may be called is no policy.
        let WebhookSettings { allow_http, allow_targets, hold_unreachable: _, names: _ } = self;
        let mut policy = Policy::default();
        if *allow_http {
            policy = policy.with("allow_http", json!(true));
        }
        let mut ranges = IpNet::aggregate(allow_targets);
        ranges.sort();
        if !ranges.is_empty() {
            let ranges: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
            policy = policy.with("allow_targets", json!(ranges));
        }
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(allow_http: bool, ranges: &[&str]) -> WebhookSettings {
        WebhookSettings {
            allow_http,
            allow_targets: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            ..WebhookSettings::default()
        }
    }

    #[test]
    fn the_same_permission_is_the_same_policy_however_it_is_written() {
        let written = settings(true, &["fd00::/8", "10.0.0.0/8", "127.0.0.0/8"]).policy();
        for same in [
            &["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"][..],
            &["127.0.0.0/8", "127.1.2.3/32", "10.0.0.0/9", "10.128.0.0/9", "fd00::1/8"],
        ] {
            assert_eq!(settings(true, same).policy(), written, "{same:?}");
        }
        assert_ne!(settings(false, &["fd00::/8", "10.0.0.0/8", "127.0.0.0/8"]).policy(), written);
        assert_ne!(settings(true, &["fd00::/8", "10.0.0.0/8"]).policy(), written);
        assert_eq!(settings(false, &[]).policy(), Policy::default());
    }
}
