//! The names that a header of an action may have.

use super::source::shown;
use crate::domain::problem::Code;

/// Headers of the connection or of the message's framing. Only the HTTP client may set them.
const FORBIDDEN: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
];

/// Names with this prefix are postcall's own headers, such as the signature (Standard Webhooks).
const RESERVED_PREFIX: &str = "webhook-";

/// Returns `name` in lower case if an action may set it, and otherwise the problem.
pub(super) fn check(name: &str) -> Result<String, (Code, String)> {
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        let message =
            format!("`{}` is not a header name: use letters, digits and `-` (RFC 9110, section 5.6.2)", shown(name));
        return Err((Code::HeaderNameInvalid, message));
    }
    let lower = name.to_ascii_lowercase();
    if FORBIDDEN.contains(&lower.as_str()) {
        return Err((Code::HeaderForbidden, format!("`{lower}` is set by the connection: remove it")));
    }
    if lower.starts_with(RESERVED_PREFIX) {
        let message =
            format!("names that begin with `{RESERVED_PREFIX}` are reserved for postcall's own headers: rename it");
        return Err((Code::HeaderForbidden, message));
    }
    Ok(lower)
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(name: &str) -> Option<Code> {
        check(name).err().map(|(code, _)| code)
    }

    #[test]
    fn a_name_is_a_token_and_is_lowered() {
        assert_eq!(check("X-Call_Id!").as_deref(), Ok("x-call_id!"));
        for name in ["", "a b", "a:", "é", "a\n", "{a}", "(a)", "a\u{7f}"] {
            assert_eq!(code(name), Some(Code::HeaderNameInvalid), "{name:?}");
        }
    }

    #[test]
    fn no_action_can_set_what_frames_the_message_or_signs_it() {
        for name in FORBIDDEN {
            assert_eq!(code(&name.to_uppercase()), Some(Code::HeaderForbidden), "{name}");
        }
        for name in ["webhook-id", "Webhook-Signature", "webhook-"] {
            assert_eq!(code(name), Some(Code::HeaderForbidden), "{name}");
        }
        assert_eq!(code("webhooks"), None);
        assert_eq!(code("x-host"), None);
    }
}
