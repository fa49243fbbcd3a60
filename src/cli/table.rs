//! Rows of text, printed for people, programs or spreadsheets.

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{ContentArrangement, presets};
use serde::Serialize;

use super::{CliError, Format, print_line};

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

    /// Fits the terminal: what is too wide goes on in the next line of its cell.
    fn for_people(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !table.is_tty() {
            table.set_width(WIDTH_WITHOUT_TERMINAL);
        }
        table.set_header(self.header.iter().map(|name| name.to_uppercase()));
        table.add_rows(&self.rows);
        table.trim_fmt()
    }
}

/// Prints anything as indented JSON.
pub(super) fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
    print_line(&text)
}

/// Prints a header and rows by RFC 4180.
fn print_csv(header: &[&str], rows: &[Vec<String>]) -> Result<(), CliError> {
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    let written = writer.write_record(header).and_then(|()| rows.iter().try_for_each(|row| writer.write_record(row)));
    written.map_err(|error| CliError::Output(error.into()))?;
    writer.flush()?;
    Ok(())
}

/// A time as all commands print it: RFC 3339, UTC, seconds.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
