//! The demo's actions: at least one for each way in which a delivery can end.

use serde_json::json;

use super::receiver::Receiver;

/// The agent of the documentation's example.
pub(super) const EXAMPLE_AGENT: &str = "agent_7f3k2";
/// The agent whose action is disabled before its calls are sent.
pub(super) const PAUSED_AGENT: &str = "agent_paused";
/// The agent whose only action is not enabled: its calls get no delivery.
pub(super) const OFF_AGENT: &str = "agent_off";
/// The example's agent as somebody misspelt it on the platform: no action was ever published for it.
pub(super) const MISSPELT_AGENT: &str = "agent_7f3kk2";

/// The example body of the platform's documentation, as printed there: the comma after `leadId` is missing.
pub(super) const EXAMPLE_BODY: &str = r#"{
  "caller": "${callInfo.from}",
  "callee": "${callInfo.to}",
  "callType": "${callInfo.type}",
  "summary": "${analysis.results.summary}",
  "duration": ${duration},
  "price": ${price},
  "recordingUrl": "${callInfo.recording}",
  "leadId": "${context.leadId}"
  "disposition": "${outcome}"
}"#;

/// An action that the demo publishes.
pub(super) struct Published {
    pub(super) agent: &'static str,
    pub(super) name: &'static str,
    pub(super) file: String,
    /// What the deliveries of this action show.
    pub(super) shows: &'static str,
}

/// The documentation's example as an action file with this body.
pub(super) fn example(url: &str, body: &str) -> String {
    let headers = r#"{"Content-Type": "application/json", "X-Call": "${callInfo.callSid}"}"#;
    let file = json!({ "method": "POST", "url": url, "timeout": 15_000, "headers": headers, "body": body });
    format!("{file:#}")
}

/// All actions of the demo.
pub(super) fn all(receiver: &Receiver) -> Vec<Published> {
    let mended = EXAMPLE_BODY.replace("\"${context.leadId}\"", "\"${context.leadId}\",");
    let plain = |path: &str| json!({ "method": "POST", "url": receiver.url(path) }).to_string();
    let one = |agent, file, shows| Published { agent, name: "default", file, shows };
    vec![
        one(EXAMPLE_AGENT, example(&receiver.url("/crm/calls"), &mended), "delivered"),
        Published {
            name: "archive",
            ..one(EXAMPLE_AGENT, plain("/archive"), "the same calls once more, whole: delivered")
        },
        one("agent_helpdesk", plain("/tickets"), "the receiver answers 422: rejected"),
        one("agent_moved", plain("/moved"), "the receiver answers 302, which is not followed: rejected"),
        one(
            "agent_typo",
            json!({ "method": "PUT", "url": receiver.url("/tasks/${callInfo.task}") }).to_string(),
            "a placeholder in the path finds nothing: failed (render)",
        ),
        one(
            "agent_down",
            json!({ "method": "POST", "url": receiver.url_of_nobody("/hook") }).to_string(),
            "nobody listens there: failed (connect)",
        ),
        one(
            "agent_slow",
            json!({ "method": "POST", "url": receiver.url("/never"), "timeout": 1_000 }).to_string(),
            "the receiver reads and never answers: unknown (timeout)",
        ),
        one(
            OFF_AGENT,
            json!({ "method": "POST", "url": receiver.url("/crm/calls"), "enabled": false }).to_string(),
            "not enabled: its calls get no delivery",
        ),
        one(PAUSED_AGENT, plain("/crm/calls"), "disabled before its turn: skipped"),
    ]
}
