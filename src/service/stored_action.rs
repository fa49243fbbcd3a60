//! A published action as JSON, for programs.

use serde_json::{Value, json};

use crate::domain::action::ActionSpec;
use crate::store::actions::ActionRecord;

/// An action as JSON: the fields of its file, and what else the database knows about it. Of a version whose templates cannot be seen there
/// is the origin instead, and why.
pub fn described(action: &ActionRecord) -> Value {
    let mut object = match &action.spec {
        Ok(spec) => as_file(spec, action.enabled),
        Err(unopened) => json!({
            "method": unopened.method,
            "url": null,
            "origin": unopened.origin,
            "sealed": unopened.why(),
            "timeout": unopened.timeout_ms,
            "client_certificate": unopened.client_certificate,
            "enabled": action.enabled,
        }),
    };
    object["agent"] = json!(action.agent);
    object["name"] = json!(action.name);
    object["version"] = json!(action.version);
    object["published_at"] = json!(action.changes.published_at);
    object["published_by"] = json!(action.changes.published_by);
    object["published_db_user"] = json!(action.changes.published_db_user);
    object["published_reason"] = json!(action.changes.published_reason);
    object["switched_at"] = json!(action.changes.switched_at);
    object["switched_by"] = json!(action.changes.switched_by);
    object["switched_db_user"] = json!(action.changes.switched_db_user);
    object["switched_reason"] = json!(action.changes.switched_reason);
    object
}

/// An action in the form of an action file, which can be published again.
pub fn as_file(spec: &ActionSpec, enabled: bool) -> Value {
    let mut file = json!({ "method": spec.method, "url": spec.url, "timeout": spec.timeout_ms });
    for (field, text) in
        [("headers", &spec.headers), ("body", &spec.body), ("client_certificate", &spec.client_certificate)]
    {
        if let Some(text) = text {
            file[field] = json!(text);
        }
    }
    file["enabled"] = json!(enabled);
    file
}
