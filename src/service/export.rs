//! A result as a file for programs or for spreadsheets, some rows at a time: the same text on the command line and from
//! the console.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use super::spreadsheet;
use crate::domain::visible::acts;
use crate::store::history::HistoryRow;

/// What a row of an export consists of.
pub trait Record: Serialize {
    /// The names of its fields, in the order of the columns.
    const COLUMNS: &'static [&'static str];
}

impl Record for HistoryRow {
    const COLUMNS: &'static [&'static str] = &HistoryRow::COLUMNS;
}

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// CSV: a header, and a record for each row. A spreadsheet runs nothing of it.
    Csv,
    /// One JSON object on each line.
    JsonLines,
}

impl Form {
    /// Writes what stands before the first row.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_head<R: Record>(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Form::Csv => {
                let header: Vec<Value> = R::COLUMNS.iter().copied().map(Value::from).collect();
                spreadsheet::write_record(out, &header)
            }
            Form::JsonLines => Ok(()),
        }
    }

    /// Writes rows.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_rows<R: Record>(self, out: &mut impl Write, rows: &[R]) -> io::Result<()> {
        rows.iter().try_for_each(|row| match self {
            Form::Csv => {
                let object = serde_json::to_value(row)?;
                spreadsheet::write_record(out, R::COLUMNS.iter().map(|column| &object[*column]))
            }
            Form::JsonLines => writeln!(out, "{}", without_effect(&serde_json::to_string(row)?)),
        })
    }
}

/// JSON of the same value, in which characters that act on a terminal or are invisible are escaped.
pub fn without_effect(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside of strings, JSON contains no such characters but line breaks, which are the layout.
        if c == '\n' || !acts(c) {
            text.push(c);
        } else {
            let units = &mut [0; 2];
            text.extend(c.encode_utf16(units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}
