//! Size limits. Whatever exceeds a limit gives a [`Code::TooLarge`]; nothing is cut silently.

use super::placeholder::Placeholder;
use super::source::Source;
use crate::domain::problem::{Code, Field, Problem};

/// Longest template of one field, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
/// The largest number of placeholders in the template of one field.
pub const MAX_PLACEHOLDERS: usize = 500;
/// Longest rendered body, in bytes; it also applies to the whole call as the default body.
pub const MAX_BODY_BYTES: usize = 5 * 1024 * 1024;
/// Longest rendered URL, in bytes.
pub const MAX_URL_BYTES: usize = 64 * 1024;
/// The largest size of all rendered headers together, in bytes, counting the names and values of the author's headers.
pub const MAX_HEADERS_BYTES: usize = 64 * 1024;

/// The largest number of bytes of objects and arrays that are read to render one call. If more would be read, the call
/// is first copied without its white space, so that the work is in proportion to the size of the result. Without this,
/// `${x}` could occur five hundred times for an object of megabytes that contains nothing but white space.
pub(super) const MAX_COPIED_BYTES: usize = 4 * MAX_BODY_BYTES;

/// Refuses a template that is longer than [`MAX_TEMPLATE_BYTES`].
pub(super) fn check_template(source: Source<'_>) -> Result<(), Problem> {
    if source.text.len() <= MAX_TEMPLATE_BYTES {
        return Ok(());
    }
    let message = format!("the template is longer than {} KiB: shorten it", MAX_TEMPLATE_BYTES / 1024);
    Err(Problem::new(Code::TooLarge, source.field, message))
}

/// Refuses the first placeholder beyond [`MAX_PLACEHOLDERS`], at its position.
pub(super) fn check_placeholders<'a>(
    source: Source<'_>,
    mut placeholders: impl Iterator<Item = &'a Placeholder>,
) -> Result<(), Problem> {
    match placeholders.nth(MAX_PLACEHOLDERS) {
        None => Ok(()),
        Some(placeholder) => {
            let message = format!("more than {MAX_PLACEHOLDERS} placeholders in one template");
            Err(source.problem(Code::TooLarge, placeholder.start, message))
        }
    }
}

/// The problem of a rendered text that exceeds its limit of `bytes`.
pub(super) fn rendered_too_large(field: Field, bytes: usize) -> Problem {
    let size = match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mebibytes => format!("{mebibytes} MiB"),
    };
    let message = match field {
        Field::Headers => format!("the rendered headers are larger than {size} together: write less into them"),
        _ => format!("the rendered {field} is larger than {size}: write less into it"),
    };
    Problem::new(Code::TooLarge, field, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_told_with_its_limit_and_with_the_field_that_has_to_become_shorter() {
        let cases = [
            (Field::Url, 64 << 10, "the rendered url is larger than 64 KiB: write less into it"),
            (Field::Headers, 64 << 10, "the rendered headers are larger than 64 KiB together: write less into them"),
            (Field::Body, 5 << 20, "the rendered body is larger than 5 MiB: write less into it"),
        ];
        for (field, bytes, message) in cases {
            let problem = rendered_too_large(field, bytes);
            assert_eq!((problem.code, problem.field, &*problem.message), (Code::TooLarge, field, message));
        }
    }
}
