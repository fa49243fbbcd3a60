//! Reading JSON text in place (RFC 8259): no tree is built from it, so that a call needs no memory beyond its own
//! bytes.
//!
//! ```text
//! scan      one pass over a text: checks its grammar and finds where its values begin and end
//! string    the text between the quotes of a string
//! number    the grammar and the spelling of numbers
//! names     the names of an object, to notice one that occurs twice
//! compact   writes a value without its white space
//! canonical rewrites a text so that each name occurs once in its object
//! ```
//!
//! If a text has a name twice in one object, it is read as common parsers read it: the last value counts, at the place
//! of the first.

pub(super) mod canonical;
pub(super) mod compact;
mod names;
pub(super) mod number;
pub(super) mod scan;
pub(super) mod string;

/// The deepest nesting of objects and arrays that is accepted. It limits the recursion of all code that reads a text.
pub(super) const MAX_DEPTH: usize = 127;

/// Why a text cannot be a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The text is not JSON, or is nested deeper than [`MAX_DEPTH`], at this byte.
    NotJson(usize),
    /// The text is JSON, but not an object.
    NotAnObject,
}
