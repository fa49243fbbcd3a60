//! Changes: each form is taken here, makes the change by what the command line uses, too, and leads to a page that says what was
//! done. Whether the visitor may is asked by [`Visit::change`](super::super::people::Visit::change), and by Postgres in any case.

mod edit;
mod editor;
mod many;
mod orders;
mod replay_many;
mod resolve_many;
mod test_form;
mod versions;

pub(super) use edit::{form as edit_form, sent as edit_sent};
pub(super) use editor::check;
pub(super) use orders::{pause, replay, resolve, switch};
pub(super) use replay_many::{asked as replay_many_asked, sent as replay_many_sent};
pub(super) use resolve_many::{asked as resolve_many_asked, sent as resolve_many_sent};
pub(super) use test_form::{form as test_form, sent as test_sent};
pub(super) use versions::versions;

use crate::console::failure::Trouble;
use crate::console::form::Form;
use crate::service::attribution;

/// The reason that is recorded.
fn reason(form: &Form) -> Result<String, Trouble> {
    attribution::reason(form.needed("reason")?).map_err(|wrong| Trouble::NotDone(format!("The reason: {wrong}.")))
}

/// The reason, if one was given.
fn reason_if_any(form: &Form) -> Result<Option<String>, Trouble> {
    if form.needed("reason")?.trim().is_empty() { Ok(None) } else { reason(form).map(Some) }
}

/// A sentence, from words that a command line would print.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    let end = if words.ends_with(['.', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}
