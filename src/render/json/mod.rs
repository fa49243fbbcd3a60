//! Reading JSON text in place (RFC 8259): no tree is built from it, so that a call needs no memory beyond its own
//! bytes.
//!
//! ```text
//! scan      one pass over a text: its grammar, and where its values begin and end
//! string    what stands between the quotes of a string
//! number    how a number is written
//! names     which names an object has had, so that a second one is noticed
//! compact   a value without its white space, straight into an output
//! canonical a text in which each name stands once
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
