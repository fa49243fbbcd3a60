//! How a value of the call is written at each kind of place.

use serde_json::Value;

use super::output::{Full, JsonString, Sink};

/// Writes `value` as text: a string is itself, `null` is nothing, an object or array is compact JSON. `sink` encodes
/// the text for its place.
pub(super) fn write_text(value: &Value, sink: &mut impl Sink) -> Result<(), Full> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) => sink.write(text),
        other => write_json(other, sink),
    }
}

/// Writes `value` where a whole JSON value stands. A string gets quotes, unless it is itself a JSON number, `true` or
/// `false`: then it is written as that.
pub(super) fn write_bare(value: &Value, sink: &mut impl Sink) -> Result<(), Full> {
    match value {
        Value::String(text) if is_bare_literal(text) => sink.write(text),
        other => write_json(other, sink),
    }
}

fn is_bare_literal(text: &str) -> bool {
    matches!(text, "true" | "false") || is_json_number(text)
}

/// Writes `value` as compact JSON, as `serde_json` does, straight into `sink`. A call is at most 127 levels deep, which
/// bounds the recursion.
pub(super) fn write_json(value: &Value, sink: &mut impl Sink) -> Result<(), Full> {
    match value {
        Value::Null => sink.write("null"),
        Value::Bool(true) => sink.write("true"),
        Value::Bool(false) => sink.write("false"),
        Value::Number(number) => sink.write(number.as_str()),
        Value::String(text) => write_json_string(text, sink),
        Value::Array(items) => {
            sink.write("[")?;
            for (index, item) in items.iter().enumerate() {
                sink.write(if index == 0 { "" } else { "," })?;
                write_json(item, sink)?;
            }
            sink.write("]")
        }
        Value::Object(entries) => {
            sink.write("{")?;
            for (index, (key, item)) in entries.iter().enumerate() {
                sink.write(if index == 0 { "" } else { "," })?;
                write_json_string(key, sink)?;
                sink.write(":")?;
                write_json(item, sink)?;
            }
            sink.write("}")
        }
    }
}

fn write_json_string(text: &str, sink: &mut impl Sink) -> Result<(), Full> {
    sink.write("\"")?;
    JsonString(sink).write(text)?;
    sink.write("\"")
}

/// Whether `text` is exactly one number by RFC 8259, section 6.
pub(super) fn is_json_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (integer, rest) = split_digits(unsigned);
    if integer.is_empty() || (integer.len() > 1 && integer.starts_with('0')) {
        return false;
    }
    let rest = match rest.strip_prefix('.').map(split_digits) {
        Some(("", _)) => return false,
        Some((_, rest)) => rest,
        None => rest,
    };
    match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            let (digits, rest) = split_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
            !digits.is_empty() && rest.is_empty()
        }
        None => rest.is_empty(),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::output::{HeaderText, Output, Percent};
    use super::*;

    fn written(write: impl FnOnce(&mut Output) -> Result<(), Full>) -> String {
        let mut output = Output::new(1 << 20, 0);
        write(&mut output).unwrap();
        output.into_text()
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|entries| entries.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn compact_json_is_what_serde_json_writes(value in any_value()) {
            prop_assert_eq!(written(|output| write_json(&value, output)), value.to_string());
        }

        #[test]
        fn a_number_is_what_serde_json_reads_as_one(text in "[-+0-9.eE]{0,8}") {
            let read = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(is_json_number(&text), read, "{}", text);
        }
    }

    #[test]
    fn a_bare_string_is_quoted_unless_it_is_a_number_or_a_boolean() {
        for text in ["4500", "-0.5e+3", "true", "false"] {
            assert_eq!(written(|output| write_bare(&json!(text), output)), text);
        }
        for text in ["", "null", "True", "012", "1.", ".5", "+1", " 1", "1 ", "NaN", "1,2", "१"] {
            assert_eq!(written(|output| write_bare(&json!(text), output)), json!(text).to_string());
        }
    }

    #[test]
    fn an_object_inside_a_json_string_can_be_read_back() {
        let value = json!({"a\"b": ["\\", "\n", "é"]});
        let inside = written(|output| write_text(&value, &mut JsonString(output)));
        let text: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
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
        assert_eq!(write_json(&json!("abc"), &mut Output::new(4, 0)), Err(Full));
    }
}
