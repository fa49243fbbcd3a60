//! Prints rows of text for people, programs or spreadsheets.

use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{ColumnConstraint, ContentArrangement, presets};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{CliError, Format, print_line, print_text};
use crate::domain::visible::visible;
use crate::service::export::without_effect;
use crate::service::spreadsheet;

/// Width of a table in characters if stdout is not a terminal.
const WIDTH_WITHOUT_TERMINAL: u16 = 160;

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
            Format::Table => print_line(&self.for_people()),
            Format::Json => print_json(objects),
            Format::Jsonl => objects.iter().try_for_each(print_json_line),
            Format::Csv => print_csv(&self.header, &self.rows).map_err(CliError::Output),
        }
    }

    /// Formats the table for the width of the terminal: text that is too wide continues in the next line of its cell.
    /// The text of a cell cannot begin a new row or act on the terminal.
    fn for_people(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !table.is_tty() {
            table.set_width(WIDTH_WITHOUT_TERMINAL);
        }
        table.set_header(self.header.iter().map(|name| name.to_uppercase()));
        table.add_rows(self.rows.iter().map(|row| row.iter().map(|cell| visible(cell))));
        // An id that continues in the next line can neither be copied nor be searched for.
        for (index, _) in self.header.iter().enumerate() {
            let mut cells =
                self.rows.iter().filter_map(|row| row.get(index)).filter(|cell| !cell.is_empty()).peekable();
            if cells.peek().is_some()
                && cells.all(|cell| Uuid::try_parse(cell).is_ok())
                && let Some(column) = table.column_mut(index)
            {
                column.set_constraint(ColumnConstraint::ContentWidth);
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
