//! The check of the accounts: it finds nothing wrong while deliveries are in motion. It finds whatever is removed or
//! added by hand, and every guard that is switched off.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use postcall::store::invariants::Invariant;
use postcall::store::{definitions, guards};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_at, postcall_on, stderr, stdout};

/// A database with one enabled action of agent `a`.
async fn database_with_action(url: &str) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": url})).await;
    database
}

/// Runs a statement as an owner who switches the guards of history off for it.
async fn past_the_guards(database: &Database, sql: &str) {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'history_is_immutable' ORDER BY 1",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    let switch = |how: &str| -> String {
        let each = |table: &String| format!("ALTER TABLE {table} {how} TRIGGER history_is_immutable;");
        tables.iter().map(each).collect()
    };
    database.execute(&format!("{} {sql}; {}", switch("DISABLE"), switch("ENABLE ALWAYS"))).await;
}

/// The URL of a new user who has `role` and nothing else.
async fn login(database: &Database, role: &str) -> String {
    let name = format!("{role}_of_{}", database.text("SELECT current_database()").await.unwrap());
    database.execute(&format!("CREATE USER {name} IN ROLE {role}")).await;
    database.url.replace("postgres@", &format!("{name}@"))
}

/// What the command says: the violated invariants with their offenders.
fn violated(database: &Database) -> Vec<(String, Vec<String>)> {
    let output = postcall_on(database, &["check-invariants", "--json"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let invariants = report["invariants"].as_array().unwrap();
    let violated: Vec<(String, Vec<String>)> = invariants
        .iter()
        .filter(|invariant| invariant["holds"] == json!(false))
        .map(|invariant| {
            let offenders = invariant["offenders"].as_array().unwrap();
            let offenders = offenders.iter().map(|offender| offender.as_str().unwrap().to_owned()).collect();
            (invariant["name"].as_str().unwrap().to_owned(), offenders)
        })
        .collect();
    assert_eq!(output.status.code(), Some(i32::from(!violated.is_empty())), "{}", stderr(&output));
    assert_eq!(report["holds"], json!(violated.is_empty()));
    violated
}

/// One violated invariant with one offender.
fn only(name: &str, offender: impl ToString) -> Vec<(String, Vec<String>)> {
    vec![(name.to_owned(), vec![offender.to_string()])]
}

#[tokio::test(flavor = "multi_thread")]
async fn they_hold_at_every_moment_under_load_and_after_a_kill() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox.url("/")).await;
    let victim = Dispatcher::start(&database, &["--lease-ms", "1000"]).await;
    let writer = database.pool.clone();
    let platform = tokio::spawn(async move {
        for _ in 0..2_000 {
            sqlx::query("INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')").execute(&writer).await.unwrap();
        }
    });
    let _heir = Dispatcher::start(&database, &["--lease-ms", "1000"]).await;
    let mut asked = 0;
    while !platform.is_finished() {
        assert_eq!(violated(&database), []);
        asked += 1;
        if asked == 3 {
            victim.signal(Signal::SIGKILL);
        }
    }
    platform.await.unwrap();
    database.settled().await;
    assert_eq!(violated(&database), []);
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery").await, 2_000);
}

#[tokio::test]
async fn a_waiting_delivery_that_is_taken_away_is_missed() {
    let database = database_with_action("https://receiver.example/").await;
    let call = database.insert_call("a", &json!({})).await;
    assert_eq!(violated(&database), []);
    database.execute("DELETE FROM postcall.waiting").await;
    assert_eq!(violated(&database), only("none_missing", format!("{call} default")));
}

#[tokio::test]
async fn a_delivery_in_flight_or_in_history_that_is_taken_away_is_missed() {
    let inbox = Inbox::holding().await;
    let database = database_with_action(&inbox.url("/")).await;
    let call = database.insert_call("a", &json!({})).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    inbox.has(1).await;
    assert_eq!(violated(&database), []);
    // By id, not by moment: its dispatcher, which still holds it, cannot record it any more.
    database.execute("DELETE FROM postcall.sending").await;
    assert_eq!(violated(&database), only("none_missing", format!("{call} default")));
    drop(dispatcher);

    let other = database_with_action(&inbox.url("/")).await;
    let call = other.insert_call("a", &json!({})).await;
    inbox.answer(2);
    let _dispatcher = Dispatcher::start(&other, &[]).await;
    other.settled().await;
    assert_eq!(violated(&other), []);
    past_the_guards(&other, "DELETE FROM postcall.delivery").await;
    assert_eq!(violated(&other), only("none_missing", format!("{call} default")));
}

#[tokio::test]
async fn a_delivery_that_is_put_back_into_the_queue_is_in_two_places() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox.url("/")).await;
    let call = database.insert_call("a", &json!({})).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    drop(dispatcher);
    let again =
        "INSERT INTO postcall.waiting SELECT delivery_id, call_id, agent, action_id, created_at FROM postcall.delivery";
    database.execute(again).await;
    let id = database.text("SELECT delivery_id::text FROM postcall.waiting").await.unwrap();
    assert_eq!(violated(&database), only("one_place", id));
    // Under an id of its own it is a second delivery of the same call.
    database.execute("UPDATE postcall.waiting SET delivery_id = postcall.uuid_v7()").await;
    assert_eq!(violated(&database), only("one_delivery", format!("{call} default")));
}

#[tokio::test]
async fn a_replay_is_no_second_delivery_and_is_missed_if_it_is_taken_away() {
    let inbox = Inbox::open().await;
    let database = database_with_action(&inbox.url("/500")).await;
    database.insert_call("a", &json!({})).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    drop(dispatcher);
    assert!(postcall_on(&database, &["replay", "--agent", "a", "--reason", "r"]).status.success());
    assert_eq!(violated(&database), []);
    let id = database.text("SELECT delivery_id::text FROM postcall.waiting").await.unwrap();
    database.execute("DELETE FROM postcall.waiting").await;
    assert_eq!(violated(&database), only("no_replay_missing", id));
}

#[tokio::test]
async fn what_waits_without_its_call_or_action_shows() {
    let database = database_with_action("https://receiver.example/").await;
    database.insert_call("a", &json!({})).await;
    let id = database.text("SELECT delivery_id::text FROM postcall.waiting").await.unwrap();
    database.execute("DELETE FROM postcall.outbox").await;
    assert_eq!(violated(&database), only("complete", &id));
    let other = database_with_action("https://receiver.example/").await;
    other
        .execute("INSERT INTO postcall.waiting SELECT postcall.uuid_v7(), id, 'a', 99, now() FROM postcall.outbox")
        .await;
    assert_eq!(violated(&other), []);
    other.insert_call("a", &json!({})).await;
    other
        .execute("INSERT INTO postcall.waiting SELECT postcall.uuid_v7(), id, 'a', 99, now() FROM postcall.outbox")
        .await;
    let id = other.text("SELECT delivery_id::text FROM postcall.waiting WHERE action_id = 99").await.unwrap();
    assert_eq!(violated(&other), only("complete", id));
}

#[tokio::test]
async fn nobody_is_accused_because_an_action_was_switched() {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": "https://receiver.example/"});
    // Not yet there, then enabled, then disabled, then enabled again: calls of all four times, each in its right.
    database.insert_call("a", &json!({})).await;
    database.publish("a", "default", &action).await;
    database.insert_call("a", &json!({})).await;
    assert!(postcall_on(&database, &["action", "disable", "a"]).status.success());
    database.insert_call("a", &json!({})).await;
    assert!(postcall_on(&database, &["action", "enable", "a"]).status.success());
    let right_after = database.insert_call("a", &json!({})).await;
    assert_eq!(violated(&database), []);
    // The moment makes no difference: what was decided a moment after a switch is counted on too.
    database.execute(&format!("DELETE FROM postcall.waiting WHERE call_id = '{right_after}'")).await;
    assert_eq!(violated(&database), only("none_missing", format!("{right_after} default")));
}

#[tokio::test]
async fn a_call_is_judged_by_what_its_own_transaction_saw_however_old_that_is() {
    let database = Database::new().await;
    let mut platform = PgConnection::connect(&database.url).await.unwrap();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM postcall.action";
    sqlx::raw_sql(begin).execute(&mut platform).await.unwrap();
    // Enabled hours ago by every record, and yet not for this transaction, which is older than that.
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
        .execute(
            "ALTER TABLE postcall.action_switch DISABLE TRIGGER switches_are_immutable;
             UPDATE postcall.action_switch SET switched_at = switched_at - interval '5 hours';
             ALTER TABLE postcall.action_switch ENABLE ALWAYS TRIGGER switches_are_immutable",
        )
        .await;
    let insert = "INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}'); COMMIT";
    sqlx::raw_sql(insert).execute(&mut platform).await.unwrap();
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 0);
    assert_eq!(violated(&database), []);
}

#[tokio::test]
async fn calls_from_before_the_decision_was_kept_are_counted_and_not_asked_about() {
    let database = database_with_action("https://receiver.example/").await;
    // As a call from before the migration: no decision, no delivery.
    database
        .execute(
            "SET session_replication_role = replica;
             INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}');
             RESET session_replication_role",
        )
        .await;
    assert_eq!(violated(&database), []);
    let report: Value =
        serde_json::from_str(&stdout(&postcall_on(&database, &["check-invariants", "--json"]))).unwrap();
    assert_eq!(report["calls_not_asked_about"], json!(1));
    let text = stdout(&postcall_on(&database, &["check-invariants"]));
    assert!(text.ends_with("calls from before their actions were kept: 1\n"), "{text}");
}

#[tokio::test]
async fn what_is_in_flight_for_too_long_shows() {
    let database = database_with_action("https://receiver.example/").await;
    // Dispatchers that live, with leases that run or have just ended, and what they hold since when; then those that
    // stopped, were lost, or whose lease and request have both been over for too long.
    for (lease, ended, claimed, stuck) in [
        ("5 s", "NULL, NULL", "130 s", false),
        ("5 s", "NULL, NULL", "700 s", false),
        ("5 s", "NULL, NULL", "790 s", true),
        ("-50 s", "NULL, NULL", "300 s", false),
        ("-70 s", "NULL, NULL", "100 s", false),
        ("-70 s", "NULL, NULL", "190 s", true),
        ("5 s", "now() - interval '50 s', NULL", "60 s", false),
        ("5 s", "now() - interval '70 s', NULL", "80 s", true),
        ("-1 s", "NULL, now() - interval '70 s'", "80 s", true),
    ] {
        let sql = format!(
            "WITH one AS (INSERT INTO postcall.dispatcher (name, version, started_at, lease_until, stopped_at, lost_at)
                          VALUES ('d', '1', now() - interval '1 hour', now() + interval '{lease}', {ended})
                          RETURNING dispatcher_id),
                  call AS (INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{{}}') RETURNING id)
             INSERT INTO postcall.sending
             SELECT postcall.uuid_v7(), id, 'a', 1, 1, now(), dispatcher_id, gen_random_uuid(),
                    now() - interval '{claimed}' FROM one, call"
        );
        database.execute(&sql).await;
        database.execute("DELETE FROM postcall.waiting").await;
        let id = database.text("SELECT delivery_id::text FROM postcall.sending").await.unwrap();
        let expected = if stuck { only("none_stuck", id) } else { vec![] };
        assert_eq!(violated(&database), expected, "{lease}, {ended}, {claimed}");
        // What the doctor asks.
        assert_eq!(database.store.stuck().await.unwrap(), i64::from(stuck), "{lease}, {ended}, {claimed}");
        database.execute("DELETE FROM postcall.sending; DELETE FROM postcall.outbox").await;
    }
    // What is held by nobody that ever was is wrong at once.
    database
        .execute(
            "WITH call AS (INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}') RETURNING id)
             INSERT INTO postcall.sending
             SELECT postcall.uuid_v7(), id, 'a', 1, 1, now(), 999, gen_random_uuid(), now() FROM call",
        )
        .await;
    database.execute("DELETE FROM postcall.waiting").await;
    let id = database.text("SELECT delivery_id::text FROM postcall.sending").await.unwrap();
    assert_eq!(violated(&database), only("none_stuck", id));
}

#[tokio::test]
async fn the_list_of_guards_is_that_of_the_migrated_schema_in_both_directions() {
    let database = Database::new().await;
    let kept = |guard: &guards::Guard| !["partition", "detached"].contains(&guard.kind.as_str());
    let present = database.store.guards().await.unwrap();
    let present: BTreeSet<String> = present.iter().filter(|guard| kept(guard)).map(guards::Guard::line).collect();
    let listed: BTreeSet<String> = guards::shipped().into_iter().map(str::to_owned).collect();
    let unlisted: Vec<&String> = present.difference(&listed).collect();
    let absent: Vec<&String> = listed.difference(&present).collect();
    assert!(unlisted.is_empty() && absent.is_empty(), "not in the list: {unlisted:#?}\nonly in the list: {absent:#?}");
}

/// What is said of the guards.
async fn unguarded(database: &Database) -> Vec<String> {
    let accounts = database.store.check_invariants().await.unwrap();
    let checked = accounts.checked.into_iter().find(|checked| checked.invariant == Invariant::GuardsOn).unwrap();
    assert_eq!(usize::try_from(checked.violations).unwrap().min(10), checked.offenders.len());
    checked.offenders
}

#[tokio::test]
async fn every_guard_that_is_switched_off_shows_on_each_partition_too() {
    let database = Database::new().await;
    assert_eq!(unguarded(&database).await, Vec::<String>::new());
    // Partitions from after the migrations have theirs as well.
    database.execute("CREATE TABLE postcall.delivery_20250101 PARTITION OF postcall.delivery
                      FOR VALUES FROM ('01940000-0000-0000-0000-000000000000') TO ('01950000-0000-0000-0000-000000000000')")
        .await;
    let without = ["delivery_20250101: trigger rows_are_not_truncated is missing"];
    assert_eq!(unguarded(&database).await, without);
    database.execute("SELECT postcall.guard_against_truncate('postcall.delivery_20250101')").await;
    assert_eq!(unguarded(&database).await, Vec::<String>::new());
    let triggers: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT relname::text, tgname::text, CASE tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END
         FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
         WHERE relnamespace = 'postcall'::regnamespace AND NOT tgisinternal AND relkind = 'r'",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert!(triggers.len() > 30, "{triggers:?}");
    for (table, trigger, on) in triggers {
        database.execute(&format!("ALTER TABLE postcall.{table} DISABLE TRIGGER {trigger}")).await;
        assert_eq!(unguarded(&database).await, [format!("{table}: trigger {trigger} is switched off")]);
        database.execute(&format!("ALTER TABLE postcall.{table} {on} TRIGGER {trigger}")).await;
    }
    assert_eq!(unguarded(&database).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_guard_that_is_dropped_weakened_or_hollowed_out_shows() {
    let said_after = async |sql: &str| {
        let database = Database::new().await;
        database.execute(sql).await;
        unguarded(&database).await
    };
    for (sql, said) in [
        ("DROP TRIGGER actions_stay ON postcall.action", "action: trigger actions_stay is missing"),
        (
            "ALTER TABLE postcall.resolution DROP CONSTRAINT a_late_delivery_means_2xx",
            "resolution: constraint a_late_delivery_means_2xx is missing",
        ),
        (
            "ALTER TABLE postcall.delivery DROP CONSTRAINT delivered_means_2xx",
            "delivery: constraint delivered_means_2xx is missing",
        ),
        (
            "ALTER TABLE postcall.replay ENABLE TRIGGER replays_are_immutable",
            "replay: trigger replays_are_immutable is not the one that was shipped",
        ),
        (
            "DROP TRIGGER evidence_is_immutable ON postcall.resolution;
             CREATE TRIGGER evidence_is_immutable BEFORE UPDATE ON postcall.resolution
                 FOR EACH ROW EXECUTE FUNCTION postcall.refuse_change();
             ALTER TABLE postcall.resolution ENABLE ALWAYS TRIGGER evidence_is_immutable",
            "resolution: trigger evidence_is_immutable is not the one that was shipped",
        ),
        (
            "CREATE OR REPLACE FUNCTION postcall.refuse_change() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN RETURN NEW; END'",
            "function refuse_change is not the one that was shipped",
        ),
        (
            "DO $$ DECLARE name text; BEGIN
                 SELECT inhrelid::regclass INTO name FROM pg_inherits
                 WHERE inhparent = 'postcall.delivery'::regclass AND inhrelid <> 'postcall.delivery_default'::regclass
                 ORDER BY 1 LIMIT 1;
                 EXECUTE 'ALTER TABLE postcall.delivery DETACH PARTITION ' || name;
                 EXECUTE 'ALTER TABLE ' || name || ' RENAME TO delivery_19990101'; END $$",
            "delivery_19990101 is no longer a partition: its rows are not searched and not checked",
        ),
    ] {
        assert_eq!(said_after(sql).await, [said], "{sql}");
    }
}

#[tokio::test]
async fn the_report_names_ten_offenders_and_tells_the_ages_and_needs_an_auditor_s_rights_only() {
    let database = database_with_action("https://receiver.example/").await;
    let expected = "holds     one_place\nholds     one_delivery\nholds     none_missing\nholds     no_replay_missing\n\
                    holds     complete\nholds     none_stuck\nholds     guards_on\noldest waiting: none\n\
                    oldest sending: none\noldest unknown: none\ncalls from before their actions were kept: 0\n";
    for role in ["postcall_auditor", "postcall_dispatcher", "postcall_publisher"] {
        let output = postcall_at(&login(&database, role).await, &["check-invariants"]);
        assert!(output.status.success(), "{role}: {}", stderr(&output));
        assert_eq!(stdout(&output), expected, "{role}");
    }
    database.execute("INSERT INTO postcall.outbox (agent, call) SELECT 'a', '{}' FROM generate_series(1, 12)").await;
    database.execute("DELETE FROM postcall.waiting").await;
    database.insert_call("a", &json!({})).await;
    let output = postcall_on(&database, &["check-invariants"]);
    let said = stdout(&output);
    assert!(said.contains("VIOLATED  none_missing: calls without a delivery that they ought to have: 12\n"), "{said}");
    assert!(said.contains("          and 2 more\n") && said.contains("oldest waiting: 0."), "{said}");
    assert!(stderr(&output).contains("1 of 7 invariants are violated"), "{}", stderr(&output));
}

#[tokio::test]
async fn every_view_and_function_of_the_schema_is_compared_with_what_the_migrations_define() {
    let database = Database::new().await;
    let present = "SELECT string_agg(named, ',' ORDER BY named COLLATE \"C\") FROM (
                       SELECT 'view ' || relname AS named FROM pg_class WHERE relnamespace = 'postcall'::regnamespace AND relkind IN ('v', 'm')
                       UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'postcall'::regnamespace) AS all_of_them";
    let shipped: Vec<String> = definitions::shipped().collect();
    assert_eq!(database.text(present).await.unwrap(), shipped.join(","));
    let found = database.store.definitions().await.unwrap();
    assert_eq!((found.faults, found.compared), (Vec::new(), true));
    // Whoever may make nothing temporary is told so, and accuses nobody.
    let name = database.url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    database.execute(&format!("REVOKE TEMPORARY ON DATABASE \"{name}\" FROM PUBLIC")).await;
    let output = postcall_at(&database.login(&["postcall_auditor"]).await, &["check-invariants"]);
    assert!(
        output.status.success() && stdout(&output).contains("views and functions were not compared"),
        "{}",
        stdout(&output)
    );
}

#[tokio::test]
async fn a_view_or_function_that_was_replaced_shows_and_so_does_what_hides_rows() {
    let view = "SELECT format('CREATE OR REPLACE VIEW postcall.delivery_history AS SELECT * FROM (%s) AS honest WHERE state <> ''failed''',
                              rtrim(pg_get_viewdef('postcall.delivery_history'::regclass), ';'))";
    for (change, fault) in [
        ("the view, without what failed", "view delivery_history is not the one that was shipped"),
        ("ALTER VIEW postcall.action_target SET (security_barrier)", "view action_target is not the one that was shipped"),
        ("DROP VIEW postcall.action_test_history", "view action_test_history is missing"),
        (
            "CREATE OR REPLACE FUNCTION postcall.version_digest(action_id bigint, version integer) RETURNS bytea LANGUAGE sql STABLE
                 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT sha256('''')'",
            "function version_digest is not the one that was shipped",
        ),
        ("ALTER FUNCTION postcall.secrets_for_test(bigint) RESET ALL", "function secrets_for_test is not the one that was shipped"),
        ("ALTER FUNCTION postcall.record_switch() SECURITY INVOKER", "function record_switch is not the one that was shipped"),
        (
            "CREATE OR REPLACE FUNCTION postcall.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
                 AS 'BEGIN RETURN coalesce(NEW, OLD); END'",
            "function refuse_change is not the one that was shipped",
        ),
        (
            "CREATE FUNCTION postcall.kept_since(what json, keep_days bigint) RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
            "function kept_since is there more than once: which one is called depends on its arguments",
        ),
        ("ALTER TABLE postcall.delivery ENABLE ROW LEVEL SECURITY", "delivery: row-level security is on, so that rows are hidden from some"),
        (
            "CREATE RULE lost AS ON INSERT TO postcall.pause_end DO INSTEAD NOTHING",
            "pause_end: the rule lost is not one of postcall's",
        ),
    ] {
        let database = Database::new().await;
        let sql = if change.starts_with("the view") { database.text(view).await.unwrap() } else { change.to_owned() };
        database.execute(&sql).await;
        assert_eq!(unguarded(&database).await, [fault], "{sql}");
    }
}
