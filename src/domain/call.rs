//! A completed call: one JSON object, as the platform wrote it.

use serde_json::Value;

use super::problem::{Code, Field, Problem};

/// A completed call, parsed without losing a digit: numbers keep the text they were written with (up to an exponent's
/// spelling) and keys keep their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Call(Value);

impl Call {
    /// Reads a call from the platform's JSON text.
    ///
    /// JavaScript platforms cut strings between the halves of an emoji and then write `\ud83d` alone, which is JSON by
    /// grammar but no Unicode text. Postgres accepts that, so it reaches us: each such half becomes U+FFFD, as it does
    /// in every UTF-8 encoder, rather than costing the delivery.
    ///
    /// # Errors
    /// [`Code::BadCall`] for text that is not JSON, is no object, or is nested deeper than 127 levels.
    pub fn parse(text: &str) -> Result<Call, Problem> {
        let parsed = serde_json::from_str::<Value>(text)
            .or_else(|error| replace_lone_surrogates(text).map_or(Err(error), |mended| serde_json::from_str(&mended)));
        match parsed {
            Ok(value @ Value::Object(_)) => Ok(Call(value)),
            Ok(_) => Err(Problem::new(Code::BadCall, Field::Call, "the call is not a JSON object")),
            // serde_json's own message may quote the text, which is personal data: only the place is passed on.
            Err(error) => {
                let mut problem =
                    Problem::new(Code::BadCall, Field::Call, "the call is not readable as JSON of at most 127 levels");
                problem.place = Some(super::problem::Place { line: error.line(), column: error.column() });
                Err(problem)
            }
        }
    }

    /// The whole object.
    pub fn as_value(&self) -> &Value {
        &self.0
    }
}

/// `text` with every `\uD800`–`\uDFFF` escape that has no partner replaced by `\uFFFD`, or `None` if there is none.
fn replace_lone_surrogates(text: &str) -> Option<String> {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    while let Some(at) = rest.find('\\') {
        mended.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match (surrogate_at(rest), rest.get(6..).and_then(surrogate_at)) {
            (Some(Half::High), Some(Half::Low)) => 12,
            (Some(_), _) => {
                mended.push_str("\\uFFFD");
                rest = &rest[6..];
                changed = true;
                continue;
            }
            // Any other escape: the backslash and the character after it go together, so that `\\ud83d` stays text.
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    mended.push_str(rest);
    changed.then_some(mended)
}

enum Half {
    High,
    Low,
}

/// Which half of a surrogate pair the escape at the start of `text` is.
fn surrogate_at(text: &str) -> Option<Half> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xD800..=0xDBFF => Some(Half::High),
        0xDC00..=0xDFFF => Some(Half::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_emoji_becomes_the_replacement_character_and_whole_ones_stay() {
        let call = Call::parse(r#"{"a":"x\ud83d","b":"\ud83d\ude00","c":"\\ud83d","d":"\ude00\ud83d\ude00"}"#).unwrap();
        let expected = serde_json::json!({"a": "x\u{FFFD}", "b": "😀", "c": "\\ud83d", "d": "\u{FFFD}😀"});
        assert_eq!(call.as_value(), &expected);
    }

    #[test]
    fn what_is_no_object_is_no_call() {
        for text in ["[]", "1", "{", "", "null", "{\"a\":\"\\u12\"}"] {
            assert_eq!(Call::parse(text).unwrap_err().code, Code::BadCall, "{text}");
        }
    }
}
