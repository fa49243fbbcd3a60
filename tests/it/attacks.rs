//! What a database user with one role, or with none, may try: to make, change, hide or hold up what belongs to others.

use serde_json::json;
use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::intruder::{EVERYBODY, attempt, database_with_secrets, refused};
use crate::support::process::{Dispatcher, postcall_at, stderr, stdout};

#[tokio::test]
async fn nobody_makes_a_delivery_by_a_trigger_of_his_own() {
    let database = database_with_secrets().await;
    let triggers: Vec<String> = sqlx::query_scalar(
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace AND prorettype = 'trigger'::regtype",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert!(triggers.len() >= 8, "{triggers:?}");
    let waiting = database.number("SELECT count(*) FROM postcall.waiting").await;
    for roles in EVERYBODY {
        let mut connection = database.connect_as(roles).await;
        let mine = "CREATE TEMP TABLE mine (id uuid, agent text, created_at timestamptz, call json, call_bytes integer,
                        call_sid text, action_ids bigint[], delivery_id uuid, replay_of uuid, message_id uuid,
                        action_id bigint, enabled boolean, state text, source text)";
        sqlx::raw_sql(mine).execute(&mut connection).await.unwrap();
        for trigger in &triggers {
            for when in [
                "AFTER INSERT ON mine REFERENCING NEW TABLE AS new_call FOR EACH STATEMENT",
                "BEFORE INSERT ON mine FOR EACH ROW",
                "AFTER INSERT ON mine FOR EACH ROW",
            ] {
                let sql = format!(
                    "CREATE TRIGGER again {when} EXECUTE FUNCTION postcall.{trigger}();
                     INSERT INTO mine (id, agent, created_at, action_ids, action_id, enabled)
                     VALUES (gen_random_uuid(), 'a', 'infinity', '{{1}}', 1, true)"
                );
                let error = attempt(&mut connection, &sql).await;
                assert!(
                    error.as_deref().is_some_and(|error| error.starts_with("42501 ")),
                    "{roles:?}: {sql}: {error:?}"
                );
            }
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, waiting);
}

#[tokio::test]
async fn the_queue_and_history_are_written_by_dispatchers_alone() {
    let database = database_with_secrets().await;
    let others: Vec<&[&str]> = EVERYBODY.into_iter().filter(|roles| !roles.contains(&"postcall_dispatcher")).collect();
    let ways = [
        "INSERT INTO postcall.waiting SELECT gen_random_uuid(), gen_random_uuid(), 'a', 1, now()",
        "INSERT INTO postcall.sending (delivery_id) VALUES (gen_random_uuid())",
        "INSERT INTO postcall.delivery (delivery_id) VALUES (gen_random_uuid())",
        "INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason)
         VALUES (gen_random_uuid(), 'claim', 'failed', 'x', 'y')",
        "INSERT INTO postcall.dispatcher (name, version, lease_until) VALUES ('x', 'y', now())",
        "UPDATE postcall.dispatcher SET lost_at = now()",
        "UPDATE postcall.waiting SET created_at = 'infinity'",
        "DELETE FROM postcall.waiting",
        "DELETE FROM postcall.sending",
        "SELECT FROM postcall.waiting FOR UPDATE",
        "SELECT setval('postcall.bell', 9223372036854775807)",
        "SELECT nextval('postcall.bell')",
        "SELECT postcall.make_partitions()",
        "COPY postcall.waiting FROM STDIN",
    ];
    refused(&database, &others, &ways).await;
}

#[tokio::test]
async fn nobody_who_is_given_a_role_owns_anything() {
    let database = database_with_secrets().await;
    let ways = [
        "SET session_replication_role = replica",
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE postgres",
        "ALTER TABLE postcall.delivery DISABLE TRIGGER ALL",
        "DROP TRIGGER history_is_immutable ON postcall.delivery",
        "DROP TABLE postcall.replay",
        "TRUNCATE postcall.delivery",
        "TRUNCATE postcall.waiting",
        "TRUNCATE postcall.outbox_default",
        "CREATE TABLE postcall.mine ()",
        "CREATE FUNCTION postcall.mine() RETURNS integer LANGUAGE sql RETURN 1",
        "CREATE OPERATOR postcall.=== (LEFTARG = json, RIGHTARG = json, FUNCTION = json_object_length)",
        "CREATE TABLE own.mine (id uuid REFERENCES postcall.outbox)",
        "CREATE TABLE own.mine () INHERITS (postcall.waiting)",
        "CREATE RULE mine AS ON INSERT TO postcall.outbox DO INSTEAD NOTHING",
        "CREATE TRIGGER mine AFTER INSERT ON postcall.outbox EXECUTE FUNCTION postcall.refuse_change()",
        "COMMENT ON TABLE postcall.outbox IS 'mine'",
        "DELETE FROM postcall.outbox",
        "UPDATE postcall.outbox SET agent = 'b'",
        "DELETE FROM postcall.delivery",
        "UPDATE postcall.delivery SET state = 'failed'",
        "DELETE FROM postcall.replay",
        "DELETE FROM postcall.resolution",
        "DELETE FROM postcall.dispatcher",
        "DELETE FROM postcall.action",
        "DELETE FROM postcall.action_version",
        "INSERT INTO postcall.action_switch (action_id, enabled, switched_by) VALUES (1, true, 'x')",
        "INSERT INTO postcall._sqlx_migrations SELECT * FROM postcall._sqlx_migrations",
        "SELECT postcall.guard_against_truncate('postcall.waiting')",
    ];
    database.execute("CREATE SCHEMA own; GRANT ALL ON SCHEMA own TO PUBLIC").await;
    for roles in EVERYBODY {
        let mut connection = database.connect_as(roles).await;
        for sql in ways {
            let error = attempt(&mut connection, sql).await;
            // Where Postgres says it in other words: not the owner, or nothing that this user can name.
            let stopped =
                error.as_deref().is_some_and(|error| error.starts_with("42501 ") || error.starts_with("42883 "));
            assert!(stopped, "{roles:?}: {sql}: {error:?}");
        }
    }
}

#[tokio::test]
async fn no_role_but_the_dispatcher_s_can_lock_a_table_against_others() {
    let database = database_with_secrets().await;
    let tables = [
        "action",
        "action_version",
        "action_switch",
        "outbox",
        "waiting",
        "sending",
        "delivery",
        "dispatcher",
        "replay",
        "resolution",
        "_sqlx_migrations",
    ];
    for roles in EVERYBODY {
        let mut connection = database.connect_as(roles).await;
        let mut lockable = Vec::new();
        for table in tables {
            for mode in ["SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"] {
                if attempt(&mut connection, &format!("LOCK TABLE postcall.{table} IN {mode} MODE")).await.is_none() {
                    lockable.push(table);
                }
            }
        }
        lockable.dedup();
        // Whoever may delete from a table may lock it, and a claim deletes.
        let expected: &[&str] = if roles == EVERYBODY[1] { &["waiting", "sending"] } else { &[] };
        assert_eq!(lockable, expected, "{roles:?}");
    }
}

#[tokio::test]
async fn a_repeated_insert_changes_and_tells_nothing_of_the_call_that_is_there() {
    let database = database_with_secrets().await;
    let id = database.text("SELECT id::text FROM postcall.outbox ORDER BY id LIMIT 1").await.unwrap();
    let before = database.text("SELECT md5(string_agg(outbox::text, '' ORDER BY id)) FROM postcall.outbox").await;
    let waiting = database.number("SELECT count(*) FROM postcall.waiting").await;
    let mut platform = database.connect_as(EVERYBODY[0]).await;
    let insert = format!("INSERT INTO postcall.outbox (id, agent, call) VALUES ('{id}', 'b', '{{}}') ON CONFLICT (id)");
    for update in ["agent = excluded.agent", "call = excluded.call", "id = excluded.id", "action_ids = '{1}'"] {
        let error = attempt(&mut platform, &format!("{insert} DO UPDATE SET {update}")).await.unwrap();
        assert!(error.starts_with("42501 "), "{error}");
    }
    sqlx::raw_sql(AssertSqlSafe(format!("{insert} DO NOTHING"))).execute(&mut platform).await.unwrap();
    for column in ["created_at", "action_ids", "call_bytes", "call_sid"] {
        let sql = format!("INSERT INTO postcall.outbox (agent, call, {column}) VALUES ('a', '{{}}', NULL)");
        assert!(attempt(&mut platform, &sql).await.unwrap().starts_with("42501 "), "{column}");
    }
    assert_eq!(
        database.text("SELECT md5(string_agg(outbox::text, '' ORDER BY id)) FROM postcall.outbox").await,
        before
    );
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, waiting);
}

#[tokio::test]
async fn whatever_is_written_on_the_bell_the_platform_notifies_only_while_somebody_can_be_asleep() {
    let database = database_with_secrets().await;
    let mut listener = PgListener::connect_with(&database.pool).await.unwrap();
    listener.listen("postcall").await.unwrap();
    let mut dispatcher = database.connect_as(EVERYBODY[1]).await;
    let mut platform = database.connect_as(EVERYBODY[0]).await;
    let now = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    for bell in ["9223372036854775807".to_owned(), format!("{now} + 3600000"), "0".to_owned(), "1".to_owned()] {
        let sql = format!("SELECT setval('postcall.bell', {bell})");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut dispatcher).await.unwrap();
        let insert = "INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')";
        sqlx::raw_sql(insert).execute(&mut platform).await.unwrap();
    }
    // Beyond its end the sequence gives an error to whoever asked, and to nobody else.
    assert!(attempt(&mut dispatcher, "SELECT setval('postcall.bell', -1)").await.unwrap().starts_with("22003 "));
    let beyond = "SELECT setval('postcall.bell', 9223372036854775807); SELECT nextval('postcall.bell')";
    assert!(attempt(&mut dispatcher, beyond).await.unwrap().starts_with("2200H "));
    // A dispatcher that does its work makes it ring again.
    database.session().request_wake_up(std::time::Duration::from_secs(2)).await.unwrap();
    database.insert_call("a", &json!({})).await;
    database.execute("NOTIFY postcall, 'mark'").await;
    assert_eq!(listener.recv().await.unwrap().payload(), "", "one ring, of the last call");
    assert_eq!(listener.recv().await.unwrap().payload(), "mark", "and no other");
}

#[tokio::test]
async fn whoever_notifies_without_end_delays_no_delivery() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    let mut nobody = database.connect_as(&[]).await;
    // 4,000 notifications of nearly 8 kB in one commit, again and again, while calls are delivered.
    let flood = "SELECT pg_notify('postcall', n || repeat('x', 7000)) FROM generate_series(1, 4000) AS n";
    for round in 1..=5 {
        sqlx::raw_sql(flood).execute(&mut nobody).await.unwrap();
        database.insert_call("a", &json!({})).await;
        inbox.has(round).await;
    }
    database.settled().await;
    assert_eq!(inbox.received().len(), 5);
}

#[tokio::test]
async fn no_time_that_a_client_cannot_read_gets_into_what_all_read() {
    let database = database_with_secrets().await;
    let mut dispatcher = database.connect_as(EVERYBODY[1]).await;
    for time in ["infinity", "-infinity", "294276-12-31 23:59:59Z", "10000-01-01Z", "4713-01-01 BC"] {
        for (sql, constraint) in [
            (format!("INSERT INTO postcall.waiting SELECT gen_random_uuid(), gen_random_uuid(), 'a', 1, '{time}'"), "waiting_times_are_in_range"),
            (format!("UPDATE postcall.waiting SET created_at = '{time}'"), "42501"),
            (format!("INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at,
                          dispatcher_id, claim, claimed_at)
                      SELECT delivery_id, call_id, agent, action_id, 1, created_at, 1, delivery_id, '{time}' FROM postcall.waiting"),
             "sending_times_are_in_range"),
            (format!("INSERT INTO postcall.delivery SELECT gen_random_uuid(), call_id, claim, action_id, '{time}', claimed_at,
                          finished_at, action_version, dispatcher_id, latency_ms, dns_ms, connected_ms, head_ms, request_bytes,
                          response_bytes, response_code, agent, state, error_kind FROM postcall.delivery"),
             "delivery_times_are_in_range"),
        ] {
            let error = attempt(&mut dispatcher, &sql).await.unwrap_or_default();
            assert!(error.contains(constraint), "{sql}: {error}");
        }
        // A lease that is too long is cut; one of long ago is refused.
        let lease = format!("INSERT INTO postcall.dispatcher (name, version, lease_until) VALUES ('d', '1', '{time}')");
        let error = attempt(&mut dispatcher, &lease).await.unwrap_or_default();
        assert!(error.is_empty() || error.contains("dispatcher_times_are_in_range"), "{time}: {error}");
    }
    let beyond = "SELECT count(*) FROM postcall.dispatcher
                  WHERE lease_until NOT BETWEEN now() - interval '1 day' AND now() + interval '12 minutes'";
    assert_eq!(database.number(beyond).await, 0);
    let output = postcall_at(&database.url, &["history"]);
    assert!(output.status.success() && stdout(&output).lines().count() == 4, "{}", stderr(&output));
}

#[tokio::test]
async fn partitions_are_made_for_the_present_and_for_no_other_time() {
    let database = Database::new().await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent IN ('postcall.outbox'::regclass, 'postcall.delivery'::regclass)";
    let before = database.number(partitions).await;
    let mut dispatcher = database.connect_as(EVERYBODY[1]).await;
    for time in
        ["now() + interval '1 year'", "now() - interval '1 week'", "'2300-01-01'", "'infinity'", "'-infinity'", "NULL"]
    {
        sqlx::raw_sql(AssertSqlSafe(format!("SELECT postcall.make_partitions({time})")))
            .execute(&mut dispatcher)
            .await
            .ok();
        assert_eq!(database.number(partitions).await, before, "{time}");
    }
}

#[tokio::test]
async fn the_database_user_who_did_something_cannot_be_forged() {
    let database = database_with_secrets().await;
    let unknown =
        database.text("SELECT delivery_id::text FROM postcall.delivery WHERE state = 'unknown'").await.unwrap();
    let failed = database.text("SELECT delivery_id::text FROM postcall.delivery WHERE state = 'failed'").await.unwrap();
    let forgeries = [
        "INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms, db_user)
         VALUES (1, 2, 'GET', 'https://receiver.example/', 1000, 'somebody')"
            .to_owned(),
        format!(
            "INSERT INTO postcall.replay (replay_of, replayed_by, reason, db_user) VALUES ('{failed}', 'Ada', 'r', 'somebody')"
        ),
        format!(
            "INSERT INTO postcall.replay (replay_of, replayed_by, reason, created_at) VALUES ('{failed}', 'Ada', 'r', now())"
        ),
        format!(
            "INSERT INTO postcall.replay (replay_of, replayed_by, reason, delivery_id) VALUES ('{failed}', 'Ada', 'r', '{unknown}')"
        ),
        format!(
            "INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason, db_user)
                 VALUES ('{unknown}', 'failed', 'Ada', 'r', 'somebody')"
        ),
        format!(
            "INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason, resolved_at)
                 VALUES ('{unknown}', 'failed', 'Ada', 'r', now())"
        ),
        format!(
            "INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason)
                 VALUES ('{unknown}', 'claim', 'failed', 'Ada', 'r')"
        ),
    ];
    let forgeries: Vec<&str> = forgeries.iter().map(String::as_str).collect();
    refused(&database, &[EVERYBODY[2]], &forgeries).await;
    // A dispatcher brings the claim's own result and no person's finding, also without a time or a user of its choice.
    let finding = format!(
        "INSERT INTO postcall.resolution (delivery_id, source, state, resolved_by, reason)
                           VALUES ('{unknown}', 'person', 'failed', 'Ada', 'r')"
    );
    refused(&database, &[EVERYBODY[1]], &[&finding, forgeries[4], forgeries[5]]).await;

    let url = database.login(EVERYBODY[2]).await;
    let user = url.split(['/', '@']).nth(2).unwrap().to_owned();
    let mut publisher = PgConnection::connect(&url).await.unwrap();
    for sql in [
        "SET postcall.person = 'somebody else'; SET ROLE postcall_publisher".to_owned(),
        "UPDATE postcall.action SET enabled = NOT enabled".to_owned(),
        format!("INSERT INTO postcall.replay (replay_of, replayed_by, reason) VALUES ('{failed}', 'Ada', 'r')"),
        format!(
            "INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason) VALUES ('{unknown}', 'failed', 'Ada', 'r')"
        ),
        "WITH action AS (UPDATE postcall.action SET version = version + 1 RETURNING action_id, version)
         INSERT INTO postcall.action_version (action_id, version, method, url, timeout_ms, published_by)
         SELECT action_id, version, 'GET', 'https://receiver.example/', 1000, 'Ada' FROM action"
            .to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut publisher).await.unwrap();
    }
    for (table, person) in [
        ("action_switch", "switched_by"),
        ("replay", "replayed_by"),
        ("resolution", "resolved_by"),
        ("action_version", "published_by"),
    ] {
        let last = format!("SELECT db_user || ' ' || {person} FROM postcall.{table} ORDER BY ctid DESC LIMIT 1");
        let named = if table == "action_switch" { "somebody else" } else { "Ada" };
        assert_eq!(database.text(&last).await, Some(format!("{user} {named}")), "{table}");
    }
}
