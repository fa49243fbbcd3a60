//! Rows of text, printed for people, programs or spreadsheets.

use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{ContentArrangement, presets};
use serde::Serialize;
use serde_json::Value;

use super::{CliError, Format, print_line, print_text, spreadsheet};
use crate::domain::visible::{acts, visible};

/// Width of a table where stdout is no terminal, in characters.
const WIDTH_WITHOUT_TERMINAL: u16 = 160;

/// A table of equally long rows.
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

    /// Prints the rows, or, for programs, the typed objects that they were made from.
    pub(super) fn print<T: Serialize>(self, format: Format, objects: &[T]) -> Result<(), CliError> {
        match format {
            Format::Table => print_line(&self.for_people()),
            Format::Json => print_json(objects),
            Format::Csv => print_csv(&self.header, &self.rows),
        }
    }

    /// Fits the terminal: what is too wide goes on in the next line of its cell. Nothing in a cell can begin a row, or
    /// act on the terminal.
    fn for_people(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !table.is_tty() {
            table.set_width(WIDTH_WITHOUT_TERMINAL);
        }
        table.set_header(self.header.iter().map(|name| name.to_uppercase()));
        table.add_rows(self.rows.iter().map(|row| row.iter().map(|cell| visible(cell))));
        table.trim_fmt()
    }
}

/// Prints anything as indented JSON, for programs: exactly, and in a terminal without effect.
pub(super) fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
    print_text(&without_effect(&text))
}

/// JSON of the same value in which whatever acts on a terminal, or cannot be seen, is an escape.
fn without_effect(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside of strings only line breaks and spaces do not show, and they are the layout.
        if c == '\n' || !acts(c) {
            text.push(c);
        } else {
            let units = &mut [0; 2];
            text.extend(c.encode_utf16(units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

fn print_csv(header: &[&'static str], rows: &[Vec<String>]) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    spreadsheet::write_record(&mut out, &header.iter().copied().map(Value::from).collect::<Vec<_>>())?;
    for row in rows {
        spreadsheet::write_record(&mut out, &row.iter().map(String::as_str).map(Value::from).collect::<Vec<_>>())?;
    }
    out.flush()?;
    Ok(())
}

/// A time as all commands print it: RFC 3339, UTC, seconds.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
