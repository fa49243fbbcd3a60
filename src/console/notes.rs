//! What somebody has just done, for the page that they see next. A change answers with a redirect, so that a reload does not repeat
//! it; the page behind it says what was done. The words stay here and not in the address, where anybody could write any.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use super::people::Visitor;

/// The most notes: the oldest is forgotten.
const MOST: usize = 512;
/// How long a note is kept.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// The name of the parameter.
pub(super) const PARAMETER: &str = "note";

struct Note {
    id: String,
    of: Visitor,
    text: String,
    at: Instant,
}

/// All notes, the oldest first.
#[derive(Default)]
pub(super) struct Notes(Mutex<VecDeque<Note>>);

impl Notes {
    /// Keeps a note for a visitor. Its id; `None` if the system has no random numbers.
    pub(super) fn keep(&self, of: &Visitor, text: String) -> Option<String> {
        let id = new_id()?;
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= MOST {
            notes.pop_front();
        }
        notes.push_back(Note { id: id.clone(), of: of.clone(), text, at: Instant::now() });
        Some(id)
    }

    /// The note with this id, for the visitor whose it is.
    pub(super) fn of(&self, visitor: &Visitor, id: &str) -> Option<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = notes.iter().find(|note| note.id == id && note.of == *visitor && note.at.elapsed() < KEPT);
        own.map(|note| note.text.clone())
    }
}

/// An id that nobody guesses; `None` if the system has no random numbers.
pub(super) fn new_id() -> Option<String> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(hex::encode(random))
}

/// The query without the id of a note, and that id.
pub(super) fn without_note(query: &str) -> (String, Option<&str>) {
    let is_note = |part: &&str| part.split('=').next() == Some(PARAMETER);
    let id = query.split('&').find(is_note).and_then(|part| part.split_once('=')).map(|(_, id)| id);
    let rest: Vec<&str> = query.split('&').filter(|part| !is_note(part)).collect();
    (rest.join("&"), id)
}

/// An address that also names a note.
pub(super) fn with_note(path: &str, id: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}{PARAMETER}={id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_own_parameters_again_without_its_note() {
        for query in ["", "a=1", "a=1&b=2", "notes=1"] {
            let path = if query.is_empty() { "/".to_owned() } else { format!("/?{query}") };
            let address = with_note(&path, "abc");
            let noted = address.split_once('?').map(|(_, query)| query).unwrap_or_default();
            assert_eq!(without_note(noted), (query.to_owned(), Some("abc")));
            assert_eq!(without_note(query), (query.to_owned(), None));
        }
    }
}
