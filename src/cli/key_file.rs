//! The argument that names the key file. Commands that seal or open secrets share it.

use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::CliError;
use crate::service::examination::Storage;
use crate::store::Store;
use crate::vault::Keyring;

/// Where the keys are.
#[derive(Args)]
pub(super) struct KeyFile {
    /// The key file, with which secrets and the templates of actions are encrypted: `postcall-key-1:…`, one key a line, the first one encrypts. Nobody
    /// but its owner may read it. `postcall secret new-key` makes a key.
    #[arg(long, env = "POSTCALL_KEY_FILE", value_name = "FILE", default_value = "", hide_default_value = true)]
    key_file: String,
}

impl KeyFile {
    /// The keys, if a file is named. An unset variable in a compose file is empty.
    pub(super) fn keyring(&self) -> Result<Option<Keyring>, CliError> {
        if self.key_file.is_empty() {
            return Ok(None);
        }
        Ok(Some(Keyring::read(Path::new(&self.key_file))?))
    }

    /// How templates are stored that are published with it: sealed, if a file is named.
    pub(super) fn storage(&self) -> Storage {
        Storage::with_key_file(!self.key_file.is_empty())
    }

    /// The same database, by a handle that seals and opens templates with the keys, if a file is named.
    pub(super) fn with_keys(&self, store: Store) -> Result<Store, CliError> {
        Ok(store.with_keys(self.keyring()?.map(Arc::new)))
    }

    /// The keys.
    pub(super) fn required(&self) -> Result<Keyring, CliError> {
        self.keyring()?.ok_or_else(|| {
            CliError::Problem(
                "this needs the key file: name it with --key-file or POSTCALL_KEY_FILE (`postcall secret new-key` makes \
                 a key)"
                    .to_owned(),
            )
        })
    }
}
