//! Partitions are made while the platform inserts: no insert waits for that, none fails, and a call with any kind of id
//! finds a partition.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;
use crate::support::process::Dispatcher;

/// What is read of a default partition under a lock at most, and a pile of calls that is larger, one call a page.
const MOST_BYTES: i64 = 64 * 1024 * 1024;
const PILE: i64 = MOST_BYTES / 8_192 + 100;

/// Inserts a pile of calls, one a page: their ids begin with `prefix`.
async fn pile(database: &Database, partition: &str, prefix: &str) {
    let digits = 32 - prefix.len();
    database
        .execute(&format!(
            "ALTER TABLE postcall.{partition} ALTER COLUMN call SET STORAGE PLAIN;
             INSERT INTO postcall.outbox (id, agent, call)
             SELECT ('{prefix}' || right(repeat('0', 32) || to_hex(n), {digits}))::uuid, 'a',
                    ('{{\"x\": \"' || repeat('x', 7900) || '\"}}')::json
             FROM generate_series(1, {PILE}) AS n"
        ))
        .await;
    let bytes = database.number(&format!("SELECT pg_relation_size('postcall.{partition}')")).await;
    assert!(bytes > MOST_BYTES, "{partition} is no pile: {bytes}");
}

/// Makes partitions in a transaction that stays open, and with it whatever is locked.
async fn making(database: &Database) -> (PgConnection, Vec<String>) {
    let mut maker = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut maker).await.unwrap();
    let made = sqlx::query_scalar("SELECT postcall.make_partitions()").fetch_all(&mut maker).await.unwrap();
    (maker, made)
}

/// The tables that nobody can insert into while `maker`'s transaction lasts, the new ones aside.
async fn locked(maker: &mut PgConnection, made: &[String]) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_locks JOIN pg_class ON pg_class.oid = relation
               WHERE pid = pg_backend_pid() AND granted AND relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p')
                 AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                 AND relname <> ALL ($1) ORDER BY 1";
    sqlx::query_scalar(sql).bind(made).fetch_all(maker).await.unwrap()
}

async fn insert_at_once(database: &Database, id: &str) {
    let insert = format!(
        "BEGIN; SET LOCAL lock_timeout = '1ms'; INSERT INTO postcall.outbox (id, agent, call) VALUES ({id}, 'a', '{{}}'); COMMIT"
    );
    let mut platform = PgConnection::connect(&database.url).await.unwrap();
    let inserted = sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut platform).await;
    assert!(inserted.is_ok(), "{id}: {inserted:?}");
}

/// Takes the last week's partition away, so that there is one to make.
async fn drop_last(database: &Database) -> String {
    let last = "SELECT max(inhrelid::regclass::text) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                WHERE inhparent = 'postcall.outbox'::regclass AND relname ~ '[0-9]$'";
    let partition = database.text(last).await.unwrap();
    database.execute(&format!("DROP TABLE {partition}")).await;
    partition.trim_start_matches("postcall.").to_owned()
}

#[tokio::test]
async fn an_id_of_any_kind_finds_a_place() {
    let database = Database::new().await;
    for (id, partition) in [
        ("'00000000-0000-0000-0000-000000000000'", "outbox_past"),
        ("'ffffffff-ffff-ffff-ffff-ffffffffffff'", "outbox_foreign"),
        ("'9b2f0a3e-0000-4000-8000-000000000001'", "outbox_foreign"),
        ("'00000a3e-0000-4000-8000-000000000001'", "outbox_past"),
        ("'c232ab00-9414-11ec-b3c8-9f6bdeced846'", "outbox_foreign"), // version 1
        ("postcall.uuid_v7_floor('2019-12-31')", "outbox_past"),
        ("postcall.uuid_v7_floor('2020-01-01')", "outbox_default"),
        ("postcall.uuid_v7_floor('2039-12-31')", "outbox_default"),
        ("postcall.uuid_v7_floor('2040-01-01')", "outbox_foreign"),
        ("postcall.uuid_v7_floor('2101-01-01')", "outbox_foreign"),
    ] {
        insert_at_once(&database, id).await;
        let place = format!("SELECT tableoid::regclass::text FROM postcall.outbox WHERE id = {id}");
        assert_eq!(database.text(&place).await.unwrap(), format!("postcall.{partition}"), "{id}");
    }
    insert_at_once(&database, "postcall.uuid_v7()").await;
    let weekly = "SELECT count(*) FROM postcall.outbox WHERE tableoid::regclass::text ~ '_20[0-9]{6}$'";
    assert_eq!(database.number(weekly).await, 1, "an id of now is in its week's partition");
}

#[tokio::test]
async fn with_many_ids_of_version_4_making_partitions_keeps_no_insert_waiting() {
    let database = Database::new().await;
    pile(&database, "outbox_foreign", "9b2f0a3e00004000").await;
    let week = drop_last(&database).await;
    let (mut maker, made) = making(&database).await;
    assert_eq!(made, [week]);
    // What is locked is the default partition, which is nearly empty, and was read before without a lock.
    assert_eq!(locked(&mut maker, &made).await, ["outbox_default"]);
    let size: i64 =
        sqlx::query_scalar("SELECT pg_relation_size('postcall.outbox_default')").fetch_one(&mut maker).await.unwrap();
    assert_eq!(size, 0);
    let read = "SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::bigint FROM pg_stat_xact_user_tables
                WHERE relname = 'outbox_foreign'";
    let read: i64 = sqlx::query_scalar(read).fetch_one(&mut maker).await.unwrap();
    assert_eq!(read, 0, "nothing of the pile is read");
    insert_at_once(&database, "'8b2f0a3e-0000-4000-8000-000000000001'").await;
    insert_at_once(&database, "postcall.uuid_v7()").await;
}

#[tokio::test]
async fn beside_a_large_default_partition_none_is_made_and_nothing_is_locked() {
    let database = Database::new().await;
    // As it was left by a release that put every id of version 4 there.
    pile(&database, "outbox_default", "01d0000000004000").await;
    drop_last(&database).await;
    let (mut maker, made) = making(&database).await;
    assert_eq!(made, Vec::<String>::new());
    assert_eq!(locked(&mut maker, &made).await, Vec::<String>::new());
    for id in ["'01d10000-0000-4000-8000-000000000001'", "'9b2f0a3e-0000-4000-8000-000000000001'", "postcall.uuid_v7()"]
    {
        insert_at_once(&database, id).await;
    }
}

#[tokio::test]
async fn while_somebody_inserts_into_the_default_partition_it_is_left_for_later() {
    let database = Database::new().await;
    let week = drop_last(&database).await;
    let mut platform = PgConnection::connect(&database.url).await.unwrap();
    let insert = "BEGIN; INSERT INTO postcall.outbox (id, agent, call)
                  VALUES ('01d10000-0000-4000-8000-000000000001', 'a', '{}')";
    sqlx::raw_sql(insert).execute(&mut platform).await.unwrap();
    assert_eq!(database.session().make_partitions().await.unwrap(), Vec::<String>::new());
    sqlx::raw_sql("COMMIT").execute(&mut platform).await.unwrap();
    assert_eq!(database.session().make_partitions().await.unwrap(), [week]);
}

#[tokio::test]
async fn a_dispatcher_makes_what_is_missing_and_names_it() {
    let database = Database::new().await;
    let missing = drop_last(&database).await;
    let mut dispatcher = Dispatcher::start(&database, &[]).await;
    let said = dispatcher.says("made a partition ahead of time").await;
    assert!(said.contains(&missing), "{said} {missing}");
}
