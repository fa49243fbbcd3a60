//! Notes of where a text lacks the value of a path. Only a request that people look at is rendered with notes; for all others, there
//! is nothing to note in, and nothing is done.

use std::cell::RefCell;

use super::{Found, Slot};
use crate::domain::request::Gap;

/// What is noted while a request is rendered.
#[derive(Debug, Default)]
pub(in crate::render) struct Notes {
    /// Of the text that is being written.
    open: RefCell<Vec<Gap>>,
    /// Of each text that is written.
    texts: RefCell<Vec<Vec<Gap>>>,
}

impl Notes {
    /// The notes of each text, in the order in which they were written.
    pub fn take(&self) -> Vec<Vec<Gap>> {
        self.texts.take()
    }
}

impl<'c> Found<'c> {
    /// The same, to be rendered with notes.
    pub fn noting(mut self, notes: &'c Notes) -> Found<'c> {
        self.notes = Some(notes);
        self
    }

    /// Says that `length` bytes at `start` of the text are about to be written in place of the value of this path, if it has none.
    pub fn note(&self, slot: Slot, start: usize, length: usize) {
        let Some(notes) = self.notes else { return };
        if self.values.get(slot.0).is_none_or(Option::is_none) {
            let gap = Gap { path: self.name(slot).to_owned(), range: start..start + length };
            notes.open.borrow_mut().push(gap);
        }
    }

    /// Says that a text is written, of which the blanks around it are not sent.
    pub fn end_text(&self, text: &str) {
        let Some(notes) = self.notes else { return };
        let mut gaps = notes.open.take();
        let blanks = text.len() - text.trim_start_matches(' ').len();
        let length = text.trim_matches(' ').len();
        for gap in &mut gaps {
            let moved = |at: usize| at.saturating_sub(blanks).min(length);
            gap.range = moved(gap.range.start)..moved(gap.range.end);
        }
        notes.texts.borrow_mut().push(gaps);
    }
}
