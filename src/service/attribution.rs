//! Who does something by hand, and why: what can be recorded of it.

/// Longest name of a person, in characters. The CHECK constraints have the same limit.
const MAX_PERSON_CHARS: usize = 200;
/// Longest reason, in characters. The CHECK constraints have the same limit.
const MAX_REASON_CHARS: usize = 1_000;

/// The name of a person, as it is recorded.
///
/// # Errors
/// What is wrong with it.
pub fn person(text: &str) -> Result<String, String> {
    said(text, MAX_PERSON_CHARS)
}

/// The reason that a person gives, as it is recorded.
///
/// # Errors
/// What is wrong with it.
pub fn reason(text: &str) -> Result<String, String> {
    said(text, MAX_REASON_CHARS)
}

/// Checks that a text is one line, not empty and not too long. Returns it without the space around it.
fn said(text: &str, most: usize) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("it must not be empty".to_owned()),
        count if count > most => Err(format!("it has {count} characters, at most {most} can be kept: shorten it")),
        _ if text.chars().any(char::is_control) => {
            Err("it must be one line, without line breaks and other control characters".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}
