//! Where an action comes from: a file or standard input, JSON or TOML.

use std::path::Path;

use super::{CliError, read_file};
use crate::domain::action_file::{ActionText, MAX_ACTION_FILE_BYTES, Notation};

/// The text of an action file, as it was read.
pub(super) struct ActionSource {
    text: String,
    notation: Notation,
}

impl ActionSource {
    /// Reads a file; `-` is standard input. The end of a file's name tells its notation: `.toml`, or else JSON. What has no
    /// name is told by its content.
    pub(super) fn read(file: &Path) -> Result<ActionSource, CliError> {
        let text = read_file(file, MAX_ACTION_FILE_BYTES)?;
        let is_toml = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("toml"));
        let notation = match is_toml {
            _ if file == Path::new("-") => Notation::of(&text),
            true => Notation::Toml,
            false => Notation::Json,
        };
        Ok(ActionSource { text, notation })
    }

    /// The text with its notation.
    pub(super) fn text(&self) -> ActionText<'_> {
        ActionText { text: &self.text, notation: self.notation }
    }
}
