//! How large a body can become, said before it is rendered, so that the bytes can be set aside.

use crate::domain::action::{ActionSpec, Method};
use crate::render::limits::MAX_BODY_BYTES;

/// An escape inside a JSON string makes a character of the call's text at most so many times as long: `\"` becomes
/// `\\\"` where an object is written into a string.
const GROWTH_BY_ESCAPES: usize = 2;

/// What decides how large the bodies of an action become.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BodySize {
    /// Bytes of the template.
    literal: usize,
    /// Values of the call that it can take in, each as long as the call's text at most.
    values: usize,
}

impl BodySize {
    pub(super) fn of(spec: &ActionSpec) -> BodySize {
        match (&spec.method, spec.body.as_deref().map(str::trim).unwrap_or_default()) {
            (Method::Get, _) => BodySize::default(),
            // The whole call. Its numbers may be written in another way, which the factor covers as well.
            (Method::Post | Method::Put, "") => BodySize { literal: 0, values: 1 },
            (Method::Post | Method::Put, body) => BodySize { literal: body.len(), values: body.matches("${").count() },
        }
    }

    /// Bytes that the body of a call of `call_bytes` has at most.
    pub(super) fn bound(self, call_bytes: usize) -> usize {
        let values = self.values.saturating_mul(call_bytes).saturating_mul(GROWTH_BY_ESCAPES);
        self.literal.saturating_add(values).min(MAX_BODY_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::call::Call;
    use crate::render::CompiledAction;

    #[test]
    fn no_body_is_larger_than_its_bound() {
        let calls = [
            r#"{"a": "\"\\\u0001é", "b": {"c": ["\"\"\"\"", "\\\\\\\\"]}}"#.to_owned(),
            format!(r#"{{"a": {{"b": "{}"}}}}"#, "\\\"".repeat(1_000)),
        ];
        let bodies = [None, Some(r#"{"x": "${a}", "y": "${a} ${b}", "z": ${b}}"#.to_owned())];
        for method in [Method::Get, Method::Post] {
            for (call, body) in calls.iter().flat_map(|call| bodies.iter().map(move |body| (call, body))) {
                let url = "https://h/".to_owned();
                let spec = ActionSpec { method, url, timeout_ms: 100, headers: None, body: body.clone() };
                let action = CompiledAction::compile(&spec).unwrap();
                let rendered = action.render(&Call::parse(call).unwrap()).unwrap().body.map_or(0, |body| body.len());
                let bound = BodySize::of(&spec).bound(call.len());
                assert!(rendered <= bound, "{rendered} > {bound}");
            }
        }
    }
}
