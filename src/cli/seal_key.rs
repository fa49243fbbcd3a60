//! The key that seals history: its file, and the settings of `run` that name it.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;

use super::CliError;
use super::private_file::private;
use crate::dispatcher::checkpoint_outlet::{CheckpointOutlet, MAX_HEADERS_BYTES, headers_in};
use crate::dispatcher::checkpoint_stamper::TimestampAuthority;
use crate::dispatcher::checkpoints::CheckpointDir;
use crate::dispatcher::sealer::{SealKeys, Sealing};
use crate::operator::{Address, NotAnAddress};
use crate::seal::key::{BadKey, Verifier};
use crate::store::Store;
use crate::webhook;

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

    /// Export each checkpoint to this URL as well, which the database's owner cannot reach either. If its path ends with /, such as
    /// `https://bucket.example/postcall/`, each is put below it as a file of its own, if there is none of that name (If-None-Match: *);
    /// otherwise each is posted to it. What does not get there is exported later; sealing and deliveries go on. The URL does not pass
    /// the rules for targets.
    #[arg(long, env = "POSTCALL_CHECKPOINT_URL", value_name = "URL", default_value = "", hide_default_value = true)]
    checkpoint_url: GivenUrl,

    /// A file with headers for --checkpoint-url, one `name: value` a line, such as one that proves who asks. Nobody but its owner may
    /// read it. It is read at the start.
    #[arg(
        long,
        env = "POSTCALL_CHECKPOINT_HEADERS_FILE",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    checkpoint_headers_file: String,

    /// Have the newest checkpoint timestamped by this authority (RFC 3161), every 5 minutes at most; `openssl ts -verify` verifies what is kept
    /// beside the checkpoints. It needs a directory or a URL for them. The URL does not pass the rules for targets.
    #[arg(long, env = "POSTCALL_TIMESTAMP_URL", value_name = "URL", default_value = "", hide_default_value = true)]
    timestamp_url: GivenUrl,
}

/// Where checkpoints go besides the directory, for all databases.
#[derive(Clone)]
pub(super) struct Elsewhere {
    outlet: Option<CheckpointOutlet>,
    authority: Option<Arc<TimestampAuthority>>,
}

/// A URL, if one is given. An empty text means none, because an unset variable in a compose file is empty.
#[derive(Clone, Debug)]
struct GivenUrl(Option<Address>);

impl FromStr for GivenUrl {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<GivenUrl, NotAnAddress> {
        if text.is_empty() { Ok(GivenUrl(None)) } else { text.parse().map(|url| GivenUrl(Some(url))) }
    }
}

impl SealArguments {
    /// Whether history is to be sealed.
    pub(super) fn is_asked_for(&self) -> bool {
        !self.seal_key_file.is_empty()
    }

    /// Where checkpoints go besides the directory. Certificates are checked as those of receivers, with `ca_file`.
    pub(super) fn elsewhere(&self, ca_file: Option<&Path>) -> Result<Elsewhere, CliError> {
        let outlet = self.outlet(ca_file)?;
        let Some(address) = self.timestamp_url.0.clone() else { return Ok(Elsewhere { outlet, authority: None }) };
        if outlet.is_none() && self.checkpoint_dir.is_empty() {
            let words = "--timestamp-url needs --checkpoint-dir or --checkpoint-url, where timestamps are kept";
            return Err(CliError::Usage(words));
        }
        let tls = if address.is_tls() { Some(webhook::tls_config(ca_file)?) } else { None };
        Ok(Elsewhere { outlet, authority: Some(Arc::new(TimestampAuthority::new(address, tls))) })
    }

    fn outlet(&self, ca_file: Option<&Path>) -> Result<Option<CheckpointOutlet>, CliError> {
        let path = self.checkpoint_headers_file.as_str();
        let Some(url) = self.checkpoint_url.0.clone() else {
            let words = "--checkpoint-headers-file needs --checkpoint-url: nobody else gets these headers";
            return if path.is_empty() { Ok(None) } else { Err(CliError::Usage(words)) };
        };
        if self.seal_key_file.is_empty() {
            let words = "--checkpoint-url needs --seal-key-file: without a key there are no checkpoints";
            return Err(CliError::Usage(words));
        }
        let headers = match path {
            "" => http::HeaderMap::new(),
            path => {
                let text = private(path, ("--checkpoint-headers-file", "the file of headers"), MAX_HEADERS_BYTES)?;
                let wrong = |error| CliError::Problem(format!("--checkpoint-headers-file {path}: {error}"));
                headers_in(&text).map_err(wrong)?
            }
        };
        let tls = if url.is_tls() { Some(webhook::tls_config(ca_file)?) } else { None };
        Ok(Some(CheckpointOutlet::new(url, headers, tls)))
    }

    /// What a sealer needs, if history is to be sealed. If there are several databases, each has a directory of its own for its
    /// checkpoints, named after it, and such a path below the URL.
    pub(super) async fn sealing(
        &self,
        store: &Store,
        database: Option<&str>,
        elsewhere: &Elsewhere,
    ) -> Result<Option<Sealing>, CliError> {
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
        let outlet = elsewhere.outlet.as_ref().map(|outlet| match database {
            None => outlet.clone(),
            Some(name) => outlet.of_database(directory_of(name)),
        });
        let authority = elsewhere.authority.clone();
        Ok(Some(Sealing { keys, checkpoints, outlet: outlet.map(Arc::new), authority }))
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
    let text = private(path, ("--seal-key-file", "the key that seals"), MAX_KEY_BYTES)?;
    let wrong = |error: BadKey| CliError::Problem(format!("--seal-key-file {path}: {error}"));
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let signer = lines.next().unwrap_or_default().parse().map_err(wrong)?;
    let earlier = lines.map(str::parse).collect::<Result<Vec<Verifier>, BadKey>>().map_err(wrong)?;
    Ok(SealKeys { signer, earlier })
}
