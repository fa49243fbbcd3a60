//! What calls and templates hold can only be read by those who need it. There is no other way to it, not even through
//! code that others could be made to run.

use sqlx::PgConnection;

use crate::support::database::Database;
use crate::support::intruder::{EVERYBODY, SECRET, attempt, database_with_secrets, refused};

/// What each role does with functions, triggers, defaults, constraints and views of the schema, in statements that look for
/// nothing along the path themselves.
const WORK: [(&str, &[&str]); 4] = [
    (
        "postcall_platform",
        &["INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{\"callInfo\": {\"callSid\": \"CA2\"}}')"],
    ),
    (
        "postcall_dispatcher",
        &[
            "SELECT FROM postcall.delivery_history",
            "SELECT postcall.make_partitions()",
            "SELECT postcall.call_sid('{\"callInfo\": {\"callSid\": \"CA2\"}}')",
        ],
    ),
    (
        "postcall_publisher",
        &[
            "SELECT FROM postcall.delivery_history",
            "UPDATE postcall.action SET enabled = false",
            "SELECT postcall.lock_deliveries('{01a20a0c-146c-7e1c-9aa8-e0f101fcdd31}')",
            "INSERT INTO postcall.replay (replay_of, replayed_by, reason)
             SELECT delivery_id, 'Ada', 'r' FROM postcall.delivery WHERE state OPERATOR(pg_catalog.=) 'failed'",
            "INSERT INTO postcall.resolution (delivery_id, state, resolved_by, reason)
             SELECT delivery_id, 'failed', 'Ada', 'r' FROM postcall.delivery WHERE state OPERATOR(pg_catalog.=) 'unknown'",
        ],
    ),
    (
        "postcall_auditor",
        &[
            "SELECT FROM postcall.delivery_history",
            "SELECT postcall.history_begins()",
            "SELECT postcall.uuid_v7_floor('2026-11-24')",
        ],
    ),
];

#[tokio::test]
async fn what_others_insert_and_read_never_runs_code_of_somebody_s_own() {
    let database = database_with_secrets().await;
    for (role, statements) in WORK {
        let mut connection = database.connect_as(&[role]).await;
        shadow_everything(&database, &mut connection).await;
        for sql in statements {
            assert_eq!(attempt(&mut connection, sql).await, None, "{role}: {sql}");
            let reached = database.number("SELECT is_called::integer::bigint FROM shadow.reached").await;
            assert_eq!(reached, 0, "{role}: {sql}");
        }
        let own = attempt(&mut connection, "SELECT 1 + 1").await;
        assert_eq!(own.as_deref(), Some("P0001 caught"), "what is looked for along the path meets the shadows");
    }
}

#[tokio::test]
async fn what_an_insert_writes_is_the_same_whatever_its_session_has_put_earlier_in_the_path() {
    let database = database_with_secrets().await;
    let insert =
        "INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{\"callInfo\": {\"callSid\": \"CA3\"}, \"half\": 1}')";
    let mut connection = database.connect_as(&["postcall_platform"]).await;
    sqlx::raw_sql(insert).execute(&mut connection).await.unwrap();
    shadow_everything(&database, &mut connection).await;
    sqlx::raw_sql(insert).execute(&mut connection).await.unwrap();
    // The same session again: what it has planned before was planned along another path.
    sqlx::raw_sql("SET search_path = pg_temp, shadow, pg_catalog").execute(&mut connection).await.unwrap();
    sqlx::raw_sql(insert).execute(&mut connection).await.unwrap();
    let written = "SELECT string_agg(concat_ws(' ', outbox.call_sid, outbox.call_bytes, outbox.action_ids::text,
                                               waiting.action_id, waiting.call_sid, waiting.call_bytes), ', ')
                   FROM postcall.outbox JOIN postcall.waiting ON waiting.call_id = outbox.id WHERE outbox.call_sid = 'CA3'";
    let each = "CA3 43 {1} 1 CA3 43";
    assert_eq!(database.text(written).await.unwrap(), [each; 3].join(", "));
}

/// Puts, earlier in the path, an operator and a function of the user's own beside each that Postgres has. All of them fail,
/// and count that they were reached, which no handler of exceptions takes back.
async fn shadow_everything(database: &Database, connection: &mut PgConnection) {
    let user: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut *connection).await.unwrap();
    database.execute(&format!("DROP SCHEMA IF EXISTS shadow CASCADE; CREATE SCHEMA shadow AUTHORIZATION {user}")).await;
    sqlx::raw_sql(
        "CREATE SEQUENCE shadow.reached;
         DO $$
         DECLARE
             made record;
         BEGIN
             FOR made IN
                 SELECT format('CREATE FUNCTION shadow.%I(%s) RETURNS %s %s LANGUAGE plpgsql AS
                                $body$ BEGIN PERFORM pg_catalog.nextval(''shadow.reached''); RAISE EXCEPTION ''caught''; END $body$', proname,
                               pg_get_function_identity_arguments(oid), CASE WHEN proretset THEN 'SETOF' END, prorettype::regtype) AS sql
                 FROM pg_proc
                 WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND provariadic = 0
                   AND 'internal'::regtype::oid <> ALL (proargtypes::oid[]) AND 'cstring'::regtype::oid <> ALL (proargtypes::oid[])
                   AND proname NOT IN ('format', 'format_type', 'pg_get_function_identity_arguments')
                   AND prorettype NOT IN ('internal'::regtype, 'cstring'::regtype, 'trigger'::regtype, 'event_trigger'::regtype)
                 UNION ALL
                 SELECT format('CREATE FUNCTION shadow.o%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS
                                $body$ BEGIN PERFORM pg_catalog.nextval(''shadow.reached''); RAISE EXCEPTION ''caught''; END $body$;
                                CREATE OPERATOR shadow.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = shadow.o%s)', oid,
                               oprleft::regtype, oprright::regtype, oprresult::regtype, oprname, oprleft::regtype,
                               oprright::regtype, oid)
                 FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b'
             LOOP
                 BEGIN
                     EXECUTE made.sql;
                 EXCEPTION WHEN OTHERS THEN NULL;
                 END;
             END LOOP;
             -- Types: each of them fails, as soon as a value is made one of it.
             CREATE FUNCTION shadow.trap() RETURNS boolean LANGUAGE plpgsql AS
                 $body$ BEGIN PERFORM pg_catalog.nextval('shadow.reached'); RAISE EXCEPTION 'caught'; END $body$;
             FOR made IN SELECT typname FROM pg_type WHERE typname IN ('text', 'json', 'uuid', 'bool', 'int8', 'float8', 'timestamptz') LOOP
                 EXECUTE format('CREATE DOMAIN shadow.%I AS pg_catalog.%I CHECK (shadow.trap())', made.typname, made.typname);
             END LOOP;
         END $$;
         -- Tables: nothing is in them.
         CREATE TABLE shadow.new_call
             (id uuid, agent text, created_at timestamptz, action_ids bigint[], call_bytes integer, call_sid text);
         CREATE TEMP TABLE new_call AS TABLE shadow.new_call;
         SET search_path = shadow, pg_catalog",
    )
    .execute(&mut *connection)
    .await
    .unwrap();
    let count = database.number("SELECT count(*) FROM pg_proc WHERE pronamespace = 'shadow'::regnamespace").await;
    assert!(count > 2_000, "{count}");
}

#[tokio::test]
async fn calls_are_read_by_dispatchers_alone() {
    let database = database_with_secrets().await;
    let ways = [
        "SELECT call FROM postcall.outbox",
        "SELECT outbox FROM postcall.outbox",
        "SELECT FROM postcall.outbox WHERE call IS NOT NULL",
        "TABLE postcall.outbox",
        "COPY postcall.outbox TO STDOUT",
        "COPY postcall.outbox (call) TO STDOUT",
        "EXPLAIN (ANALYZE, VERBOSE) SELECT call FROM postcall.outbox",
        "SELECT call::text::integer FROM postcall.outbox",
        "SELECT * FROM postcall.outbox_default",
        "INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}') RETURNING call",
        "INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}') ON CONFLICT (id) DO UPDATE SET agent = outbox.call::text",
        "CREATE TEMP VIEW mine AS SELECT call FROM postcall.outbox; SELECT * FROM mine",
        "CREATE TEMP TABLE mine AS SELECT call FROM postcall.outbox",
        "CREATE FUNCTION pg_temp.mine() RETURNS SETOF json LANGUAGE sql AS 'SELECT call FROM postcall.outbox';
         SELECT pg_temp.mine()",
        "SELECT postcall.call_sid(call) FROM postcall.outbox",
    ];
    let others: Vec<&[&str]> = EVERYBODY.into_iter().filter(|roles| !roles.contains(&"postcall_dispatcher")).collect();
    refused(&database, &others, &ways).await;
}

#[tokio::test]
async fn templates_are_read_by_dispatchers_and_publishers_alone() {
    let database = database_with_secrets().await;
    let ways = [
        "SELECT url FROM postcall.action_version",
        "SELECT headers FROM postcall.action_version",
        "SELECT body FROM postcall.action_version",
        "SELECT action_version FROM postcall.action_version",
        "SELECT to_json(action_version) FROM postcall.action_version",
        "SELECT FROM postcall.action_version WHERE body = 'guess'",
        "COPY postcall.action_version (body) TO STDOUT",
        "COPY postcall.action_version TO STDOUT",
    ];
    refused(&database, &[EVERYBODY[0], EVERYBODY[3], EVERYBODY[4]], &ways).await;
    // What an auditor reads of versions says who published what kind of request, and when.
    let mut auditor = database.connect_as(EVERYBODY[3]).await;
    for table in ["action", "action_switch", "waiting", "sending", "delivery", "replay", "resolution", "dispatcher"] {
        assert_eq!(attempt(&mut auditor, &format!("SELECT * FROM postcall.{table}")).await, None, "{table}");
    }
    let metadata = "SELECT action_id, version, method, timeout_ms, published_at, published_by, db_user FROM postcall.action_version;
                    SELECT id, agent, created_at, action_ids, call_bytes, call_sid FROM postcall.outbox";
    assert_eq!(attempt(&mut auditor, metadata).await, None);
}

#[tokio::test]
async fn neither_statistics_nor_functions_in_conditions_tell_an_auditor_what_calls_and_templates_hold() {
    let database = database_with_secrets().await;
    for roles in [EVERYBODY[0], EVERYBODY[3], EVERYBODY[4]] {
        let mut connection = database.connect_as(roles).await;
        let statistics: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stats WHERE schemaname = 'postcall' AND (attname IN ('call', 'headers', 'body')
                 OR (tablename = 'action_version' AND attname = 'url'))",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!(statistics, 0, "{roles:?}");
        assert!(attempt(&mut connection, "SELECT stavalues1 FROM pg_statistic").await.is_some(), "{roles:?}");
    }
    // A function in a condition is evaluated on rows as the view gives them, and on nothing that lies below it.
    let mut auditor = database.connect_as(EVERYBODY[3]).await;
    sqlx::raw_sql(
        "CREATE TEMP TABLE seen (what text);
         CREATE FUNCTION pg_temp.leak(what text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
         $$ BEGIN INSERT INTO seen VALUES (what); RETURN true; END $$;
         SELECT FROM postcall.delivery_history WHERE pg_temp.leak(delivery_history::text)",
    )
    .execute(&mut auditor)
    .await
    .unwrap();
    let (all, secret): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(*) FILTER (WHERE what LIKE '%' || $1 || '%') FROM seen")
            .bind(SECRET)
            .fetch_one(&mut auditor)
            .await
            .unwrap();
    assert!(all >= 3 && secret == 0, "{all} {secret}");
}
