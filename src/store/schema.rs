//! The schema: its migrations, and whether this program and the database agree on it.

use sqlx::Row;
use sqlx::migrate::{Migrate, Migrator};

use super::{Store, StoreError};

/// The migrations in `migrations/`, built in. Ledger and schema are named in `sqlx.toml`, which sqlx-cli reads too.
static MIGRATIONS: Migrator = sqlx::migrate!();

/// How the database's schema relates to the one this program was built for.
#[derive(Debug, PartialEq, Eq)]
pub enum SchemaVersion {
    /// They agree.
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
    /// A migration was changed after it was applied, or was left half applied.
    Different {
        /// Its version number.
        version: i64,
    },
}

/// A migration that was applied just now.
#[derive(Debug)]
pub struct Applied {
    /// Its version number.
    pub version: i64,
    /// What it is about.
    pub description: String,
}

impl Store {
    /// Applies all migrations that are missing and returns them; none if the schema was current.
    ///
    /// # Errors
    /// A migration that fails is rolled back, and those before it stay.
    pub async fn migrate(&self) -> Result<Vec<Applied>, StoreError> {
        let before = self.applied_versions().await?;
        MIGRATIONS.run(&self.pool).await?;
        Ok(MIGRATIONS
            .iter()
            .filter(|migration| migration.migration_type.is_up_migration() && !before.contains(&migration.version))
            .map(|migration| Applied { version: migration.version, description: migration.description.to_string() })
            .collect())
    }

    /// Compares the ledger with the migrations built in. Changes nothing.
    ///
    /// # Errors
    /// Only those of the database; a missing ledger is an old schema.
    pub async fn schema_version(&self) -> Result<SchemaVersion, StoreError> {
        if !self.has_ledger().await? {
            return Ok(SchemaVersion::Older { missing: known_versions().count() });
        }
        let mut connection = self.pool.acquire().await?;
        if let Some(version) = connection.dirty_version(&MIGRATIONS.table_name).await? {
            return Ok(SchemaVersion::Different { version });
        }
        let applied = connection.list_applied_migrations(&MIGRATIONS.table_name).await?;
        let unknown = applied.iter().filter(|row| !known_versions().any(|version| version == row.version)).count();
        if unknown > 0 {
            return Ok(SchemaVersion::Newer { unknown });
        }
        for row in &applied {
            let same = |migration: &&sqlx::migrate::Migration| {
                migration.version == row.version && migration.migration_type.is_up_migration()
            };
            if MIGRATIONS.iter().find(same).is_some_and(|migration| migration.checksum != row.checksum) {
                return Ok(SchemaVersion::Different { version: row.version });
            }
        }
        match known_versions().count() - applied.len() {
            0 => Ok(SchemaVersion::Current),
            missing => Ok(SchemaVersion::Older { missing }),
        }
    }

    async fn applied_versions(&self) -> Result<Vec<i64>, StoreError> {
        if !self.has_ledger().await? {
            return Ok(Vec::new());
        }
        let mut connection = self.pool.acquire().await?;
        let applied = connection.list_applied_migrations(&MIGRATIONS.table_name).await?;
        Ok(applied.into_iter().map(|migration| migration.version).collect())
    }

    async fn has_ledger(&self) -> Result<bool, StoreError> {
        // to_regclass answers null instead of failing where schema or table are missing. The table is sqlx's, so it is
        // not part of the checked schema: hence no macro.
        let row = sqlx::query("SELECT to_regclass($1) IS NOT NULL")
            .bind(MIGRATIONS.table_name.as_ref())
            .fetch_one(&self.pool)
            .await?;
        Ok(row.try_get(0)?)
    }
}

fn known_versions() -> impl Iterator<Item = i64> {
    MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration()).map(|migration| migration.version)
}
