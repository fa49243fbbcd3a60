//! Prints rows of text for people, programs or spreadsheets.

use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{ColumnConstraint, ContentArrangement, Width, presets};
use serde::Serialize;
use serde_json::Value;

use super::{CliError, Format, print_line, print_text};
use crate::domain::visible::visible;
use crate::service::export::without_effect;
use crate::service::spreadsheet;

/// The variable that says how wide a table is to be, in characters, on a terminal and elsewhere.
const COLUMNS: &str = "COLUMNS";
/// A word that is no longer than this stands in one line: the length of an id, which is longer than a time.
const LONGEST_WHOLE: usize = 36;
/// The blanks beside the text of a cell.
const PADDING: u16 = 2;

/// A table whose rows have the same number of cells.
pub(super) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&'static str]) -> Table {
        Table { header: header.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints the rows; as JSON it prints the typed objects from which the rows were made.
    pub(super) fn print<T: Serialize>(self, format: Format, objects: &[T]) -> Result<(), CliError> {
        match format {
            Format::Table => {
                let wanted = std::env::var(COLUMNS).ok().and_then(|columns| columns.parse().ok());
                print_line(&self.for_people(wanted.filter(|columns| *columns > 0)))
            }
            Format::Json => print_json(objects),
            Format::Jsonl => objects.iter().try_for_each(print_json_line),
            Format::Csv => print_csv(&self.header, &self.rows).map_err(CliError::Output),
        }
    }

    /// Formats the table for the width that is wanted ([`COLUMNS`]), or that of the terminal: text that is too wide continues in the next
    /// line of its cell. Elsewhere, as in a pipe, each row is one line. The text of a cell cannot begin a new row or act on the terminal.
    fn for_people(&self, wanted: Option<u16>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        match wanted {
            Some(columns) => _ = table.set_width(columns),
            None if table.is_tty() => {}
            None => _ = table.set_content_arrangement(ContentArrangement::Disabled),
        }
        table.set_header(self.header.iter().map(|name| name.to_uppercase()));
        table.add_rows(self.rows.iter().map(|row| row.iter().map(|cell| visible(cell))));
        // An id or a time that continues in the next line can neither be copied nor be searched for. A line that is too long is continued
        // by the terminal, which knows that it is one.
        for (index, name) in self.header.iter().enumerate() {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| visible(cell));
            let longest = cells.map(|cell| longest_word(&cell)).max().unwrap_or(0).max(longest_word(name));
            if let Some(column) = table.column_mut(index) {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(longest + PADDING)));
            }
        }
        table.trim_fmt()
    }
}

/// Prints a value as indented JSON for programs. The value is exact, and the text does not act on a terminal.
pub(super) fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::Output(error.into()))?;
    print_text(&without_effect(&text))
}

/// Prints a value as JSON on one line, for programs.
pub(super) fn print_json_line<T: Serialize>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string(value).map_err(|error| CliError::Output(error.into()))?;
    print_text(&without_effect(&text))
}

fn print_csv(header: &[&'static str], rows: &[Vec<String>]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    spreadsheet::write_record(&mut out, &header.iter().copied().map(Value::from).collect::<Vec<_>>())?;
    for row in rows {
        spreadsheet::write_record(&mut out, &row.iter().map(String::as_str).map(Value::from).collect::<Vec<_>>())?;
    }
    out.flush()
}

/// The format of times in all commands: RFC 3339, UTC, whole seconds.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The length of the longest word that stands in one line.
fn longest_word(text: &str) -> u16 {
    let lengths = text.split_whitespace().map(|word| word.chars().count()).filter(|length| *length <= LONGEST_WHOLE);
    lengths.max().and_then(|length| u16::try_from(length).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199f2a4-7c1e-7b5d-9c3f-2f6f1b1d0a11";
    const AT: &str = "2026-11-30T00:48:58Z";

    fn table() -> Table {
        let mut table = Table::new(&["at", "what", "by", "delivery"]);
        let by = "Ada Lovelace (database user ada)";
        table.row(vec![AT.to_owned(), format!("a delivery, as {ID}"), by.to_owned(), ID.to_owned()]);
        table.row(vec![AT.to_owned(), "x".repeat(200), String::new(), String::new()]);
        table
    }

    #[test]
    fn no_id_and_no_time_is_broken_however_narrow_a_table_is() {
        for wanted in [None, Some(1), Some(20), Some(80), Some(100), Some(130), Some(160), Some(250), Some(u16::MAX)] {
            let text = table().for_people(wanted);
            assert_eq!((text.matches(ID).count(), text.matches(AT).count()), (2, 2), "{wanted:?}:\n{text}");
        }
    }

    #[test]
    fn a_table_is_as_wide_as_is_wanted_and_each_row_is_a_line_where_nothing_is() {
        let lines = |wanted| table().for_people(wanted).lines().map(|line| line.chars().count()).collect::<Vec<_>>();
        assert_eq!(lines(None).len(), 3, "this is no terminal");
        let (narrow, wide) = (lines(Some(180)), lines(Some(250)));
        assert!(
            narrow.iter().all(|length| *length <= 180) && wide.iter().all(|length| *length <= 250),
            "{narrow:?} {wide:?}"
        );
        assert!(wide.iter().any(|length| *length > 180), "{wide:?}");
    }
}
