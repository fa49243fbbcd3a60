//! The functions that work with the owner's rights (SECURITY DEFINER): beside each stands what a malicious caller can make it do, and here
//! it is tried.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::intruder::attempt;
use crate::support::sources::root;

/// The functions in the catalog, by name.
const DEFINERS: &str =
    "SELECT proname::text FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace AND prosecdef ORDER BY proname";

#[tokio::test]
async fn beside_each_function_with_the_owner_s_rights_stands_what_a_malicious_caller_can_make_it_do() {
    let database = Database::new().await;
    let silent = "SELECT string_agg(proname, ', ' ORDER BY proname) FROM pg_proc
                  WHERE pronamespace = 'postcall'::regnamespace AND prosecdef
                    AND coalesce(obj_description(oid, 'pg_proc'), '') !~ 'A malicious caller\\M.{40}'";
    assert_eq!(database.text(silent).await, None);
    // The document has the same list, with the same words.
    let comments: Vec<(String, String)> = sqlx::query_as(
        "SELECT proname::text, regexp_replace(obj_description(oid, 'pg_proc'), '^.*A malicious caller,? ', '')
         FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace AND prosecdef",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    let security = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let rows = security.lines().skip_while(|line| !line.starts_with("| Function |")).skip(2);
    let rows: BTreeSet<String> = rows.take_while(|line| line.starts_with('|')).map(str::to_owned).collect();
    let expected: BTreeSet<String> = comments.iter().map(|(name, words)| format!("| `{name}` | {words} |")).collect();
    assert_eq!(rows, expected);
}

/// Values of each type that nobody means well by.
fn odd(kind: &str) -> &'static [&'static str] {
    match kind {
        "uuid[]" => &[
            "NULL",
            "'{}'",
            "'{NULL}'",
            "array_fill(gen_random_uuid(), ARRAY[10001])",
            "'{{00000000-0000-0000-0000-000000000000}}'",
        ],
        "uuid" => &["NULL", "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
        "integer" => &["NULL", "0", "-1", "1", "36500", "36501", "2147483647", "-2147483648"],
        "bigint" => &["NULL", "0", "-1", "9223372036854775807"],
        "timestamp with time zone" => {
            &["NULL", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31'", "now() + interval '2 days'"]
        }
        "text" => &[
            "NULL",
            "''",
            "repeat('x', 10000000)",
            "'outbox'",
            "'retention'",
            "'secret'",
            "'outbox_default; DROP TABLE postcall.outbox'",
            "'outbox_default\" --'",
            "'../outbox_default'",
            "'pg_temp.retention'",
            "'calls'",
        ],
        other => panic!("which values of {other} are odd?"),
    }
}

/// Each call of a function with one odd argument at a time beside ordinary ones, and with all that are null.
fn odd_calls(name: &str, kinds: &[String]) -> Vec<String> {
    let ordinary = |kind: &String| match kind.as_str() {
        "text" => "'outbox_default'",
        "integer" => "30",
        "timestamp with time zone" => "now()",
        other => odd(other).last().unwrap(),
    };
    let call = |arguments: Vec<&str>| format!("SELECT * FROM postcall.{name}({})", arguments.join(", "));
    let mut calls = vec![call(kinds.iter().map(|_| "NULL").collect())];
    for place in 0..kinds.len() {
        for value in odd(&kinds[place]) {
            let mut arguments: Vec<&str> = kinds.iter().map(ordinary).collect();
            arguments[place] = value;
            calls.push(call(arguments));
        }
    }
    calls
}

/// How many rows each table has, and what else the schema is.
async fn everything(database: &Database) -> String {
    let counts = "SELECT string_agg(format('SELECT %L || count(*) || '' '' || coalesce(md5(string_agg(t::text, '','' ORDER BY t::text)), '''') AS n
                                            FROM postcall.%I AS t', relname || ' ', relname), ' UNION ALL ' ORDER BY relname)
                  FROM pg_class WHERE relnamespace = 'postcall'::regnamespace AND relkind = 'r'";
    let counts = database.text(counts).await.unwrap();
    let rows =
        database.text(&format!("SELECT string_agg(n, E'\\n' ORDER BY n) FROM ({counts}) AS all_of_it")).await.unwrap();
    let objects = "SELECT md5(string_agg(concat_ws(' ', relname, relkind, relacl), ',' ORDER BY relname)) FROM pg_class
                   WHERE relnamespace = 'postcall'::regnamespace";
    format!("{rows}\n{}", database.text(objects).await.unwrap())
}

/// A session full of things that have the names of ours, first in the path.
async fn hostile_session(database: &Database, role: &str) -> PgConnection {
    let mut connection = database.connect_as(&[role]).await;
    let names =
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('r', 'p')
                     AND relname !~ '[0-9]{8}$' AND relname !~ '^_'";
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&database.pool).await.unwrap();
    for name in names {
        let shadow = format!(
            "CREATE TEMP TABLE {name} AS SELECT true AS singleton, 1 AS least_calls_days, 1 AS least_history_days, 'a' AS agent"
        );
        sqlx::raw_sql(AssertSqlSafe(shadow)).execute(&mut connection).await.unwrap();
    }
    sqlx::raw_sql(
        "CREATE FUNCTION pg_temp.kept_since(text, integer) RETURNS timestamptz LANGUAGE sql AS 'SELECT now()';
         CREATE FUNCTION pg_temp.less(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR pg_temp.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = pg_temp.less);
         CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT '9000-01-01Z'::timestamptz$$;
         SET search_path = pg_temp, pg_catalog, postcall; SET TimeZone = 'Pacific/Kiritimati'; SET DateStyle = 'SQL, DMY';
         SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape'; SET extra_float_digits = -15;
         SET standard_conforming_strings = off; SET backslash_quote = on; SET escape_string_warning = off",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection
}

#[tokio::test]
async fn odd_arguments_and_hostile_sessions_change_nothing_and_give_no_internal_error() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/s3cret"})).await;
    database.insert_call("a", &json!({})).await;
    end_all(&database, "failed").await;
    ended(&database, "unknown", 1).await;
    let callable = "SELECT proname::text, r.rolname::text, ARRAY(SELECT type::regtype::text FROM unnest(proargtypes) WITH ORDINALITY AS t (type, n) ORDER BY n)
                    FROM pg_proc, aclexplode(proacl) AS acl JOIN pg_roles AS r ON r.oid = acl.grantee
                    WHERE pronamespace = 'postcall'::regnamespace AND prosecdef AND acl.grantee <> proowner ORDER BY 1, 2";
    let callable: Vec<(String, String, Vec<String>)> =
        sqlx::query_as(callable).fetch_all(&database.pool).await.unwrap();
    assert!(callable.len() >= 15, "{callable:?}");
    let before = everything(&database).await;
    for (name, role, kinds) in &callable {
        let mut connection = hostile_session(&database, role).await;
        for call in odd_calls(name, kinds) {
            // Not in a transaction that is rolled back: what it changes is to be seen.
            if let Err(error) = sqlx::raw_sql(AssertSqlSafe(call.as_str())).execute(&mut connection).await {
                let error = error.as_database_error().unwrap_or_else(|| panic!("{call}: {error}"));
                let code = error.code().unwrap_or_default().into_owned();
                // Plain refusals: a right, a value that is out of range, or a bound.
                assert!(
                    ["42501", "22023", "54000", "22008", "2202E"].contains(&&*code),
                    "{role}: {call}: {code} {}",
                    error.message()
                );
            }
        }
    }
    assert_eq!(everything(&database).await, before);
}

#[tokio::test]
async fn nobody_makes_a_trigger_of_his_own_out_of_a_function_with_the_owner_s_rights() {
    let database = Database::new().await;
    let triggers = "SELECT string_agg(proname, ',') FROM pg_proc
                    WHERE pronamespace = 'postcall'::regnamespace AND prorettype = 'trigger'::regtype AND prosecdef";
    let triggers = database.text(triggers).await.unwrap();
    for role in ["postcall_platform", "postcall_dispatcher", "postcall_publisher", "postcall_console_operator"] {
        let mut connection = database.connect_as(&[role]).await;
        sqlx::raw_sql("CREATE TEMP TABLE own (agent text)").execute(&mut connection).await.unwrap();
        for function in triggers.split(',') {
            let sql =
                format!("CREATE TRIGGER t BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION postcall.{function}()");
            let error = attempt(&mut connection, &sql).await;
            assert!(error.as_deref().is_some_and(|error| error.starts_with("42501 ")), "{role}: {function}: {error:?}");
        }
    }
}

#[tokio::test]
async fn one_call_locks_ten_thousand_deliveries_at_most() {
    let database = Database::new().await;
    let mut publisher = database.connect_as(&["postcall_publisher"]).await;
    let lock = |count: usize| format!("SELECT postcall.lock_deliveries(array_fill(gen_random_uuid(), ARRAY[{count}]))");
    assert_eq!(attempt(&mut publisher, &lock(10_000)).await, None);
    let error = attempt(&mut publisher, &lock(10_001)).await;
    assert!(error.as_deref().is_some_and(|error| error.contains("no more than 10000 deliveries")), "{error:?}");
}

#[tokio::test]
async fn an_excerpt_of_a_response_is_kept_for_a_year_at_most() {
    let database = Database::new().await;
    let mut dispatcher = database.connect_as(&["postcall_dispatcher"]).await;
    let keep =
        |until: &str| format!("INSERT INTO postcall.response_excerpt VALUES (gen_random_uuid(), '', '', 0, {until})");
    assert_eq!(attempt(&mut dispatcher, &keep("now() + interval '366 days'")).await, None);
    for until in ["'infinity'", "now() + interval '368 days'"] {
        let error = attempt(&mut dispatcher, &keep(until)).await;
        assert!(
            error.as_deref().is_some_and(|error| error.contains("excerpts_are_kept_for_366_days_at_most")),
            "{error:?}"
        );
    }
}

/// Records that a secret is read, as the user of the connection, and returns the id.
async fn opening(publisher: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO postcall.secret_opening (agent, names, opened_by, reason) VALUES ('a', '{s}', 'Eve', 'r') RETURNING opening_id",
    )
    .fetch_one(publisher)
    .await
}

#[tokio::test]
async fn a_database_user_reads_secrets_for_120_tests_an_hour_at_most_in_whatever_transactions() {
    let database = Database::new().await;
    database
        .execute(
            "INSERT INTO postcall.secret (agent, name, key_id, wrapped_key, sealed_value)
             VALUES ('a', 's', '0123456789abcdef', decode(repeat('00', 72), 'hex'), decode(repeat('00', 41), 'hex'))",
        )
        .await;
    let url = database.login(&["postcall_publisher"]).await;
    let mut publisher = PgConnection::connect(&url).await.unwrap();
    let given = "SELECT count(*) FROM postcall.secrets_for_test($1)";
    for _ in 0..119 {
        opening(&mut publisher).await.unwrap();
    }
    // Two that do not see each other, of which one is one too many.
    let mut beside = PgConnection::connect(&url).await.unwrap();
    for connection in [&mut publisher, &mut beside] {
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
        opening(connection).await.unwrap();
    }
    sqlx::raw_sql("COMMIT").execute(&mut publisher).await.unwrap();
    let last: i64 = database.number("SELECT max(opening_id) FROM postcall.secret_opening").await;
    let count: i64 = sqlx::query_scalar(given).bind(last).fetch_one(&mut publisher).await.unwrap();
    assert_eq!(count, 1, "the 120th is given");
    sqlx::raw_sql("COMMIT").execute(&mut beside).await.unwrap();
    for id in [last, last + 1] {
        let refused =
            sqlx::query_scalar::<_, i64>(given).bind(id).fetch_one(&mut beside).await.unwrap_err().to_string();
        assert!(refused.contains("secrets for 120 tests within an hour"), "{refused}");
        // Keys that sign are no way around it.
        let keys = given.replace("secrets_for_test", "signing_keys_for_test");
        let refused = sqlx::query_scalar::<_, i64>(AssertSqlSafe(keys)).bind(id).fetch_one(&mut beside).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("secrets for 120 tests within an hour"), "{refused}");
    }
    let refused = opening(&mut beside).await.unwrap_err().to_string();
    assert!(refused.contains("secrets for 120 tests within an hour"), "{refused}");
    // Others are not held up, and an hour later it goes on.
    opening(&mut database.connect_as(&["postcall_publisher"]).await).await.unwrap();
    age(&database, "1 hour").await;
    let id = opening(&mut publisher).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(given).bind(id).fetch_one(&mut publisher).await.unwrap(), 1);
}

/// Makes all openings older, as only the owner can, by taking the guard away.
async fn age(database: &Database, by: &str) {
    database
        .execute(&format!(
            "ALTER TABLE postcall.secret_opening DISABLE TRIGGER secret_openings_are_immutable;
             UPDATE postcall.secret_opening SET opened_at = opened_at - interval '{by}';
             ALTER TABLE postcall.secret_opening ENABLE ALWAYS TRIGGER secret_openings_are_immutable"
        ))
        .await;
}

#[tokio::test]
async fn openings_of_secrets_leave_with_the_tests_of_their_time_and_no_earlier() {
    let database = Database::new().await;
    let mut publisher = database.connect_as(&["postcall_publisher"]).await;
    for _ in 0..3 {
        opening(&mut publisher).await.unwrap();
    }
    age(&database, "40 days").await;
    opening(&mut publisher).await.unwrap();
    let prune = "SELECT postcall.prune_tests(30)";
    let error = attempt(&mut publisher, prune).await;
    assert!(error.as_deref().is_some_and(|error| error.starts_with("42501 ")), "without the owner's bound: {error:?}");
    database.execute("UPDATE postcall.retention SET least_history_days = 20").await;
    assert_eq!(attempt(&mut publisher, "SELECT postcall.prune_tests(19)").await.unwrap()[..5], *"42501");
    sqlx::raw_sql(prune).execute(&mut publisher).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM postcall.secret_opening").await, 1, "the young one stays");
    assert!(database.error_of("DELETE FROM postcall.secret_opening").await.contains("are never changed or deleted"));
}

#[tokio::test]
async fn each_function_with_the_owner_s_rights_is_known_here() {
    let database = Database::new().await;
    let found: Vec<String> = sqlx::query_scalar(DEFINERS).fetch_all(&database.pool).await.unwrap();
    assert_eq!(found.len(), 23, "a new one: try here what a malicious caller can make it do: {found:?}");
}
