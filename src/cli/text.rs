//! How commands read files and print results: texts in, texts out.

use std::io::{Read, Write};
use std::path::Path;

use clap::ValueEnum;

use super::CliError;
use crate::domain::visible::visible_lines;

/// Reads a file's text; `-` is standard input. It reads at most one byte more than `max_bytes`, so that the caller can
/// see that the file is too long.
pub(super) fn read_file(path: &Path, max_bytes: usize) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    let text = read.and_then(|_| match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // The last character may have been cut in the middle.
        Err(error) if error.as_bytes().len() > max_bytes => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Err(_) => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "its text is not UTF-8")),
    });
    text.map_err(|source| CliError::File { path: path.display().to_string(), source })
}

/// Prints lines for people to stdout, without characters that act on the terminal. If a text from others must not
/// contain line breaks, the caller has to apply [`visible`](crate::domain::visible::visible) first.
pub(super) fn print_line(text: &str) -> Result<(), CliError> {
    print_text(&visible_lines(text))
}

/// Prints text for programs to stdout, unchanged. Unlike `println!`, it does not panic if the reader has closed the
/// pipe (`| head`).
pub(super) fn print_text(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").map_err(CliError::Output)
}

/// Prints what is a file of its own to stdout, as it is.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs: one JSON object on each line.
    Jsonl,
    /// For spreadsheets.
    Csv,
}
