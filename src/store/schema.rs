//! The schema: its migrations, and whether this program and the database agree on it.

use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, Migrator};
use sqlx::{PgConnection, Row};

use super::obstacles::{self, Elsewhere, Obstacle};
use super::{Store, StoreError, settings};

/// The migrations in `migrations/`, compiled in. `sqlx.toml` names the schema and the ledger (sqlx's table of applied
/// migrations); sqlx-cli reads it, too.
static MIGRATIONS: Migrator = sqlx::migrate!();

/// The statements of all migrations that lead up, in their order.
pub(super) fn up_migrations() -> impl Iterator<Item = &'static str> {
    MIGRATIONS
        .iter()
        .filter(|migration| migration.migration_type.is_up_migration())
        .map(|migration| migration.sql.as_str())
}

/// How long one statement of a migration may take: some migrations rewrite all rows in `waiting`.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3_600);

/// How often a migration is tried at most if it is the victim of a deadlock.
const MOST_TRIES: u32 = 20;
/// SQLSTATE deadlock_detected.
const DEADLOCK: &str = "40P01";
/// SQLSTATE lock_not_available.
const LOCK_TIMEOUT: &str = "55P03";

/// How the database's schema relates to the one this program was built for.
#[derive(Debug, PartialEq, Eq)]
pub enum SchemaVersion {
    /// Program and database have the same migrations.
    Current,
    /// The database lacks this many migrations.
    Older {
        /// How many are missing.
        missing: usize,
    },
    /// The database has migrations that this program does not know.
    Newer {
        /// How many are unknown.
        unknown: usize,
    },
    /// A migration was changed after it was applied, or was only partly applied.
    Different {
        /// Its version number.
        version: i64,
    },
    /// Migrations that our ledger lacks were applied under another ledger.
    Elsewhere(Elsewhere),
}

/// A migration that [`Store::migrate`] applied.
#[derive(Debug)]
pub struct Applied {
    /// Its version number.
    pub version: i64,
    /// The description in its file name.
    pub description: String,
}

impl SchemaVersion {
    /// Whether no migration was applied: the schema does not exist.
    pub fn is_none(&self) -> bool {
        matches!(self, SchemaVersion::Older { missing } if *missing == known().count())
    }
}

impl Store {
    /// Applies all missing migrations and returns them; none if the schema was current. If two programs do this at the
    /// same time, one waits for the other.
    ///
    /// # Errors
    /// [`StoreError::Obstacle`] before anything changes, if something prevents the migrations. A migration that fails
    /// is rolled back, and those before it stay: a repetition continues from there.
    pub async fn migrate(&self) -> Result<Vec<Applied>, StoreError> {
        let obstacle = obstacles::find(&mut *self.pool.acquire().await?).await?;
        if let Some(obstacle) = obstacle {
            return Err(obstacle.into());
        }
        match self.schema_version().await? {
            // Then nothing need be locked.
            SchemaVersion::Current => return Ok(Vec::new()),
            SchemaVersion::Elsewhere(elsewhere) => return Err(Obstacle::LedgerElsewhere(elsewhere).into()),
            _ => {}
        }
        let mut connection = self.pool.acquire().await?;
        let before = self.applied_versions(&mut connection).await?;
        settings::set_statement_timeout(&mut connection, STATEMENT_TIMEOUT).await?;
        apply(&mut connection).await?;
        Ok(MIGRATIONS
            .iter()
            .filter(|migration| migration.migration_type.is_up_migration() && !before.contains(&migration.version))
            .map(|migration| Applied { version: migration.version, description: migration.description.to_string() })
            .collect())
    }

    /// Compares the ledger with the compiled-in migrations. Changes nothing.
    ///
    /// # Errors
    /// Returns the database's error. A missing ledger is not an error: it means an old schema.
    pub async fn schema_version(&self) -> Result<SchemaVersion, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let applied = if has_ledger(&mut connection).await? {
            if let Some(version) = connection.dirty_version(&MIGRATIONS.table_name).await? {
                return Ok(SchemaVersion::Different { version });
            }
            connection.list_applied_migrations(&MIGRATIONS.table_name).await?
        } else {
            Vec::new()
        };
        let unknown = applied.iter().filter(|row| !known().any(|migration| migration.version == row.version)).count();
        if unknown > 0 {
            return Ok(SchemaVersion::Newer { unknown });
        }
        let altered = |row: &&AppliedMigration| {
            known().any(|migration| migration.version == row.version && migration.checksum != row.checksum)
        };
        if let Some(row) = applied.iter().find(altered) {
            return Ok(SchemaVersion::Different { version: row.version });
        }
        let missing: Vec<(i64, &[u8])> = known()
            .filter(|migration| !applied.iter().any(|row| row.version == migration.version))
            .map(|migration| (migration.version, &*migration.checksum))
            .collect();
        if missing.is_empty() {
            return Ok(SchemaVersion::Current);
        }
        Ok(match obstacles::find_elsewhere(&mut connection, &missing).await? {
            Some(elsewhere) => SchemaVersion::Elsewhere(elsewhere),
            None => SchemaVersion::Older { missing: missing.len() },
        })
    }

    async fn applied_versions(&self, connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
        if !has_ledger(connection).await? {
            return Ok(Vec::new());
        }
        let applied = connection.list_applied_migrations(&MIGRATIONS.table_name).await?;
        Ok(applied.into_iter().map(|migration| migration.version).collect())
    }
}

async fn has_ledger(connection: &mut PgConnection) -> Result<bool, StoreError> {
    // to_regclass returns null instead of failing if schema or table are missing. The table is sqlx's own. It is not
    // part of the schema that sqlx checks, so the macro cannot be used.
    let row = sqlx::query("SELECT to_regclass($1) IS NOT NULL")
        .bind(MIGRATIONS.table_name.as_ref())
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}

/// Applies the missing migrations. A migration that is the victim of a deadlock (for example with a claim, which locks
/// the same tables in another order) was rolled back, and is tried again.
async fn apply(connection: &mut PgConnection) -> Result<(), StoreError> {
    let migrator = migrator(connection).await?;
    let mut tries = 1..MOST_TRIES;
    loop {
        match migrator.run(&mut *connection).await {
            Err(MigrateError::ExecuteMigration(cause, _)) if has_code(&cause, DEADLOCK) && tries.next().is_some() => {}
            Err(MigrateError::ExecuteMigration(cause, version))
                if has_code(&cause, LOCK_TIMEOUT) || has_code(&cause, DEADLOCK) =>
            {
                return Err(StoreError::TableInUse(version));
            }
            result => return Ok(result?),
        }
    }
}

/// The migrations, ready to be applied. If the schema exists, they do not try to create it: even `IF NOT EXISTS` needs
/// the right to create schemas, which the owner of this schema need not have.
async fn migrator(connection: &mut PgConnection) -> Result<Migrator, StoreError> {
    // Reads only the catalog.
    let there = sqlx::query_scalar!(r#"SELECT to_regnamespace('postcall') IS NOT NULL AS "there!""#)
        .fetch_one(connection)
        .await?;
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
    migrator.dangerous_set_table_name(MIGRATIONS.table_name.clone());
    if !there {
        migrator.create_schema("postcall");
    }
    Ok(migrator)
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().is_some_and(|reported| reported.code().as_deref() == Some(code))
}

/// The up migrations, without the down migrations.
fn known() -> impl Iterator<Item = &'static Migration> {
    MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration())
}
