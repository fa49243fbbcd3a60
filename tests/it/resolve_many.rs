//! What a person finds out about many unknown deliveries at once: first it is said about which, then each is recorded once, and
//! an interrupted command can be repeated.

use std::process::Output;

use serde_json::json;

use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::process::{postcall_on, stderr, stdout};

const FINDINGS: &str = "SELECT count(*) FROM postcall.resolution";
const REASON: [&str; 4] = ["--reason", "the receiver's log", "--by", "Ada"];

async fn database_with_action() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

fn resolve(database: &Database, finding: &str, arguments: &[&str]) -> Output {
    postcall_on(database, &[&["resolve", "--as", finding], arguments, &REASON].concat())
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(output), stderr(output));
    stderr(output)
}

#[tokio::test]
async fn a_dry_run_says_how_many_and_which_of_those_that_can_be_resolved_and_records_nothing() {
    let database = database_with_action().await;
    ended(&database, "delivered", 2).await;
    let unknown = ended(&database, "unknown", 4).await;
    let (resolved, replayed) = (&unknown[0], &unknown[1]);
    assert!(resolve(&database, "failed", &[resolved]).status.success());
    let replay = ["replay", replayed, "--include-unknown", "--reason", "r"];
    assert!(postcall_on(&database, &replay).status.success());
    end_all(&database, "rejected").await;
    let output = resolve(&database, "delivered", &["--agent", "a", "--dry-run"]);
    let said = stdout(&output);
    assert!(said.ends_with("would resolve 2: 2 unknown\n"), "{said}");
    assert!(unknown[2..].iter().all(|id| said.contains(id)) && said.lines().count() == 4, "{said}");
    let left_out = stderr(&output);
    for words in ["2 delivered (only what is unknown", "1 rejected", "1 failed", "1, replayed already"] {
        assert!(left_out.contains(words), "no {words:?} in {left_out}");
    }
    let one = stdout(&resolve(&database, "delivered", &[&unknown[3], "--dry-run"]));
    assert!(one.contains(&unknown[3]) && one.ends_with("would resolve 1: 1 unknown\n"), "{one}");
    let words = refused(&resolve(&database, "delivered", &[replayed, "--dry-run"]));
    assert!(words.contains("would not be resolved: replayed already"), "{words}");
    let words = refused(&resolve(&database, "delivered", &[resolved, "--dry-run"]));
    assert!(words.contains("would not be resolved: not unknown any more"), "{words}");
    assert_eq!(database.number(FINDINGS).await, 1, "the first, of one");
}

#[tokio::test]
async fn what_matches_is_resolved_once_with_name_and_reason_and_nothing_beside_it() {
    let database = database_with_action().await;
    database.publish("b", "default", &json!({"method": "POST", "url": "https://other.example/"})).await;
    let unknown = ended(&database, "unknown", 3).await;
    database.insert_call("b", &json!({})).await;
    end_all(&database, "unknown").await;
    let failed = ended(&database, "failed", 1).await;
    let criteria = ["--state", "unknown", "--agent", "a", "--error-kind", "timeout", "--since", "1h"];
    let output = resolve(&database, "delivered", &criteria);
    assert_eq!(stdout(&output), "resolved 3 as delivered\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("3 of 3"), "how far it is: {}", stderr(&output));
    let by = "SELECT string_agg(DISTINCT concat_ws(', ', state, recorded_state, resolved_by, resolution_reason), '; ')
              FROM postcall.delivery_history WHERE resolved_at IS NOT NULL";
    assert_eq!(database.text(by).await.unwrap(), "delivered, unknown, Ada, the receiver's log");
    let ids = "SELECT string_agg(delivery_id::text, ' ' ORDER BY delivery_id) FROM postcall.resolution";
    assert_eq!(database.text(ids).await.unwrap(), unknown.join(" "));
    // Repeated, there is nothing left of them, and no finding is put over another.
    assert_eq!(stdout(&resolve(&database, "failed", &criteria)), "no delivery matches\n");
    let words = refused(&resolve(&database, "failed", &["--agent", "a"]));
    assert!(words.contains("nothing is resolved: all deliveries that match are left out"), "{words}");
    assert_eq!(database.text(ids).await.unwrap(), unknown.join(" "));
    assert!(!words.contains(&failed[0]));
}

#[tokio::test]
async fn criteria_must_be_given_and_must_not_match_more_than_bargained_for() {
    let database = database_with_action().await;
    let unknown = ended(&database, "unknown", 3).await;
    for more in [&[][..], &["--dry-run"]] {
        let words = refused(&resolve(&database, "failed", &[&["--agent", "a", "--limit", "2"], more].concat()));
        assert!(words.contains("nothing is resolved: more than 2 deliveries match"), "{words}");
    }
    for wrong in [&[][..], &["--dry-run"], &[&unknown[0], "--agent", "a"]] {
        assert_eq!(resolve(&database, "failed", wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(database.number(FINDINGS).await, 0);
}

#[tokio::test]
async fn what_the_database_interrupts_says_how_many_were_resolved_and_a_repetition_resolves_the_rest() {
    let database = database_with_action().await;
    let last = ended(&database, "unknown", 502).await.remove(501);
    let trouble = format!(
        "CREATE FUNCTION public.trouble() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trouble''; END';
         CREATE TRIGGER trouble BEFORE INSERT ON postcall.resolution
             FOR EACH ROW WHEN (NEW.delivery_id = '{last}') EXECUTE FUNCTION public.trouble()"
    );
    database.execute(&trouble).await;
    let words = refused(&resolve(&database, "failed", &["--state", "unknown"]));
    assert!(words.contains("500 of 502\n501 were resolved before this; repeat the command for the rest\n"), "{words}");
    assert_eq!(database.number(FINDINGS).await, 501);
    database.execute("DROP TRIGGER trouble ON postcall.resolution").await;
    let output = resolve(&database, "failed", &["--state", "unknown"]);
    assert_eq!(stdout(&output), "resolved 1 as failed\n", "{}", stderr(&output));
    assert_eq!(database.number(FINDINGS).await, 502);
}
