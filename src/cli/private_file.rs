//! Files with what nobody else may know, which settings name.

use std::path::Path;

use zeroize::Zeroizing;

use super::CliError;
use crate::vault::{KeyringError, read_private};

/// The text of a file that nobody but its owner may read: which setting names it, and what it is.
pub(super) fn private(path: &str, (setting, what): (&str, &str), most: usize) -> Result<Zeroizing<String>, CliError> {
    read_private(Path::new(path), most).map_err(|error| match error {
        KeyringError::Exposed(_) => CliError::Problem(format!(
            "others may read {what}, {path}: `chmod 600` it, and make a new one if somebody may have read it"
        )),
        KeyringError::NotAFile => CliError::Problem(format!("{setting}: {}", KeyringError::NotAFile)),
        KeyringError::Unreadable { source, .. } => CliError::File { path: path.to_owned(), source },
        _ => CliError::Problem(format!("{setting} {path}: the file is larger than {most} bytes")),
    })
}
