//! The provider's id of a call, which history is searched by.

use super::hole;
use super::paths::Paths;
use super::source::Source;
use crate::domain::call::Call;
use crate::domain::problem::Field;

/// Most characters of a `callSid` that are kept.
const MAX_CALL_SID_CHARS: usize = 256;

/// The text of `callInfo.callSid`, if that is a string or a number: without NUL, which Postgres cannot keep, and its
/// first 256 characters only.
pub fn call_sid(call: Call<'_>) -> Option<String> {
    let source = Source { field: Field::Call, text: "${callInfo.callSid}" };
    let mut paths = Paths::default();
    let slot = paths.add(hole::read(source, 0, false).ok()?.path);
    let value = paths.find(call.text()).ok()?.value(slot);
    let kept = |chars: &mut dyn Iterator<Item = char>| chars.filter(|c| *c != '\0').take(MAX_CALL_SID_CHARS).collect();
    match value.as_string() {
        Some(text) => Some(kept(&mut text.chars())),
        None => value.as_number().map(|number| kept(&mut number.chars())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sid(call: &str) -> Option<String> {
        call_sid(Call::new(call).unwrap())
    }

    #[test]
    fn a_call_sid_is_a_string_or_a_number_and_its_text_is_bounded() {
        assert_eq!(sid(r#"{"callInfo":{"callSid":"CA\u0000\u0031"}}"#).as_deref(), Some("CA1"));
        assert_eq!(
            sid(r#"{"callInfo":{"callSid":12345678901234567890123}}"#).as_deref(),
            Some("12345678901234567890123")
        );
        assert_eq!(sid(r#"{"callInfo":{"callSid":1},"callInfo":{"callSid":"2"}}"#).as_deref(), Some("2"));
        let long = sid(&format!("{{\"callInfo\":{{\"callSid\":\"\\u0000{}\"}}}}", "é".repeat(1000)));
        assert_eq!(long, Some("é".repeat(256)));
        for none in
            ["{}", "[]", r#"{"callInfo":{"callSid":null}}"#, r#"{"callInfo":{"callSid":true}}"#, r#"{"callInfo":[1]}"#]
        {
            assert_eq!(sid(none), None, "{none}");
        }
    }
}
