//! `postcall migrate`: brings the schema up to this program, by the same files and ledger as sqlx-cli.

use clap::Args;

use super::{CliError, Database, ONE_CONNECTION, print_line};
use crate::store::Store;
use crate::store::schema::SchemaVersion;

/// Bring the database's schema up to date.
///
/// Applies the migrations that are missing, from the same files and to the same ledger
/// (postcall._sqlx_migrations) as `sqlx migrate run`; either continues where the other stopped.
/// To go back, use `sqlx migrate revert`. What keeps migrations from being applied is said before anything
/// changes, with the statements that help.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: Database,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.database.connect(ONE_CONNECTION).await?;
        let applied = store.migrate().await?;
        for migration in &applied {
            print_line(&format!("applied {} {}", migration.version, migration.description))?;
        }
        if applied.is_empty() {
            print_line("the schema is up to date")?;
        }
        Ok(())
    }
}

/// Refuses a schema that this program was not built for.
pub(super) async fn require_current(store: &Store) -> Result<(), CliError> {
    let problem = match store.schema_version().await? {
        SchemaVersion::Current => return Ok(()),
        SchemaVersion::Older { missing } => {
            format!(
                "the database's schema is older than this program: {missing} migrations are missing. Run `postcall migrate`"
            )
        }
        SchemaVersion::Newer { unknown } => format!(
            "the database's schema is newer than this program: it has {unknown} migrations that this program does not \
             know. Install a newer postcall"
        ),
        SchemaVersion::Different { version } => format!(
            "migration {version} in the database is not the one in this program, or was left half applied. Compare with \
             `sqlx migrate info`"
        ),
        SchemaVersion::Elsewhere(elsewhere) => elsewhere.to_string(),
    };
    Err(CliError::Problem(problem))
}
