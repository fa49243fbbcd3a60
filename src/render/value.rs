//! Writes a value of the call, in the way that its place needs.

use std::fmt;

use super::json::compact;
use super::json::number::is_number;
use super::json::string::Raw;
use super::output::{Full, Output, Sink};

/// The text of a value in a call, without white space around it. Its grammar was checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'c>(&'c str);

/// Without the value, which is one of a call.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

impl<'c> Value<'c> {
    /// The value that a missing one counts as.
    pub const NULL: Value<'static> = Value("null");

    /// Makes a value from its text.
    pub fn new(text: &'c str) -> Value<'c> {
        Value(text)
    }

    /// Its length in the call, in bytes.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether it is `null`; a missing value counts as `null`.
    pub fn is_null(self) -> bool {
        self.0.starts_with('n')
    }

    /// Whether it is an object or an array, and so not a scalar.
    pub fn is_object_or_array(self) -> bool {
        self.0.starts_with(['{', '['])
    }

    /// The text between the quotes, if it is a string.
    pub fn as_string(self) -> Option<Raw<'c>> {
        let text = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(Raw { text, escaped: text.contains('\\') })
    }
}

/// Writes `value` as text: a string without its quotes, `null` as nothing, an object or array as compact JSON. `sink`
/// encodes the text for its place.
pub(super) fn write_text(value: Value<'_>, sink: &mut impl Sink) -> Result<(), Full> {
    match value.as_string() {
        Some(text) => text.write(sink),
        None if value.is_null() => Ok(()),
        None => compact::copy(value.0, sink),
    }
}

/// Writes `value` as a whole JSON value. A string keeps its quotes, unless its text is a JSON number, `true` or
/// `false`: then it is written without quotes.
pub(super) fn write_bare(value: Value<'_>, sink: &mut impl Sink) -> Result<(), Full> {
    match value.as_string() {
        Some(text) if is_bare_literal(text) => text.write(sink),
        _ => compact::copy(value.0, sink),
    }
}

fn is_bare_literal(text: Raw<'_>) -> bool {
    let is_literal = |text: &str| matches!(text, "true" | "false") || is_number(text);
    if !text.escaped {
        return is_literal(text.text);
    }
    // Digits are hardly ever written as escapes. Most other strings are excluded by one character, usually the first.
    if text.chars().any(|c| !c.is_ascii_digit() && !"+-.eEtrufals".contains(c)) {
        return false;
    }
    let mut unescaped = Output::new(text.text.len(), 0);
    text.write(&mut unescaped).is_ok() && is_literal(unescaped.since(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::output::{HeaderText, JsonString, Percent};
    use super::*;

    fn written(write: impl FnOnce(&mut Output) -> Result<(), Full>) -> String {
        let mut output = Output::new(1 << 20, 0);
        write(&mut output).unwrap();
        output.into_text()
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|entries| entries.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn compact_json_is_what_serde_json_writes(value in any_value()) {
            let spaced = serde_json::to_string_pretty(&value).unwrap();
            let text = value.as_str().map_or(value.to_string(), str::to_owned);
            let expected = if value.is_null() { String::new() } else { text };
            prop_assert_eq!(written(|output| write_text(Value::new(&spaced), output)), expected);
        }
    }

    #[test]
    fn a_bare_string_is_quoted_unless_it_is_a_number_or_a_boolean() {
        let bare = |json: &str| written(|output| write_bare(Value::new(json), output));
        for text in ["4500", "-0.5e+3", "1E5", "true", "false"] {
            assert_eq!(bare(&json!(text).to_string()), text);
        }
        for text in ["", "null", "True", "012", "1.", ".5", "+1", " 1", "1 ", "NaN", "1,2", "१", "\n1"] {
            assert_eq!(bare(&json!(text).to_string()), json!(text).to_string());
        }
        assert_eq!(bare(r#""\u0031\u002e5""#), "1.5");
        assert_eq!(bare(r#""\u0074rue""#), "true");
        assert_eq!(bare(r#""\u0074ru""#), "\"tru\"");
    }

    #[test]
    fn an_object_inside_a_json_string_can_be_read_back() {
        let value = json!({"a\"b": ["\\", "\n", "é"]});
        let inside = written(|output| write_text(Value::new(&value.to_string()), &mut JsonString(output)));
        let text: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn percent_encoding_leaves_only_unreserved_characters() {
        let text: String = (' '..='\u{7f}').collect();
        let encoded = written(|output| Percent(output).write(&text));
        let bare = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
        assert_eq!(bare, text);
        assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{encoded}");
    }

    #[test]
    fn each_control_character_in_a_header_becomes_one_space() {
        let cleaned = written(|output| HeaderText(output).write("\r\na\tb\u{0}\u{7f}c\u{85}"));
        assert_eq!(cleaned, "  a b  c ");
    }

    #[test]
    fn an_output_never_outgrows_its_limit() {
        let mut output = Output::new(4, 100);
        assert_eq!(output.write("abcd"), Ok(()));
        assert_eq!(output.write("e"), Err(Full));
        assert_eq!(output.into_text(), "abcd");
        assert_eq!(write_bare(Value::new("\"abc\""), &mut Output::new(4, 0)), Err(Full));
    }
}
