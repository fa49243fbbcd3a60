//! What keeps migrations from being applied is explained in plain words, with statements that really help.

use std::path::Path;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::process::{postcall_at, sqlx_migrate, stderr, stdout};
use crate::support::tools;

/// The last migration of the first release.
const FIRST_RELEASE: &str = "20261123000014";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command that fails, and returns what it says.
fn refusal(url: &str, arguments: &[&str]) -> String {
    let output = postcall_at(url, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
    stderr(&output)
}

fn migrate(url: &str) -> String {
    let output = postcall_at(url, &["migrate"]);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// The statements that a refusal proposes: its indented lines.
fn cure(refusal: &str) -> String {
    let lines: Vec<&str> = refusal.lines().filter(|line| line.starts_with("  ")).collect();
    assert!(!lines.is_empty(), "{refusal}");
    lines.join("\n")
}

/// Runs statements in one session of this user.
async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
}

async fn number(url: &str, sql: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect(sql)
}

fn as_user(url: &str, user: &str) -> String {
    url.replace("postgres@", &format!("{user}@"))
}

#[tokio::test]
async fn a_database_that_is_not_utf8_is_refused_by_every_command_with_the_cure() {
    let url = Database::created("ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'").await;
    for command in [&["migrate"][..], &["run"], &["history"], &["action", "list"], &["check-invariants"], &["demo"]] {
        let words = refusal(&url, command);
        assert!(words.contains("encoding is SQL_ASCII, and postcall needs UTF8"), "{command:?}: {words}");
        assert!(words.contains("CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"), "{command:?}: {words}");
    }
    assert_eq!(number(&url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'postcall'").await, 0);
}

/// A server of its own, because roles belong to all databases of one.
#[tokio::test]
async fn a_user_who_may_not_create_roles_is_told_what_a_superuser_has_to_run_and_then_goes_up_and_down_again() {
    let cluster = Cluster::start().await;
    cluster.execute("CREATE ROLE owner LOGIN").await;
    cluster.execute("CREATE DATABASE voice OWNER owner").await;
    let url = as_user(&cluster.url_of("voice"), "owner");
    let words = refusal(&url, &["migrate"]);
    assert!(words.contains("the user owner may not create roles"), "{words}");
    assert_eq!(
        number(&url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'postcall'").await,
        0,
        "nothing changed"
    );
    let statements = cure(&words);
    assert_eq!(statements.matches("CREATE ROLE postcall_").count(), 7, "{words}");
    execute(&cluster.url_of("voice"), &statements).await;
    migrate(&url);

    // Down again with the real sqlx-cli: the roles stay, since the user may not drop them, and nothing fails.
    sqlx_migrate(&url, root(), &["revert", "--target-version", "0"]);
    let objects = "SELECT count(*) FROM pg_class WHERE relnamespace = 'postcall'::regnamespace
                                                   AND relname NOT LIKE '\\_sqlx\\_migrations%'";
    assert_eq!(number(&url, objects).await, 0);
    assert_eq!(number(&url, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'postcall\\_%'").await, 7);
    sqlx_migrate(&url, root(), &["run"]);
    assert_eq!(migrate(&url), "the schema is up to date\n");

    // From the first release on: only the role that is new is missing.
    sqlx_migrate(&url, root(), &["revert", "--target-version", FIRST_RELEASE]);
    cluster.execute("DROP ROLE postcall_publisher").await;
    let words = refusal(&url, &["migrate"]);
    assert_eq!(cure(&words).trim(), "CREATE ROLE postcall_publisher NOLOGIN;");
    execute(&cluster.url_of("voice"), &cure(&words)).await;
    migrate(&url);
}

#[tokio::test]
async fn migrations_that_stand_in_another_ledger_are_found_and_the_statements_given_move_them() {
    let elsewhere = tempfile::tempdir().unwrap();
    let source = root().join("migrations");
    let source = ["run", "--source", source.to_str().unwrap()];
    // As it came about: the ledger was made from the repository's root, and the migrations applied from elsewhere. Once all
    // of them, once some, into the ledger that holds the platform's own as well.
    for steps in [&source[..], &[&source[..], &["--target-version", FIRST_RELEASE]].concat()] {
        let url = Database::created("TEMPLATE template0").await;
        sqlx_migrate(&url, root(), &["info"]);
        sqlx_migrate(&url, elsewhere.path(), steps);
        // A version that lies among ours by its number, and is not ours.
        let platform = "INSERT INTO public._sqlx_migrations VALUES (20261123120000, 'platform', now(), true, 'x', 1)";
        if steps.len() != source.len() {
            execute(&url, platform).await;
        }
        for command in ["migrate", "run"] {
            let words = refusal(&url, &[command]);
            assert!(words.contains("were applied under another ledger, public._sqlx_migrations"), "{words}");
        }
        let objects = "SELECT count(*) FROM pg_class WHERE relnamespace = 'postcall'::regnamespace";
        let before = number(&url, objects).await;
        execute(&url, &cure(&refusal(&url, &["migrate"]))).await;
        assert_eq!(number(&url, objects).await, before);
        let applied = migrate(&url);
        assert_eq!(applied == "the schema is up to date\n", steps.len() == source.len(), "{applied}");
        sqlx_migrate(&url, root(), &["run"]);
        let left = number(&url, "SELECT count(*) FROM public._sqlx_migrations").await;
        assert_eq!(left, i64::from(steps.len() != source.len()), "only what is the platform's stays");
    }
}

#[tokio::test]
async fn a_lost_ledger_in_another_schema_is_found_even_where_ours_is_missing() {
    let url = Database::created("TEMPLATE template0").await;
    migrate(&url);
    execute(&url, "CREATE SCHEMA \"a b\"; ALTER TABLE postcall._sqlx_migrations SET SCHEMA \"a b\"").await;
    let words = refusal(&url, &["migrate"]);
    assert!(words.contains("under another ledger, \"a b\"._sqlx_migrations"), "{words}");
    execute(&url, &cure(&words)).await;
    assert_eq!(migrate(&url), "the schema is up to date\n");
}

#[tokio::test]
async fn a_schema_of_somebody_else_is_left_alone_and_its_owner_needs_no_right_on_the_database() {
    let url = Database::created("TEMPLATE template0").await;
    let (owner, stranger) = (format!("owner_{}", std::process::id()), format!("stranger_{}", std::process::id()));
    migrate(&Database::created("TEMPLATE template0").await);
    execute(&url, &format!("CREATE ROLE {owner} LOGIN; CREATE ROLE {stranger} LOGIN")).await;
    let words = refusal(&as_user(&url, &owner), &["migrate"]);
    assert!(words.contains("may not create the schema postcall"), "{words}");
    execute(&url, &cure(&words)).await;
    let words = refusal(&as_user(&url, &stranger), &["migrate"]);
    assert!(words.contains(&format!("belongs to {owner}, and {stranger} is not a member")), "{words}");
    migrate(&as_user(&url, &owner));
    assert_eq!(migrate(&as_user(&url, &owner)), "the schema is up to date\n");
}

#[tokio::test]
async fn however_many_migrate_at_the_same_time_each_migration_is_applied_once() {
    let url = Database::created("TEMPLATE template0").await;
    let tasks: Vec<_> = (0..5)
        .map(|_| {
            let url = url.clone();
            tokio::task::spawn_blocking(move || migrate(&url))
        })
        .collect();
    let mut applied = Vec::new();
    for task in tasks {
        applied.extend(task.await.unwrap().lines().filter(|line| line.starts_with("applied")).map(str::to_owned));
    }
    let migrations = number(&url, "SELECT count(*) FROM postcall._sqlx_migrations").await;
    applied.sort();
    applied.dedup();
    assert_eq!(applied.len() as i64, migrations, "{applied:#?}");
    assert_eq!(migrate(&url), "the schema is up to date\n");
}

/// The schema of the first release, with a transaction of the platform that is open.
async fn with_open_transaction() -> (String, PgConnection) {
    let url = Database::created("TEMPLATE template0").await;
    sqlx_migrate(&url, root(), &["run", "--target-version", FIRST_RELEASE]);
    let mut platform = PgConnection::connect(&url).await.unwrap();
    let insert = "BEGIN; INSERT INTO postcall.outbox (agent, call) VALUES ('a', '{}')";
    sqlx::raw_sql(insert).execute(&mut platform).await.unwrap();
    (url, platform)
}

#[tokio::test]
async fn a_migration_that_meets_a_long_transaction_gives_way_and_says_how_to_find_it() {
    let (url, mut platform) = with_open_transaction().await;
    let words = refusal(&url, &["migrate"]);
    assert!(words.contains("no transaction uses its tables") && words.contains("migrate again"), "{words}");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let found = sqlx::query(AssertSqlSafe(cure(&words))).fetch_all(&mut connection).await.unwrap();
    assert!(!found.is_empty(), "the statement shows the transaction");
    sqlx::raw_sql("COMMIT").execute(&mut platform).await.unwrap();
    migrate(&url);
    assert_eq!(number(&url, "SELECT count(*) FROM postcall.outbox").await, 1);
}

#[tokio::test]
async fn a_migration_that_is_the_victim_of_a_deadlock_is_tried_again_and_not_for_ever() {
    for (victims, tries) in [(2, 3), (1_000, 20)] {
        let database = Database::empty().await;
        database
            .execute(&format!(
                "CREATE SEQUENCE public.tries;
                 CREATE FUNCTION public.fall_victim() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF nextval('public.tries') <= {victims} THEN RAISE 'deadlock' USING ERRCODE = 'deadlock_detected'; END IF;
                 END $$;
                 CREATE EVENT TRIGGER falls_victim ON ddl_command_start WHEN TAG IN ('CREATE TYPE', 'CREATE VIEW')
                     EXECUTE FUNCTION public.fall_victim()"
            ))
            .await;
        let migrated = database.store.migrate().await;
        assert_eq!(migrated.is_ok(), victims < tries, "{migrated:?}");
        if let Err(error) = migrated {
            assert!(error.to_string().contains("was not applied"), "{error}");
            assert_eq!(database.number("SELECT last_value FROM public.tries").await, tries);
        }
    }
}

#[tokio::test]
async fn a_migration_whose_session_is_ended_in_the_middle_is_repeated_from_where_it_was() {
    for kill_process in [false, true] {
        let (url, mut platform) = with_open_transaction().await;
        // The platform's transaction stops it in the middle: some migrations are applied, one waits.
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_postcall"));
        let command = command.arg("migrate").env("DATABASE_URL", &url).kill_on_drop(true);
        let mut migrating =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'postcall' AND wait_event_type = 'Lock'";
        while number(&url, waits).await == 0 {
            assert!(migrating.try_wait().unwrap().is_none(), "it ended before it was stopped");
        }
        if kill_process {
            let process = nix::unistd::Pid::from_raw(migrating.id().unwrap().try_into().unwrap());
            nix::sys::signal::kill(process, Signal::SIGKILL).unwrap();
        } else {
            execute(
                &url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE datname = current_database() AND application_name = 'postcall'",
            )
            .await;
        }
        assert!(!migrating.wait().await.unwrap().success());
        sqlx::raw_sql("COMMIT").execute(&mut platform).await.unwrap();
        migrate(&url);
        assert_eq!(migrate(&url), "the schema is up to date\n");
    }
}

/// The versions of this release's migrations, in their order.
fn of_this_release() -> Vec<String> {
    let files = std::fs::read_dir(root().join("migrations")).unwrap().map(|file| file.unwrap().file_name());
    let mut versions: Vec<String> = files
        .filter_map(|file| Some(file.to_str().unwrap().strip_suffix(".up.sql")?.split('_').next()?.to_owned()))
        .collect();
    versions.retain(|version| version.as_str() > FIRST_RELEASE);
    versions.sort();
    versions
}

/// Runs `sqlx migrate …` while an insert is half way: it has the outbox and comes to the other tables only when the
/// migration stands in its way, if that ever does. Neither may fail.
async fn during_an_insert(url: &str, arguments: &[&str]) {
    let mut platform = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE postcall.outbox IN ROW EXCLUSIVE MODE").execute(&mut platform).await.unwrap();
    let mut sqlx = tokio::process::Command::new(tools::sqlx());
    let sqlx = sqlx.arg("migrate").args(arguments).current_dir(root()).env("DATABASE_URL", url).kill_on_drop(true);
    let mut migrating = sqlx.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'relation'";
    while migrating.try_wait().unwrap().is_none() && number(url, waits).await == 0 {}
    let rest = "SELECT FROM postcall.action; LOCK TABLE postcall.waiting IN ROW EXCLUSIVE MODE; COMMIT";
    sqlx::raw_sql(rest).execute(&mut platform).await.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    assert!(migrating.wait().await.unwrap().success(), "{arguments:?}");
}

#[tokio::test]
async fn no_migration_up_or_down_can_make_an_insert_the_victim_of_a_deadlock() {
    let url = Database::created("TEMPLATE template0").await;
    sqlx_migrate(&url, root(), &["run", "--target-version", FIRST_RELEASE]);
    let versions = of_this_release();
    assert!(versions.len() >= 10, "{versions:?}");
    for version in &versions {
        during_an_insert(&url, &["run", "--target-version", version]).await;
    }
    for _ in &versions {
        during_an_insert(&url, &["revert"]).await;
    }
    assert_eq!(number(&url, "SELECT count(*) FROM postcall._sqlx_migrations").await, 14);
}
