//! How times, numbers, states and texts of others are written on a page.
//!
//! Texts of others (agents, names, details, bodies) are written by [`shown`], so that nothing in them is invisible or
//! turns the direction of what stands beside it; the templates escape them, as they escape everything but the marks of
//! this module, which hold no text of others.

use std::borrow::Cow;
use std::fmt;

use askama::filters::HtmlSafe;
use chrono::{DateTime, Utc};

use super::assets::Asset;
use super::frame::{self, Frame, Of};
use crate::domain::delivery::State;
use crate::domain::percent::encoded;
use crate::domain::visible::visible;
use crate::service::needs::Urgency;
pub(super) use crate::service::words::{at_least, count, long, long_since, number};

/// Which part of the console a page belongs to, for the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    Home,
    Deliveries,
    Calls,
    Agents,
    Audit,
    Nowhere,
}

impl Here {
    /// The parts of the console: address, name, and whether it is this one. What concerns all of several databases has fewer.
    pub(super) fn parts(self) -> Vec<(String, &'static str, bool)> {
        let parts = [
            ("/", "Overview", Here::Home),
            ("/deliveries", "Deliveries", Here::Deliveries),
            ("/calls", "Calls", Here::Calls),
            ("/agents", "Agents", Here::Agents),
            ("/audit", "Audit", Here::Audit),
        ];
        let there = if frame::current().of == Of::All { &parts[..2] } else { &parts[..] };
        there.iter().map(|(path, name, part)| (frame::inside(path), *name, *part == self)).collect()
    }

    /// What stands before the path of each page of this database: nothing, or its name if there are several. Addresses within
    /// templates begin with it.
    pub(super) fn root(self) -> String {
        frame::inside("")
    }

    /// The address of a path of this database. What leads to a place on the same page stays as it is.
    pub(super) fn at(self, path: &str) -> String {
        if path.starts_with('/') { frame::inside(path) } else { path.to_owned() }
    }

    /// What stands around the page.
    pub(super) fn frame(self) -> Frame {
        frame::current()
    }

    /// The path of the style sheet.
    pub(super) fn style(self) -> &'static str {
        super::route::style_path()
    }

    /// The nonce of the page's scripts; without one, the page has none.
    pub(super) fn nonce(self) -> Option<String> {
        super::policy::nonce()
    }

    /// The path of a script, or of its style sheet.
    pub(super) fn asset(self, asset: Asset) -> &'static str {
        asset.path()
    }

    /// The version of this program.
    pub(super) fn version(self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// A text of others in one line, as it may be shown.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    visible(text)
}

/// The longest text of several lines that a page shows, in bytes.
pub(super) const LONGEST_TEXT: usize = 64 * 1024;

/// A text of others with its line breaks, as it may be shown, and how many bytes of it are left out.
pub(super) fn shown_lines(text: &str) -> (String, usize) {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // A tab is as harmless here as a line break.
    let line = |line: &str| line.trim_end_matches('\r').split('\t').map(visible).collect::<Vec<_>>().join("\t");
    let lines: Vec<String> = text[..end].split('\n').map(line).collect();
    (lines.join("\n"), text.len() - end)
}

/// A moment: in UTC, to the second.
pub(super) struct Time(pub(super) DateTime<Utc>);

/// A moment in UTC, to the millisecond.
pub(super) struct PreciseTime(pub(super) DateTime<Utc>);

/// A moment in a column whose heading says that it is in UTC.
pub(super) struct ShortTime(pub(super) DateTime<Utc>);

impl HtmlSafe for Time {}
impl HtmlSafe for PreciseTime {}
impl HtmlSafe for ShortTime {}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        time(formatter, self.0, "%Y-%m-%d %H:%M:%S UTC")
    }
}

impl fmt::Display for PreciseTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        time(formatter, self.0, "%Y-%m-%d <b>%H:%M:%S</b>%.3f UTC")
    }
}

impl fmt::Display for ShortTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        time(formatter, self.0, "%Y-%m-%d %H:%M:%S")
    }
}

/// The element `time`, for programs to the millisecond.
fn time(formatter: &mut fmt::Formatter<'_>, at: DateTime<Utc>, form: &str) -> fmt::Result {
    write!(formatter, "<time datetime=\"{}\">{}</time>", at.format("%Y-%m-%dT%H:%M:%S%.3fZ"), at.format(form))
}

/// A drawing of 16 by 16, for those who see; words stand beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Icon(&'static str);

impl Icon {
    pub(super) const WELL: Icon = Icon(r#"<circle cx="8" cy="8" r="6.5"/><path d="m5 8.3 2.1 2.1L11 6"/>"#);
    pub(super) const CROSS: Icon = Icon(r#"<circle cx="8" cy="8" r="6.5"/><path d="m5.7 5.7 4.6 4.6m0-4.6-4.6 4.6"/>"#);
    pub(super) const WARN: Icon = Icon(r#"<path d="M8 1.8 15 14H1z"/><path d="M8 6.2v3.6M8 11.6v.4"/>"#);
    pub(super) const ASK: Icon =
        Icon(r#"<circle cx="8" cy="8" r="6.5"/><path d="M6 6.4a2 2 0 1 1 2.7 1.9c-.5.2-.7.5-.7 1.2M8 11.3v.4"/>"#);
    pub(super) const CLOCK: Icon = Icon(r#"<circle cx="8" cy="8" r="6.5"/><path d="M8 4.4V8l2.4 1.5"/>"#);
    pub(super) const ARROW: Icon = Icon(r#"<path d="M2 8h11M9 4l4 4-4 4"/>"#);
    pub(super) const DASH: Icon = Icon(r#"<circle cx="8" cy="8" r="6.5"/><path d="M5 8h6"/>"#);
    pub(super) const DOT: Icon = Icon(r#"<circle cx="8" cy="8" r="2.5"/>"#);
    pub(super) const PAUSE: Icon = Icon(r#"<circle cx="8" cy="8" r="6.5"/><path d="M6.4 5.6v4.8M9.6 5.6v4.8"/>"#);
}

impl HtmlSafe for Icon {}

impl fmt::Display for Icon {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<svg class=\"icon\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">{}</svg>", self.0)
    }
}

/// A word with an icon and a colour. The word alone says what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) icon: Icon,
    pub(super) tone: Tone,
    pub(super) word: &'static str,
}

/// How much attention something needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Well,
    Plain,
    Doubt,
    Trouble,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Tone::Well => "well",
            Tone::Plain => "plain",
            Tone::Doubt => "doubt",
            Tone::Trouble => "trouble",
        }
    }
}

impl From<State> for Mark {
    fn from(state: State) -> Mark {
        let (icon, tone) = match state {
            State::Waiting => (Icon::CLOCK, Tone::Plain),
            State::Sending => (Icon::ARROW, Tone::Plain),
            State::Delivered => (Icon::WELL, Tone::Well),
            State::Rejected => (Icon::CROSS, Tone::Trouble),
            State::Failed => (Icon::WARN, Tone::Trouble),
            State::Unknown => (Icon::ASK, Tone::Doubt),
            State::Skipped => (Icon::DASH, Tone::Plain),
        };
        Mark { icon, tone, word: state.as_str() }
    }
}

impl From<Urgency> for Mark {
    fn from(urgency: Urgency) -> Mark {
        let (icon, tone) = match urgency {
            Urgency::Urgent => (Icon::WARN, Tone::Trouble),
            Urgency::Look => (Icon::ASK, Tone::Doubt),
            Urgency::Know => (Icon::PAUSE, Tone::Plain),
        };
        Mark { icon, tone, word: urgency.as_str() }
    }
}

impl HtmlSafe for Mark {}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<span class=\"mark {}\">{}{}</span>", self.tone.class(), self.icon, self.word)
    }
}

/// The address of an agent's page. `.` and `..` would be steps in a path, however they are written, so these two are
/// parameters.
pub(super) fn agent_address(agent: &str) -> String {
    let encoded = encoded(agent);
    frame::inside(&match agent {
        // A form that names none yet.
        "" => "/agents".to_owned(),
        "." | ".." => format!("/agents?agent={encoded}"),
        _ => format!("/agents/{encoded}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_others_is_shown_line_by_line_and_up_to_a_limit() {
        assert_eq!(shown_lines("a\tb\r\nc\u{202e}d"), ("a\tb\nc\\u{202e}d".to_owned(), 0));
        let (text, left_out) = shown_lines(&"é".repeat(LONGEST_TEXT));
        assert_eq!((text.len(), left_out), (LONGEST_TEXT, LONGEST_TEXT));
    }

    #[test]
    fn each_agent_has_an_address_that_leads_to_it() {
        use super::super::route::Route;
        for agent in ["a", "a/b", "a?b#c", "../x", "é \"<>", "%2F"] {
            assert_eq!(Route::of(&agent_address(agent)), Some(Route::Agent(agent.to_owned())));
        }
        assert_eq!(agent_address(".."), "/agents?agent=..");
    }
}
