//! What is told to viewers, in the form of server-sent events.

use std::fmt::Write as _;
use std::sync::Arc;

use askama::Template;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Said;
use crate::console::failure::READER;
use crate::console::frame;
use crate::console::pages::Row;
use crate::console::words::{ShortTime, shown};
use crate::store::history::HistoryRow;

/// A delivery that has come to an end, as a row of the table: the page writes it by the same template.
#[derive(Template)]
#[template(path = "live_row.html")]
pub(in crate::console) struct Line {
    row: Row,
    ended: Option<ShortTime>,
    /// Where it is, in a table of several databases.
    database: Option<Whereabouts>,
}

/// The database of a delivery, and where it leads.
struct Whereabouts {
    name: String,
    address: String,
}

impl Line {
    pub(in crate::console) fn of(row: &HistoryRow) -> Line {
        Line { row: Row::of(row), ended: row.finished_at.map(ShortTime), database: None }
    }

    /// The same in a table of several databases, for the one with this name, whose pages stand below `root`.
    pub(in crate::console) fn located(row: &HistoryRow, name: &str, root: &str) -> Line {
        let database = Whereabouts { name: shown(name).into_owned(), address: format!("{root}/") };
        // No request is being answered where rows are told to viewers, so nothing else says where they lead.
        Line { database: Some(database), ..frame::under(root, || Line::of(row)) }
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
    /// By which those of several databases are put into one order.
    pub(super) ended_at: Option<DateTime<Utc>>,
    pub(super) text: String,
    /// The same for those who follow several databases.
    pub(super) located: String,
}

/// What viewers are told.
#[derive(Clone, Debug)]
pub(super) enum News {
    Ended(Arc<Event>),
    Said(Said),
}

impl Event {
    /// The event, of the database whose pages stand below `root`, with its name if it is one of several; `None` if the row cannot be
    /// written, which would be a defect of the template.
    pub(super) fn of(row: &HistoryRow, name: Option<&str>, root: &str) -> Option<Event> {
        let line = frame::under(root, || Line::of(row));
        let id = line.id().to_string();
        let text = written("ended", Some(&id), &line.render().ok()?);
        let located = match name {
            Some(name) => written("ended", Some(&id), &Line::located(row, name, root).render().ok()?),
            None => String::new(),
        };
        Some(Event { id, ended_at: row.finished_at, text, located })
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
