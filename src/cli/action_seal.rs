//! `postcall action seal`: encrypts the templates that are stored in clear.

use clap::Args;

use super::key_file::KeyFile;
use super::{CliError, Database, ONE_CONNECTION, print_line};
use crate::domain::sealed_version::NotSealed;
use crate::service::keys;

/// How many versions are sealed between two lines of progress. Each has 192 KiB of templates at most.
const BATCH: i64 = 20;

/// Encrypt (seal) the templates of all versions that are stored in clear, with the first key of the key file.
///
/// From then on, only with the key file can a dispatcher send them and anybody see them: so first give --key-file to every
/// dispatcher and console, and then run this as the owner of the schema, while dispatchers run. If it is interrupted, run it
/// again. Every later version has to be published with the key file. What history proves of a version stays true.
///
/// Copies from before stay readable: old backups, the server's write-ahead log, and the table's file until
/// `VACUUM FULL postcall.action_version`. So change the tokens that stood in clear.
#[derive(Args)]
pub(super) struct SealArguments {
    /// Only the actions of this agent.
    agent: Option<String>,
    #[command(flatten)]
    key_file: KeyFile,
    #[command(flatten)]
    database: Database,
}

impl SealArguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let keyring = self.key_file.required()?;
        let store = self.database.open(ONE_CONNECTION).await?;
        keys::admit(&store, &keyring).await?;
        let (mut done, mut after) = (0, (0, 0));
        loop {
            let batch = store.clear_versions(self.agent.as_deref(), after, BATCH).await?;
            let Some(last) = batch.last() else { break };
            after = (last.action_id, last.version);
            for clear in &batch {
                let sealed = keyring.seal_former(clear.owner(), &clear.content);
                let sealed = sealed.map_err(|error: NotSealed| CliError::Problem(error.to_string()))?;
                done += usize::from(store.seal_version(clear, &sealed).await?);
            }
            eprintln!("{done} versions sealed");
        }
        print_line(&format!(
            "{done} versions are sealed, and none is left in clear. Run VACUUM FULL postcall.action_version, and change the tokens that \
             stood in them: old backups have them"
        ))
    }
}
