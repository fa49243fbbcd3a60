//! A completed call: one JSON object, as the platform wrote it.

use std::fmt;

use super::problem::{Code, Field, Problem};

/// Longest call that is read, in bytes, unless an operator permits longer ones.
pub const MAX_CALL_BYTES: usize = 8 * 1024 * 1024;

/// The text of a completed call. Rendering reads it in a single pass, without a copy; only then is it known whether it
/// is JSON.
#[derive(Clone, Copy)]
pub struct Call<'c>(&'c str);

/// How long it is. What it holds is personal.
impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({} bytes)", self.0.len())
    }
}

impl<'c> Call<'c> {
    /// Makes a call from its text.
    ///
    /// # Errors
    /// [`Code::TooLarge`] for a call of more than [`MAX_CALL_BYTES`].
    pub fn new(text: &'c str) -> Result<Call<'c>, Problem> {
        if text.len() <= MAX_CALL_BYTES {
            return Ok(Call(text));
        }
        let message = format!("the call is larger than {} MiB", MAX_CALL_BYTES >> 20);
        Err(Problem::new(Code::TooLarge, Field::Call, message))
    }

    /// Makes a call from a text whose length was already checked against another limit.
    pub fn of_any_length(text: &'c str) -> Call<'c> {
        Call(text)
    }

    /// The text as the platform wrote it.
    pub fn text(self) -> &'c str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_past_its_limit_is_refused_and_one_at_it_is_not() {
        let text = " ".repeat(MAX_CALL_BYTES + 1);
        let problem = Call::new(&text).unwrap_err();
        assert_eq!((problem.code, problem.field), (Code::TooLarge, Field::Call));
        assert!(Call::new(&text[1..]).is_ok());
    }

    #[test]
    fn the_debug_form_of_a_call_tells_its_length_only() {
        assert_eq!(format!("{:?}", Call::new("{\"phone\": \"+1555\"}").unwrap()), "Call(18 bytes)");
    }

    #[test]
    fn a_call_is_to_the_letter_what_the_platform_wrote() {
        let text = " {\"a\": \"é\"}\n";
        assert_eq!([Call::new(text).unwrap().text(), Call::of_any_length(text).text()], [text; 2]);
    }
}
