//! Prints deliveries as they are found, without holding more than a few of them: the same text as for a page, in every
//! format but the table, whose columns grow with what they show.

use std::io::{self, Stdout, StdoutLock, Write};

use serde_json::Value;

use super::history::{HEADER, cells};
use super::table::without_effect;
use super::{CliError, Format, spreadsheet};
use crate::domain::visible::visible;
use crate::store::history::HistoryRow;

/// A cell that is wider than this moves the rest of its line instead of widening its column for good.
const WIDEST: usize = 40;

/// Deliveries that are printed one after the other.
pub(super) struct Listing {
    out: Stdout,
    format: Format,
    /// How many were printed.
    printed: usize,
    /// How wide the columns of the table are so far.
    widths: [usize; HEADER.len()],
}

impl Listing {
    pub(super) fn new(format: Format) -> Listing {
        Listing { out: std::io::stdout(), format, printed: 0, widths: HEADER.map(str::len) }
    }

    /// Prints more deliveries, and lets the reader see them at once.
    pub(super) fn add(&mut self, rows: &[HistoryRow]) -> Result<(), CliError> {
        self.write(rows).map_err(CliError::Output)
    }

    fn write(&mut self, rows: &[HistoryRow]) -> io::Result<()> {
        let mut out = self.out.lock();
        match self.format {
            Format::Table => self.lines(&mut out, rows)?,
            Format::Json => {
                for (number, row) in rows.iter().enumerate() {
                    let text = serde_json::to_string_pretty(row)?;
                    let before = if self.printed + number == 0 { "[" } else { "," };
                    write!(out, "{before}\n  {}", without_effect(&text).replace('\n', "\n  "))?;
                }
            }
            Format::Jsonl => {
                for row in rows {
                    let text = serde_json::to_string(row)?;
                    writeln!(out, "{}", without_effect(&text))?;
                }
            }
            Format::Csv => {
                if self.printed == 0 && !rows.is_empty() {
                    csv_header(&mut out)?;
                }
                for row in rows {
                    let object = serde_json::to_value(row)?;
                    spreadsheet::write_record(&mut out, HistoryRow::COLUMNS.map(|column| &object[column]))?;
                }
            }
        }
        out.flush()?;
        self.printed += rows.len();
        Ok(())
    }

    /// Prints what belongs behind the last one.
    pub(super) fn end(self) -> Result<(), CliError> {
        self.write_end().map_err(CliError::Output)
    }

    fn write_end(&self) -> io::Result<()> {
        let mut out = self.out.lock();
        match (self.format, self.printed) {
            (Format::Json, 0) => writeln!(out, "[]")?,
            (Format::Json, _) => writeln!(out, "\n]")?,
            (Format::Csv, 0) => csv_header(&mut out)?,
            (Format::Table | Format::Jsonl | Format::Csv, _) => {}
        }
        out.flush()
    }

    fn lines(&mut self, out: &mut StdoutLock<'_>, rows: &[HistoryRow]) -> io::Result<()> {
        let lines: Vec<Vec<String>> =
            rows.iter().map(|row| cells(row).iter().map(|cell| visible(cell).into_owned()).collect()).collect();
        for line in &lines {
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count().min(WIDEST));
            }
        }
        if self.printed == 0 && !lines.is_empty() {
            self.line(out, &HEADER.map(str::to_uppercase))?;
        }
        lines.iter().try_for_each(|line| self.line(out, line))
    }

    fn line(&self, out: &mut StdoutLock<'_>, cells: &[String]) -> io::Result<()> {
        let padded: Vec<String> =
            self.widths.iter().zip(cells).map(|(width, cell)| format!("{cell:<width$}", width = *width)).collect();
        writeln!(out, " {}", padded.join("  ").trim_end())
    }
}

fn csv_header(out: &mut impl Write) -> io::Result<()> {
    spreadsheet::write_record(out, &HistoryRow::COLUMNS.map(Value::from))
}
