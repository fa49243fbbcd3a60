//! `postcall migrate`: applies missing migrations, with the same files and ledger as sqlx-cli.

use clap::Args;

use super::databases::{Databases, Heads};
use super::{CliError, ONE_CONNECTION, print_line};
use crate::store::Store;
use crate::store::schema::SchemaVersion;

/// Bring the database's schema up to date.
///
/// Applies the missing migrations, from the same files and with the same ledger (postcall._sqlx_migrations) as
/// `sqlx migrate run`; either continues where the other stopped. To go back, use `sqlx migrate revert`. If something prevents
/// the migrations, the command says so before anything changes, and prints the statements that help.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    databases: Databases,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        self.databases
            .each(Heads::Shown, async |database, _| migrate(&database.connect(ONE_CONNECTION).await?).await)
            .await
    }
}

async fn migrate(store: &Store) -> Result<(), CliError> {
    let applied = store.migrate().await?;
    for migration in &applied {
        print_line(&format!("applied {} {}", migration.version, migration.description))?;
    }
    if applied.is_empty() {
        print_line("the schema is up to date")?;
    }
    Ok(())
}

/// Returns an error if the schema is not the one that this program was built for.
pub(super) async fn require_current(store: &Store) -> Result<(), CliError> {
    let version = store.schema_version().await.map_err(|error| match error {
        // Nobody migrates here, so the driver's words about migrations would mislead.
        error if error.is_forbidden() => CliError::NoRole,
        error => error.into(),
    })?;
    let problem = match version {
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
            "migration {version} in the database is not the one in this program, or was only partly applied. Compare with \
             `sqlx migrate info`"
        ),
        SchemaVersion::Elsewhere(elsewhere) => elsewhere.to_string(),
    };
    Err(CliError::Problem(problem))
}
