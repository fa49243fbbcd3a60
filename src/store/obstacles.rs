//! Finds what prevents migrations from being applied to a database, before anything is changed, and says how to fix it.

use std::fmt;

use sqlx::PgConnection;

use super::{Store, StoreError};

/// The roles to which the migrations grant rights. The migrations create a missing role if the user may create roles.
const ROLES: [&str; 7] = [
    "postcall_platform",
    "postcall_dispatcher",
    "postcall_publisher",
    "postcall_auditor",
    "postcall_console_viewer",
    "postcall_console_operator",
    "postcall_sealer",
];

/// Why this user cannot apply migrations to this database now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The server is a standby that follows another server.
    Standby,
    /// There is no schema, and the user may not create one.
    MayNotCreateSchema {
        /// The user.
        user: String,
        /// The database.
        database: String,
    },
    /// The schema exists. It belongs neither to the user nor to a role of which the user is a member.
    SchemaOfAnother {
        /// The user.
        user: String,
        /// The schema's owner.
        owner: String,
    },
    /// Roles are missing, and the user may not create roles.
    MissingRoles {
        /// The user.
        user: String,
        /// The missing roles.
        roles: Vec<String>,
    },
    /// Migrations of this program were applied under another ledger.
    LedgerElsewhere(Elsewhere),
}

/// Migrations that are in another ledger (sqlx's table of applied migrations), and not in ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The other ledger, with its schema, quoted as SQL needs it.
    pub ledger: String,
    /// The migrations' version numbers.
    pub versions: Vec<i64>,
}

/// What the check reads about the user and the database.
struct Situation {
    user: String,
    database: String,
    standby: bool,
    may_create_schema: bool,
    may_create_roles: bool,
    owner: Option<String>,
    owns_schema: bool,
    missing_roles: Vec<String>,
}

impl Situation {
    fn obstacle(self) -> Option<Obstacle> {
        let Situation { user, database, owner, missing_roles: roles, .. } = self;
        match owner {
            _ if self.standby => Some(Obstacle::Standby),
            Some(owner) if !self.owns_schema => Some(Obstacle::SchemaOfAnother { user, owner }),
            None if !self.may_create_schema => Some(Obstacle::MayNotCreateSchema { user, database }),
            _ if !roles.is_empty() && !self.may_create_roles => Some(Obstacle::MissingRoles { user, roles }),
            _ => None,
        }
    }
}

/// The first obstacle that keeps this connection's user from applying migrations; `None` if it seems that they can be
/// applied.
pub(super) async fn find(connection: &mut PgConnection) -> Result<Option<Obstacle>, StoreError> {
    let wanted = ROLES.map(str::to_owned);
    // One statement for everything about the user and the catalog. USAGE on a role means that the user has its rights
    // by membership; superusers have USAGE on all roles.
    let situation = sqlx::query_as!(
        Situation,
        r#"
        SELECT current_user::text AS "user!", current_database()::text AS "database!",
               pg_is_in_recovery() AS "standby!",
               has_database_privilege(current_database(), 'CREATE') AS "may_create_schema!",
               (SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user)
                   AS "may_create_roles!",
               pg_get_userbyid(nspowner)::text AS owner,
               coalesce(pg_has_role(nspowner, 'USAGE'), false) AS "owns_schema!",
               ARRAY(SELECT wanted FROM unnest($1::text[]) AS wanted
                     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted)) AS "missing_roles!"
        FROM (VALUES (1)) AS always LEFT JOIN pg_catalog.pg_namespace ON nspname = 'postcall'
        "#,
        &wanted,
    )
    .fetch_one(connection)
    .await?;
    Ok(situation.obstacle())
}

impl Store {
    /// Whether the server follows another one, so that nothing can be written.
    pub async fn is_standby(&self) -> Result<bool, StoreError> {
        // Reads a state of the server; no table is used.
        Ok(sqlx::query_scalar!(r#"SELECT pg_is_in_recovery() AS "standby!""#).fetch_one(&self.pool).await?)
    }
}

/// Looks for a ledger of sqlx outside of postcall's schema that says that some of `ours` (versions and checksums that
/// our own ledger does not hold) were applied. A ledger of the platform, with the platform's own migrations, does not
/// match.
pub(super) async fn find_elsewhere(
    connection: &mut PgConnection,
    ours: &[(i64, &[u8])],
) -> Result<Option<Elsewhere>, StoreError> {
    // sqlx's table in any other schema, if this user may read it.
    let ledgers = sqlx::query_scalar!(
        r#"
        SELECT format('%I.%I', nspname, relname) AS "ledger!"
        FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relname = '_sqlx_migrations' AND relkind = 'r' AND nspname <> 'postcall'
          AND has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(pg_class.oid, 'SELECT')
        ORDER BY nspname
        "#
    )
    .fetch_all(&mut *connection)
    .await?;
    let (versions, checksums): (Vec<i64>, Vec<&[u8]>) = ours.iter().copied().unzip();
    for ledger in ledgers {
        // The name comes from the catalog, quoted by the server. The table is not part of the schema that sqlx checks,
        // so the macro cannot be used.
        let sql = format!(
            "SELECT theirs.version FROM {ledger} AS theirs
             JOIN unnest($1::bigint[], $2::bytea[]) AS ours (version, checksum)
                 ON ours.version = theirs.version AND ours.checksum = theirs.checksum
             WHERE theirs.success ORDER BY theirs.version"
        );
        let versions: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(&versions)
            .bind(&checksums)
            .fetch_all(&mut *connection)
            .await?;
        if !versions.is_empty() {
            return Ok(Some(Elsewhere { ledger, versions }));
        }
    }
    Ok(None)
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Standby => formatter.write_str("this server is a standby: use the server that it follows"),
            Obstacle::MayNotCreateSchema { user, database } => write!(
                formatter,
                "the user {user} may not create the schema postcall in the database {database}. Let its owner or a \
                 superuser run:\n  CREATE SCHEMA postcall AUTHORIZATION \"{user}\";"
            ),
            Obstacle::SchemaOfAnother { user, owner } => write!(
                formatter,
                "the schema postcall belongs to {owner}, and {user} is not a member of that role. Migrate as {owner}, or, if \
                 the schema is empty and stands there by mistake, let a superuser run:\n  ALTER SCHEMA postcall OWNER TO \
                 \"{user}\";"
            ),
            Obstacle::MissingRoles { user, roles } => {
                write!(
                    formatter,
                    "the user {user} may not create roles, and some are missing. Let a superuser, or a role with CREATEROLE, \
                     run this first, then migrate again:"
                )?;
                roles.iter().try_for_each(|role| write!(formatter, "\n  CREATE ROLE {role} NOLOGIN;"))
            }
            Obstacle::LedgerElsewhere(elsewhere) => elsewhere.fmt(formatter),
        }
    }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ledger, count) = (&self.ledger, self.versions.len());
        let versions: Vec<String> = self.versions.iter().map(i64::to_string).collect();
        let versions = versions.join(", ");
        write!(
            formatter,
            "{count} of this program's migrations were applied under another ledger, {ledger}, and not under \
             postcall._sqlx_migrations: sqlx was run outside of the repository's root, where it does not find sqlx.toml. \
             Nothing is wrong with the schema itself. Move them, as the owner of both tables, then migrate again:\n  \
             BEGIN;\n  \
             CREATE TABLE IF NOT EXISTS postcall._sqlx_migrations (LIKE {ledger} INCLUDING ALL);\n  \
             WITH moved AS (DELETE FROM {ledger} WHERE version IN ({versions}) RETURNING *)\n  \
             INSERT INTO postcall._sqlx_migrations SELECT * FROM moved ON CONFLICT DO NOTHING;\n  \
             COMMIT;"
        )
    }
}
