//! `postcall audit verify|prove|check|new-key`: history that proves itself.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::check_invariants::NOT_COMPARED;
use super::table::{print_json, time};
use super::{CliError, Database, ONE_CONNECTION, print_line, print_text, read_file};
use crate::dispatcher::checkpoint_outlet::NAME_PREFIX;
use crate::dispatcher::checkpoints::{FILE_PREFIX, FILE_SUFFIX};
use crate::domain::chain::chain;
use crate::domain::visible::visible;
use crate::seal::key::{BadKey, Signer, Verifier};
use crate::seal::note::notes;
use crate::seal::proof::{MAX_PROOF_BYTES, Proof};
use crate::service::seal_prove::{Proving, prove};
use crate::service::seal_verify::{SIDE_BY_SIDE, Verified, Wrong, compare_exported, verify};
use crate::store::Store;

/// The largest key file.
const MAX_KEY_BYTES: usize = 64 * 1024;
/// The largest file of checkpoints: a day has less than 6,000, of some 250 bytes.
const MAX_CHECKPOINTS_BYTES: usize = 64 * 1024 * 1024;
/// What is said to whoever gives the key that signs in the place of the one that verifies.
const KEY_THAT_SIGNS: &str = "--key: this is the key that signs, and it is needed by dispatchers alone: give the one that verifies. Other users of this machine, and its records, may have seen it: make a new key";
/// How many exported checkpoints are compared at once.
const COMPARED_AT_ONCE: usize = 1_000;

/// Make a key that seals history.
///
/// The key that signs is written to FILE, which only its owner can read: give it to the dispatchers
/// (`run --seal-key-file`), and to nobody who may change the database. The key that verifies is
/// printed: give it to everybody who is to verify, by a way that does not lead through the database.
///
/// NAME names the log, such as crm.example/postcall; each database has a name of its own.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct NewKeyArguments {
    /// The name of the log: visible ASCII without +.
    #[arg(value_name = "NAME")]
    name: String,

    /// The file to write, which must not exist.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl NewKeyArguments {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut seed = Zeroizing::new([0; 32]);
        let random = |_| CliError::Problem("the system gives no random bytes".to_owned());
        SystemRandom::new().fill(seed.as_mut_slice()).map_err(random)?;
        let signer = Signer::from_seed(&self.name, &seed).map_err(|error| CliError::WrongUsage(error.to_string()))?;
        let line = Zeroizing::new(format!("{}\n", *signer.text_of(&seed)));
        let path = self.file.display().to_string();
        let mut file = std::fs::OpenOptions::new();
        let written = file
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.file)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        written.map_err(|error| CliError::Problem(format!("cannot write {path}: {error}")))?;
        print_line(&signer.verifier().to_string())
    }
}

/// The keys that verify.
#[derive(Args)]
struct Keys {
    /// The key that verifies, as `postcall audit new-key` printed it, or a file of such lines; may be given more than once.
    #[arg(long = "key", value_name = "KEY|FILE")]
    keys: Vec<String>,
}

impl Keys {
    fn read(&self) -> Result<Vec<Verifier>, CliError> {
        let mut keys = Vec::new();
        for given in &self.keys {
            if let Ok(key) = given.parse() {
                keys.push(key);
                continue;
            }
            // What looks like a key is not taken for the name of a file, and not told: it is perhaps the one that signs.
            if given.contains('+') && !Path::new(given).exists() {
                return Err(CliError::Problem(match given.parse::<Signer>() {
                    Ok(_) => KEY_THAT_SIGNS.to_owned(),
                    Err(_) => format!("--key: {}", BadKey::Verifier),
                }));
            }
            let wrong = |error: BadKey| CliError::Problem(format!("--key {}: {error}", visible(given)));
            let text = read_file(Path::new(given), MAX_KEY_BYTES)?;
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                keys.push(line.parse().map_err(wrong)?);
            }
            // A file that somebody emptied would let everything count as if no key had been asked for.
            if keys.is_empty() {
                return Err(CliError::Problem(format!("--key {}: the file holds no key", visible(given))));
            }
        }
        Ok(keys)
    }
}

/// Verify that history is what was sealed, and name every row that is not.
///
///   altered     a row is not as it was when it was sealed
///   removed     a row that was sealed is not there, and has not left by `postcall prune`
///   inserted    a row was inserted among those that were sealed already
///   forged      a row bears the number of a transaction that has not happened, or none
///   twice       a row was sealed a second time: it is perhaps not as it was the first time
///   log         the log of what was sealed, or a checkpoint, is not what was signed, or was signed by
///               a key that another one had replaced before
///   schema      a view or a function is not the one that was shipped, or rows are hidden: then history
///               is not shown as it is
///
/// Without --key only the log itself is compared with the rows: whoever can change both is not found.
/// Without --checkpoints, a backup that was restored is not found: its log ends earlier, and is whole.
/// So is a log whose end was cut off behind the newest checkpoint that was exported.
/// Rows that are not sealed yet are counted; nothing shows whether they were changed.
///
/// It reads all of history, in portions. Exit status 1 if anything is wrong. The auditor's role
/// suffices.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    keys: Keys,

    /// A directory of exported checkpoints (`run --checkpoint-dir`), a copy of one, or one to which the files of a bucket were
    /// downloaded (`run --checkpoint-url`); may be given more than once.
    #[arg(long = "checkpoints", value_name = "DIRECTORY")]
    checkpoints: Vec<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    database: Database,
}

impl VerifyArguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let keys = self.keys.read()?;
        // One for each portion that is compared, and one for the log.
        let store = self.database.open(SIDE_BY_SIDE as u32 + 1).await?;
        let bar = progress(&store).await?;
        let mut found = verify(&store, &keys, |leaves| bar.inc(leaves)).await?;
        bar.finish_and_clear();
        // Where the log cannot be read, there is nothing to compare them with.
        let directories = if found.rows_are_hidden { &[] } else { self.checkpoints.as_slice() };
        for directory in directories {
            compare_directory(&store, &keys, directory, &mut found).await?;
        }
        found.conclude();
        if self.json {
            print_json(&as_json(&found, !keys.is_empty()))?
        } else {
            print_found(&found, !keys.is_empty())?
        }
        match found.wrong_in_all {
            0 => Ok(()),
            wrong => Err(CliError::Problem(format!("history is not what was sealed: {wrong} findings"))),
        }
    }
}

/// A bar on stderr, if that is a terminal.
async fn progress(store: &Store) -> Result<ProgressBar, CliError> {
    let newest = match store.newest_slice().await {
        // Verifying says so.
        Err(error) if error.hides_rows() => None,
        newest => newest?,
    };
    let leaves = newest.map_or(0, |slice| u64::try_from(slice.size).unwrap_or(0));
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(leaves), target);
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} rows, {eta} left");
    Ok(style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style)))
}

/// Compares the exported checkpoints of a directory with the log.
async fn compare_directory(
    store: &Store,
    keys: &[Verifier],
    directory: &Path,
    found: &mut Verified,
) -> Result<(), CliError> {
    let unreadable = |source| CliError::File { path: directory.display().to_string(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if [FILE_PREFIX, NAME_PREFIX].iter().any(|prefix| name.starts_with(prefix)) && name.ends_with(FILE_SUFFIX) {
            files.push(name);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CliError::Problem(format!(
            "{} holds no checkpoints ({FILE_PREFIX}…{FILE_SUFFIX} or {NAME_PREFIX}…{FILE_SUFFIX})",
            directory.display()
        )));
    }
    for name in files {
        let text = read_file(&directory.join(&name), MAX_CHECKPOINTS_BYTES)?;
        let place: Arc<str> = name.into();
        for notes in notes(&text).chunks(COMPARED_AT_ONCE) {
            compare_exported(store, keys, &place, notes, found).await?;
        }
    }
    Ok(())
}

fn print_found(found: &Verified, signed: bool) -> Result<(), CliError> {
    for (word, what) in found.wrong.iter().map(Wrong::words) {
        print_line(&format!("{word:<9} {what}"))?;
    }
    if found.wrong_in_all > found.wrong.len() as u64 {
        print_line(&format!("… and {} more", found.wrong_in_all - found.wrong.len() as u64))?;
    }
    if found.rows_are_hidden {
        return print_line("nothing else was verified: rows are hidden from this database user");
    }
    let signatures = match found.signatures {
        _ if !signed => "whose signatures were not verified (--key)".to_owned(),
        all if all == found.checkpoints => "whose signatures were verified".to_owned(),
        some => format!("of which {some} have a signature of --key"),
    };
    let newest = found.sealed_at.map_or_else(|| "never".to_owned(), time);
    print_line(&format!(
        "{} rows are sealed, in {} checkpoints {signatures}; the newest: {newest}",
        found.sealed, found.checkpoints
    ))?;
    if found.exported > 0 {
        let behind = match found.sealed.saturating_sub(found.exported_leaves) {
            0 => String::new(),
            some => format!(": only the log says that the {some} sealed rows behind it are all that were sealed"),
        };
        print_line(&format!(
            "{} exported checkpoints were compared; the newest is of {} rows{behind}",
            found.exported, found.exported_leaves
        ))?;
    }
    if found.left > 0 {
        let begins = found.history_begins.map_or_else(|| "never".to_owned(), time);
        print_line(&format!("{} sealed rows have left with old history, which begins {begins}", found.left))?;
        if found.older_are_there {
            print_line(
                "  older deliveries are there all the same: rows left the default partition only, or removing goes on at this moment, or somebody chose what to remove",
            )?;
        }
    }
    let age = found
        .oldest_unsealed
        .map(|age| format!(", the oldest written {} s ago", age.num_seconds()))
        .unwrap_or_default();
    if !found.definitions_compared {
        print_line(NOT_COMPARED)?;
    }
    print_line(&format!("{} rows are not sealed yet{age}", found.unsealed))
}

fn as_json(found: &Verified, signed: bool) -> serde_json::Value {
    let wrong: Vec<_> =
        found.wrong.iter().map(Wrong::words).map(|(is, what)| json!({"is": is, "what": what})).collect();
    json!({
        "sealed": found.sealed,
        "checkpoints": found.checkpoints,
        "signatures_verified": signed && found.signatures == found.checkpoints && !found.rows_are_hidden,
        "signed_by_key": found.signatures,
        "rows_are_hidden": found.rows_are_hidden,
        "exported": found.exported,
        "exported_leaves": found.exported_leaves,
        "newest": found.sealed_at.map(time),
        "left": found.left,
        "history_begins": found.history_begins.map(time),
        "older_are_there": found.older_are_there,
        "definitions_compared": found.definitions_compared,
        "unsealed": found.unsealed,
        "oldest_unsealed_s": found.oldest_unsealed.map(|age| age.num_seconds()),
        "findings": found.wrong_in_all,
        "named": wrong,
    })
}

/// Write a proof that a delivery's row is the one that was sealed, as JSON.
///
/// It holds the row, its place in the log, the path to the root, and the newest signed checkpoint.
/// It stays valid when the row has left with old history, so make it before. Reads a bounded part of
/// history. The auditor's role suffices.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ProveArguments {
    /// The delivery.
    #[arg(value_name = "DELIVERY_ID")]
    delivery_id: Uuid,

    #[command(flatten)]
    database: Database,
}

impl ProveArguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.database.open(ONE_CONNECTION).await?;
        let problem = match prove(&store, self.delivery_id).await? {
            Proving::Proved(proof) => {
                let text = serde_json::to_string(&proof).map_err(|error| CliError::Output(error.into()))?;
                return print_text(&text);
            }
            Proving::NoSuchDelivery => {
                "history has no such delivery: it waits or is in flight, or has left, or never was"
            }
            Proving::NotSealed => {
                "this delivery is not sealed yet: that takes less than a minute, if a dispatcher runs with --seal-key-file"
            }
            Proving::Differs => {
                "the row, or the log, is not what was sealed: `postcall audit verify` says what is wrong"
            }
        };
        Err(CliError::Problem(problem.to_owned()))
    }
}

/// Check a proof that `postcall audit prove` wrote. Needs no database.
///
/// Prints the row and the checkpoint that covers it. Exit status 1 if the proof does not hold under
/// the key.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CheckArguments {
    /// The file; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The key that verifies, or a file of such lines; may be given more than once.
    #[arg(long = "key", value_name = "KEY|FILE", required = true)]
    keys: Vec<String>,
}

impl CheckArguments {
    pub(super) fn run(self) -> Result<(), CliError> {
        let keys = Keys { keys: self.keys }.read()?;
        let text = read_file(&self.file, MAX_PROOF_BYTES)?;
        let proved = Proof::parse(&text).and_then(|proof| proof.check(&keys));
        let proved =
            proved.map_err(|error| CliError::Problem(format!("the proof does not hold: {}", chain(&error))))?;
        print_json(&json!({
            "kind": proved.kind,
            "row": proved.row,
            "leaf": proved.index,
            "checkpoint": {"size": proved.checkpoint.size, "root": hex::encode(proved.checkpoint.root)},
        }))
    }
}
