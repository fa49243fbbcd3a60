//! What is told to viewers, in the form of server-sent events.

use std::fmt::Write as _;
use std::sync::Arc;

use askama::Template;
use uuid::Uuid;

use super::Said;
use crate::console::failure::READER;
use crate::console::pages::Row;
use crate::console::words::ShortTime;
use crate::store::history::HistoryRow;

/// A delivery that has come to an end, as a row of the table: the page writes it by the same template.
#[derive(Template)]
#[template(path = "live_row.html")]
pub(in crate::console) struct Line {
    row: Row,
    ended: Option<ShortTime>,
}

impl Line {
    pub(in crate::console) fn of(row: &HistoryRow) -> Line {
        Line { row: Row::of(row), ended: row.finished_at.map(ShortTime) }
    }

    fn id(&self) -> Uuid {
        self.row.id
    }
}

/// A delivery that has come to an end, as an event.
#[derive(Debug)]
pub(super) struct Event {
    /// By which a browser says what it has seen last.
    pub(super) id: String,
    pub(super) text: String,
}

/// What viewers are told.
#[derive(Clone, Debug)]
pub(super) enum News {
    Ended(Arc<Event>),
    Said(Said),
}

impl Event {
    /// The event; `None` if the row cannot be written, which would be a defect of the template.
    pub(super) fn of(row: &HistoryRow) -> Option<Event> {
        let line = Line::of(row);
        let (id, html) = (line.id().to_string(), line.render().ok()?);
        let text = written("ended", Some(&id), &html);
        Some(Event { id, text })
    }
}

/// An event. Each line of its data is a line of its own, so that nothing in them can end the event or begin another one.
fn written(kind: &str, id: Option<&str>, data: &str) -> String {
    let mut text = format!("event: {kind}\n");
    if let Some(id) = id {
        // Writing into a String does not fail.
        let _written = writeln!(text, "id: {id}");
    }
    for line in data.split(['\n', '\r']) {
        let _written = writeln!(text, "data: {line}");
    }
    text.push('\n');
    text
}

/// A sentence for the viewer.
pub(super) fn told(sentence: &str) -> String {
    written("told", None, sentence)
}

impl Said {
    /// The event that says so.
    pub(super) fn text(self) -> String {
        match self {
            Said::All => told("Live: what comes to an end appears here."),
            Said::Sample => told("Live, a sample: more comes to an end than is shown here."),
            Said::Away => told("The database does not answer. This goes on when it does."),
            Said::Forbidden => told(&format!("The console's database user may not read this. It needs {READER}.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_an_event_can_end_it_or_begin_another_one() {
        let text = written("told", Some("1"), "a\n\nevent: ended\rdata: x");
        assert_eq!(text, "event: told\nid: 1\ndata: a\ndata: \ndata: event: ended\ndata: data: x\n\n");
        assert_eq!(text.matches("\n\n").count(), 1);
    }
}
