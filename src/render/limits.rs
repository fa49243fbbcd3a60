//! How large things may become. Past a limit is always a [`Code::TooLarge`], never a silent cut.

use super::placeholder::Placeholder;
use super::source::Source;
use crate::domain::problem::{Code, Field, Problem};

/// Longest template of one field, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
/// Most placeholders in the template of one field.
pub const MAX_PLACEHOLDERS: usize = 500;
/// Longest rendered body, in bytes; it holds for the whole call as the default body too.
pub const MAX_BODY_BYTES: usize = 5 * 1024 * 1024;
/// Longest rendered URL, in bytes.
pub const MAX_URL_BYTES: usize = 64 * 1024;
/// Most bytes in all rendered headers together, counting the names and values of the author's.
pub const MAX_HEADERS_BYTES: usize = 64 * 1024;

/// Most bytes of objects and arrays that are read to render one call. Where more are asked for, the call is first copied
/// without its white space, so that what is read is in proportion to what is written: `${x}` can stand five hundred times
/// for an object of megabytes that holds nothing but blanks.
pub(super) const MAX_COPIED_BYTES: usize = 4 * MAX_BODY_BYTES;

/// Refuses a template that is longer than [`MAX_TEMPLATE_BYTES`].
pub(super) fn check_template(source: Source<'_>) -> Result<(), Problem> {
    if source.text.len() <= MAX_TEMPLATE_BYTES {
        return Ok(());
    }
    let message = format!("the template is longer than {} KiB: shorten it", MAX_TEMPLATE_BYTES / 1024);
    Err(Problem::new(Code::TooLarge, source.field, message))
}

/// Refuses the first placeholder beyond [`MAX_PLACEHOLDERS`], at its place.
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

/// The problem of a rendered text that has outgrown its limit of `bytes`.
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
