//! Prints rows as they are found, without holding more than a few of them: the same text as for a page, in every format
//! but the table, whose columns grow with what they show.

use std::io::{self, Stdout, StdoutLock, Write};
use std::marker::PhantomData;

use super::{CliError, Format};
use crate::domain::visible::visible;
use crate::service::export::{Form, Record, without_effect};

/// A cell that is wider than this moves the rest of its line instead of widening its column for good.
const WIDEST: usize = 40;

/// A row that can also be shown in a table for people, which has fewer columns.
pub(super) trait Listed: Record {
    /// The columns of the table.
    const HEADER: &'static [&'static str];

    /// What they show.
    fn cells(&self) -> Vec<String>;
}

/// Rows that are printed one after the other.
pub(super) struct Listing<R> {
    out: Stdout,
    format: Format,
    /// How many were printed.
    printed: usize,
    /// How wide the columns of the table are so far.
    widths: Vec<usize>,
    rows: PhantomData<R>,
}

impl<R: Listed> Listing<R> {
    pub(super) fn new(format: Format) -> Listing<R> {
        let widths = R::HEADER.iter().map(|name| name.len()).collect();
        Listing { out: std::io::stdout(), format, printed: 0, widths, rows: PhantomData }
    }

    /// Prints more rows, and lets the reader see them at once.
    pub(super) fn add(&mut self, rows: &[R]) -> Result<(), CliError> {
        self.write(rows).map_err(CliError::Output)
    }

    fn write(&mut self, rows: &[R]) -> io::Result<()> {
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
            Format::Jsonl => Form::JsonLines.write_rows(&mut out, rows)?,
            Format::Csv => {
                if self.printed == 0 && !rows.is_empty() {
                    Form::Csv.write_head::<R>(&mut out)?;
                }
                Form::Csv.write_rows(&mut out, rows)?;
            }
        }
        out.flush()?;
        self.printed += rows.len();
        Ok(())
    }

    /// Prints what belongs behind the last one, and returns how many were printed.
    pub(super) fn end(self) -> Result<usize, CliError> {
        self.write_end().map_err(CliError::Output)?;
        Ok(self.printed)
    }

    fn write_end(&self) -> io::Result<()> {
        let mut out = self.out.lock();
        match (self.format, self.printed) {
            (Format::Json, 0) => writeln!(out, "[]")?,
            (Format::Json, _) => writeln!(out, "\n]")?,
            (Format::Csv, 0) => Form::Csv.write_head::<R>(&mut out)?,
            (Format::Table | Format::Jsonl | Format::Csv, _) => {}
        }
        out.flush()
    }

    fn lines(&mut self, out: &mut StdoutLock<'_>, rows: &[R]) -> io::Result<()> {
        let lines: Vec<Vec<String>> =
            rows.iter().map(|row| row.cells().iter().map(|cell| visible(cell).into_owned()).collect()).collect();
        for line in &lines {
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count().min(WIDEST));
            }
        }
        if self.printed == 0 && !lines.is_empty() {
            let header: Vec<String> = R::HEADER.iter().map(|name| name.to_uppercase()).collect();
            self.line(out, &header)?;
        }
        lines.iter().try_for_each(|line| self.line(out, line))
    }

    fn line(&self, out: &mut StdoutLock<'_>, cells: &[String]) -> io::Result<()> {
        let padded: Vec<String> =
            self.widths.iter().zip(cells).map(|(width, cell)| format!("{cell:<width$}", width = *width)).collect();
        writeln!(out, " {}", padded.join("  ").trim_end())
    }
}
