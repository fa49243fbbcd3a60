//! The key that seals history: its file, and the settings of `run` that name it.

use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::CliError;
use crate::dispatcher::checkpoints::CheckpointDir;
use crate::dispatcher::sealer::{SealKeys, Sealing};
use crate::seal::key::{BadKey, Verifier};
use crate::store::Store;
use crate::vault::{KeyringError, read_private};

/// The largest key file.
const MAX_KEY_BYTES: usize = 64 * 1024;

/// How history is sealed.
#[derive(Args)]
pub(super) struct SealArguments {
    /// Seal history with the key in this file, which `postcall audit new-key` makes: every 15 s, what has ended is hashed into
    /// one tree, whose root is signed, so that `postcall audit verify` names every row that is changed afterwards. The
    /// database user needs the role postcall_sealer. If several dispatchers have the key, one of them seals.
    #[arg(long, env = "POSTCALL_SEAL_KEY_FILE", value_name = "FILE", default_value = "", hide_default_value = true)]
    seal_key_file: String,

    /// Export each signed root (a checkpoint) to this directory, one file a day, which is only ever appended to. Take one that
    /// the database's owner cannot reach: with it, a restored backup is noticed as well.
    #[arg(
        long,
        env = "POSTCALL_CHECKPOINT_DIR",
        value_name = "DIRECTORY",
        default_value = "",
        hide_default_value = true
    )]
    checkpoint_dir: String,
}

impl SealArguments {
    /// What a sealer needs, if history is to be sealed. If there are several databases, each has a directory of its own for its
    /// checkpoints, named after it.
    pub(super) async fn sealing(&self, store: &Store, database: Option<&str>) -> Result<Option<Sealing>, CliError> {
        if self.seal_key_file.is_empty() {
            if self.checkpoint_dir.is_empty() {
                return Ok(None);
            }
            return Err(CliError::Usage(
                "--checkpoint-dir needs --seal-key-file: without a key there are no checkpoints",
            ));
        }
        let keys = Arc::new(keys_in(&self.seal_key_file)?);
        // Checked now, so that the error appears at the start and not in the log.
        if !store.may_seal().await? {
            let words =
                "the database user may not seal history (--seal-key-file): let the owner GRANT postcall_sealer to it";
            return Err(CliError::Problem(words.to_owned()));
        }
        let checkpoints = match self.checkpoint_dir.as_str() {
            "" => None,
            path => {
                let path = database.map_or(Path::new(path).to_owned(), |name| Path::new(path).join(directory_of(name)));
                let opened = CheckpointDir::open(&path);
                Some(opened.map_err(|error| CliError::Problem(told(&path.display().to_string(), &error)))?)
            }
        };
        Ok(Some(Sealing { keys, checkpoints }))
    }
}

/// A name of a directory for a database.
fn directory_of(name: &str) -> String {
    name.replace(['/', ':'], "_")
}

fn told(path: &str, error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("--checkpoint-dir {path} cannot be written{source}. Make the directory, and let this user write to it")
}

/// The keys in a file: the one that signs, and on further lines those that verify what was signed before it.
fn keys_in(path: &str) -> Result<SealKeys, CliError> {
    // Whoever has this key can sign another history.
    let text = read_private(Path::new(path), MAX_KEY_BYTES).map_err(|error| match error {
        KeyringError::Exposed(_) => CliError::Problem(format!(
            "others may read the key that seals, {path}: `chmod 600` it, and make a new key if somebody may have read it"
        )),
        KeyringError::Unreadable { source, .. } => CliError::File { path: path.to_owned(), source },
        _ => CliError::Problem(format!("--seal-key-file {path}: the file is larger than {MAX_KEY_BYTES} bytes")),
    })?;
    let wrong = |error: BadKey| CliError::Problem(format!("--seal-key-file {path}: {error}"));
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let signer = lines.next().unwrap_or_default().parse().map_err(wrong)?;
    let earlier = lines.map(str::parse).collect::<Result<Vec<Verifier>, BadKey>>().map_err(wrong)?;
    Ok(SealKeys { signer, earlier })
}
