//! The settings of every session. Any of them could have another default on this server, in this database or for this
//! role. Most of these defaults would then stop a dispatcher or slow it down by accident.

use std::time::Duration;

use sqlx::PgConnection;

/// Settings of every postcall session. A setting that the server does not know is skipped.
const OF_ALL: &[(&str, &str)] = &[
    // If a crash could lose a committed claim, its delivery would be sent twice, so the commit must be on disk. The
    // stricter remote_apply is not changed.
    ("synchronous_commit", "on"),
    // Statements are written for READ COMMITTED: each sees what was committed before it. A transaction that needs more
    // sets its own level.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // Set only where read-only is the role's default. If a database or a server is read-only, that is intended (a full
    // disk at a hosting provider, maintenance), and postcall waits until it ends. A standby stays read-only in any
    // case.
    ("default_transaction_read_only", "off"),
    // Idle connections are intended, and the time of a statement has one limit, which is set separately (see `LIMITS`).
    ("idle_session_timeout", "0"),
    ("lock_timeout", "0"),
    ("transaction_timeout", "0"),
    ("exit_on_error", "off"),
    // In milliseconds. A client that was stopped in the middle of a large answer would hold its locks for as long as it
    // is stopped. With this setting, the server ends a connection whose peer accepts no data for so long. A statement's
    // time limit does not do that.
    ("tcp_user_timeout", "20000"),
    // Report an error instead of silently leaving rows out.
    ("row_security", "off"),
    // Set only where it has another value, with which the schema's triggers would not fire. Only a superuser may set
    // it; for others the server refuses, and its error says what is wrong.
    ("session_replication_role", "origin"),
    // All statements qualify their names with the schema, so no other object can take the place of ours.
    ("search_path", "pg_catalog, pg_temp"),
    ("client_min_messages", "warning"),
    // How values are written as text, and read from it.
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("array_nulls", "on"),
    ("quote_all_identifiers", "off"),
    // What the planner may use, and the memory that it assumes.
    ("enable_async_append", "on"),
    ("enable_bitmapscan", "on"),
    ("enable_hashagg", "on"),
    ("enable_hashjoin", "on"),
    ("enable_incremental_sort", "on"),
    ("enable_indexonlyscan", "on"),
    ("enable_indexscan", "on"),
    ("enable_material", "on"),
    ("enable_memoize", "on"),
    ("enable_mergejoin", "on"),
    ("enable_nestloop", "on"),
    ("enable_partition_pruning", "on"),
    ("enable_seqscan", "on"),
    ("enable_sort", "on"),
    ("enable_tidscan", "on"),
    ("constraint_exclusion", "partition"),
    ("from_collapse_limit", "8"),
    ("join_collapse_limit", "8"),
    ("geqo", "off"),
    ("jit", "off"),
    ("work_mem", "4MB"),
    ("hash_mem_multiplier", "2"),
    ("force_parallel_mode", "off"),
    ("debug_parallel_query", "off"),
];

/// Settings of a dispatcher's sessions, in addition to those above or instead of them. The server plans each statement
/// once, by its form, and not by its statistics about the tables.
///
/// The queue is empty at one moment and holds a million rows at the next, so the statistics are usually wrong: a plan
/// made for the empty queue reads and sorts the full queue for every claim (measured: 300 ms instead of 1 ms), until an
/// ANALYZE runs. Every statement of a session finds its rows by an index, so no other plan is needed. And planning each
/// claim again took as long as the claim itself.
const OF_DISPATCHERS: &[(&str, &str)] = &[
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
];

/// The settings that limit how long a statement, or the idle time between the statements of a transaction, may take.
/// They ensure that nothing continues on the server after the session has stopped waiting for it.
const LIMITS: [&str; 2] = ["statement_timeout", "idle_in_transaction_session_timeout"];

/// Sets what every session relies on, whatever the defaults of server, database or role are.
pub(super) async fn prepare_session(
    connection: &mut PgConnection,
    statement_timeout: Duration,
) -> Result<(), sqlx::Error> {
    set(connection, OF_ALL, &[("plan_cache_mode", "auto")], statement_timeout).await
}

/// As [`prepare_session`], for a dispatcher's own sessions.
pub(super) async fn prepare_dispatcher_session(
    connection: &mut PgConnection,
    statement_timeout: Duration,
) -> Result<(), sqlx::Error> {
    set(connection, OF_ALL, OF_DISPATCHERS, statement_timeout).await
}

/// Lets the server refuse whatever would change something in this session, whatever its user may do.
pub(super) async fn only_read(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(r#"SELECT set_config('default_transaction_read_only', 'on', false) AS "set!""#)
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// Gives the session the rights of this role, instead of those of the user who has logged in.
pub(super) async fn take_on(connection: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    // As SET ROLE, which takes no parameter.
    sqlx::query!(r#"SELECT set_config('role', $1, false) AS "set!""#, role).fetch_one(connection).await?;
    Ok(())
}

/// Sets how long later statements of this session may take.
pub(super) async fn set_statement_timeout(
    connection: &mut PgConnection,
    statement_timeout: Duration,
) -> Result<(), sqlx::Error> {
    let statement_timeout = format!("{}ms", statement_timeout.as_millis());
    sqlx::query!(r#"SELECT set_config('statement_timeout', $1, false) AS "set!""#, statement_timeout)
        .fetch_one(connection)
        .await?;
    Ok(())
}

async fn set(
    connection: &mut PgConnection,
    common: &[(&str, &str)],
    own: &[(&str, &str)],
    statement_timeout: Duration,
) -> Result<(), sqlx::Error> {
    let statement_timeout = format!("{}ms", statement_timeout.as_millis());
    let limits = LIMITS.map(|name| (name, statement_timeout.as_str()));
    let common = common.iter().filter(|(name, _)| !own.iter().any(|(owned, _)| owned == name));
    let (names, values): (Vec<&str>, Vec<&str>) = common.chain(own).chain(&limits).copied().unzip();
    // One statement, and so one round trip, for any number of settings. current_setting returns null for a setting that
    // the server does not know, where set_config would fail.
    sqlx::query!(
        r#"
        SELECT count(set_config(name, value, false)) AS "set!"
        FROM unnest($1::text[], $2::text[]) AS setting (name, value)
        WHERE CASE name
            WHEN 'synchronous_commit' THEN current_setting(name) <> 'remote_apply'
            WHEN 'session_replication_role' THEN current_setting(name) <> 'origin'
            WHEN 'default_transaction_read_only' THEN
                current_setting(name) = 'on'
                AND (SELECT source FROM pg_catalog.pg_settings AS known WHERE known.name = setting.name)
                    IN ('user', 'database user')
            ELSE current_setting(name, true) IS NOT NULL
        END
        "#,
        &names as &[&str],
        &values as &[&str],
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_setting_stands_twice_in_one_list() {
        for list in [OF_ALL, OF_DISPATCHERS] {
            let names: HashSet<&str> = list.iter().map(|(name, _)| *name).collect();
            assert_eq!(names.len(), list.len());
            assert!(LIMITS.iter().all(|limit| !names.contains(limit)));
        }
    }
}
