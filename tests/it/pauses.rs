//! Pauses: each target has one at a time, history keeps who made it and why, and dispatchers know it at once.

use std::process::Output;
use std::time::Duration;

use postcall::domain::pause::{MOST_PAUSES, NamedTarget, PauseTarget};
use postcall::store::pauses::{Pausing, Resuming};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::database::Database;
use crate::support::process::{postcall_at, postcall_on, stderr, stdout};

/// How long something that waits for nobody may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn agent(agent: &str) -> NamedTarget {
    NamedTarget::Agent(agent.to_owned())
}

/// A database with agents a and b, who have an action each at hosts of their own, and a second action of a.
async fn database() -> Database {
    let database = Database::new().await;
    for (agent, name, url) in [
        ("a", "default", "https://crm.example/${x}"),
        ("a", "second", "https://crm.example:8443/"),
        ("b", "default", "https://other.example/"),
    ] {
        database.publish(agent, name, &json!({"method": "POST", "url": url})).await;
    }
    database
}

fn refused(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", stdout(output));
    stderr(output)
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output)
}

#[tokio::test]
async fn dispatchers_see_what_is_paused_until_it_is_resumed() {
    let database = database().await;
    let url = database.login(&["postcall_dispatcher"]).await;
    let store = postcall::store::Store::connect(&url, 1).await.unwrap();
    let mut dispatcher = store.session(PATIENCE);
    assert_eq!(dispatcher.active_pauses().await.unwrap(), []);
    for arguments in [["agent", "a"], ["action", "b"], ["host", "CRM.example:8443"]] {
        succeeds(&postcall_on(&database, &[&["pause"], &arguments[..], &["--reason", "r"]].concat()));
    }
    let action_b = database.number("SELECT action_id FROM postcall.action WHERE agent = 'b'").await;
    let targets = || async {
        let mut session = store.session(PATIENCE);
        session.active_pauses().await.unwrap().into_iter().map(|pause| pause.target).collect::<Vec<_>>()
    };
    let host = PauseTarget::Host("crm.example:8443".parse().unwrap());
    assert_eq!(targets().await, [host, PauseTarget::Action(action_b), PauseTarget::Agent("a".into())]);
    for arguments in [["agent", "a"], ["host", "crm.EXAMPLE:8443"]] {
        succeeds(&postcall_on(&database, &[&["resume"], &arguments[..], &["--reason", "r"]].concat()));
    }
    assert_eq!(targets().await, [PauseTarget::Action(action_b)]);
    succeeds(&postcall_on(&database, &["resume", "action", "b", "--name", "default", "--reason", "r"]));
    assert_eq!(targets().await, []);
}

#[tokio::test]
async fn of_all_who_pause_or_resume_the_same_at_the_same_time_one_does_and_the_others_are_told() {
    let database = database().await;
    for round in 0..10 {
        let pauses = (0..8).map(|_| async { database.store.pause(&agent("a"), "r", "Ada").await.unwrap() });
        let outcomes = futures_util::future::join_all(pauses).await;
        let paused = outcomes.iter().filter(|outcome| matches!(outcome, Pausing::Paused { .. })).count();
        let told = outcomes.iter().filter(|outcome| matches!(outcome, Pausing::AlreadyPaused(_))).count();
        assert_eq!((paused, told), (1, 7), "{outcomes:?}");
        let resumptions = (0..8).map(|_| async { database.store.resume(&agent("a"), "r", "Ada").await.unwrap() });
        let outcomes = futures_util::future::join_all(resumptions).await;
        let resumed = outcomes.iter().filter(|outcome| matches!(outcome, Resuming::Resumed(_))).count();
        let told = outcomes.iter().filter(|outcome| **outcome == Resuming::NotPaused).count();
        assert_eq!((resumed, told), (1, 7), "{outcomes:?}");
        let ended = "SELECT count(*) FROM postcall.pause JOIN postcall.pause_end USING (pause_id)";
        assert_eq!(database.number(ended).await, round + 1);
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.pause").await, 10);
}

#[tokio::test]
async fn a_pause_that_is_not_committed_decides_for_its_own_target_alone_and_keeps_no_insert_waiting() {
    let database = database().await;
    let insert = "INSERT INTO postcall.pause (agent, reason, paused_by) VALUES ('a', 'r', 'Ada')";
    let by_action =
        "INSERT INTO postcall.pause (action_id, reason, paused_by) SELECT action_id, 'r', 'Ada' FROM postcall.action";
    for commits in [false, true] {
        let mut first = database.pool.begin().await.unwrap();
        sqlx::query(insert).execute(&mut *first).await.unwrap();
        sqlx::query(by_action).execute(&mut *first).await.unwrap();
        let others = async {
            database.insert_call("a", &json!({})).await;
            let paused = database.store.pause(&agent("b"), "r", "Eve").await.unwrap();
            assert!(matches!(paused, Pausing::Paused { .. }), "{paused:?}");
            let resumed = database.store.resume(&agent("b"), "r", "Eve").await.unwrap();
            assert!(matches!(resumed, Resuming::Resumed(_)), "{resumed:?}");
        };
        tokio::time::timeout(PATIENCE, others).await.expect("they wait for a pause that is none of theirs");
        let store = database.store.clone();
        let second = tokio::spawn(async move { store.pause(&agent("a"), "r", "Bob").await.unwrap() });
        database.until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").await;
        if commits {
            first.commit().await.unwrap();
            let Pausing::AlreadyPaused(begun) = second.await.unwrap() else { panic!("it was paused before") };
            assert_eq!(begun.by, "Ada");
        } else {
            first.rollback().await.unwrap();
            assert!(matches!(second.await.unwrap(), Pausing::Paused { .. }));
            database.store.resume(&agent("a"), "r", "Bob").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_pause_and_its_end_stay_on_record_with_who_when_why_and_a_database_user_that_cannot_be_forged() {
    let database = database().await;
    let url = database.login(&["postcall_publisher"]).await;
    let user = url.split(['/', '@']).nth(2).unwrap();
    let run = |arguments: &[&str]| succeeds(&postcall_at(&url, arguments));
    run(&["pause", "action", "a", "--name", "second", "--reason", "CRM is down", "--by", "Ada"]);
    run(&["pause", "host", "crm.example", "--reason", "r", "--by", "Ada"]);
    let again = run(&["pause", "action", "a", "--name", "second", "--reason", "too", "--by", "Bob"]);
    assert!(again.contains("was paused already"), "{again}");
    assert!(again.contains(&format!("by Ada (database user {user}): CRM is down")), "{again}");
    let resumed = run(&["resume", "action", "a", "--name", "second", "--reason", "it is back", "--by", "Eve"]);
    assert!(resumed.contains(&format!("by Ada (database user {user}): CRM is down")), "{resumed}");
    let listed = |arguments: &[&str]| -> Value { serde_json::from_str(&run(arguments)).unwrap() };
    let active = listed(&["pause", "list", "--format", "json"]);
    assert_eq!(active.as_array().unwrap().len(), 1);
    assert_eq!((&active[0]["host"], &active[0]["resumed_at"]), (&json!("crm.example"), &Value::Null));
    let all = listed(&["pause", "list", "--all", "--format", "json"]);
    assert_eq!(all.as_array().unwrap().len(), 2);
    let story = [
        "target",
        "agent",
        "name",
        "paused_by",
        "paused_db_user",
        "reason",
        "resumed_by",
        "resumed_db_user",
        "resume_reason",
    ];
    assert_eq!(
        story.map(|field| all[1][field].as_str().unwrap()),
        ["action", "a", "second", "Ada", user, "CRM is down", "Eve", user, "it is back"]
    );
    let table = run(&["pause", "list", "--all"]);
    assert!(table.contains("action a second") && table.contains("it is back"), "{table}");
    assert_eq!(listed(&["pause", "list", "--all", "--limit", "1", "--format", "json"]).as_array().unwrap().len(), 1);
    // Neither user nor time is theirs to choose, nor is the list of what is paused.
    let mut publisher = database.connect_as(&["postcall_publisher"]).await;
    for sql in [
        "INSERT INTO postcall.pause (agent, reason, paused_by, db_user) VALUES ('a', 'r', 'x', 'y')",
        "INSERT INTO postcall.pause (agent, reason, paused_by, paused_at) VALUES ('a', 'r', 'x', now())",
        "INSERT INTO postcall.pause_end (pause_id, reason, resumed_by, db_user) VALUES (2, 'r', 'x', 'y')",
        "INSERT INTO postcall.active_pause (pause_id, agent) VALUES (9, 'b')",
        "DELETE FROM postcall.active_pause",
        "UPDATE postcall.pause SET reason = 'x'",
    ] {
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut publisher).await.expect_err(sql);
        assert!(error.to_string().contains("permission denied"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_pause_that_makes_no_sense_cannot_exist() {
    let database = database().await;
    for (columns, values, constraint) in [
        ("agent, host", "'a', 'crm.example'", "a_pause_has_one_target"),
        ("reason", "'r'", "a_pause_has_one_target"),
        ("agent", "''", "paused_agent_has_1_to_200_characters"),
        ("agent", "repeat('a', 201)", "paused_agent_has_1_to_200_characters"),
        ("host", "'CRM.example'", "paused_host_is_normalised"),
        ("host", "'crm.example/x'", "paused_host_is_normalised"),
        ("host", "'müller.example'", "paused_host_is_normalised"),
        ("host", "''", "paused_host_is_normalised"),
        ("host", "repeat('a', 301)", "paused_host_is_normalised"),
        ("action_id", "77", "pause_action_id_fkey"),
        ("agent, paused_at", "'a', 'infinity'", "pause_times_are_in_range"),
        ("agent, paused_by", "'a', repeat('x', 201)", "paused_by_has_1_to_200_characters"),
    ] {
        let mut row = vec![(columns, values)];
        for column in ["reason", "paused_by"] {
            if !columns.contains(column) {
                row.push((column, "'x'"));
            }
        }
        let (columns, values): (Vec<&str>, Vec<&str>) = row.into_iter().unzip();
        let sql = format!("INSERT INTO postcall.pause ({}) VALUES ({})", columns.join(", "), values.join(", "));
        let error = database.error_of(&sql).await;
        assert!(error.contains(constraint), "{sql}: {error}");
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.active_pause").await, 0);
    // An end needs a pause that is active.
    database.execute("INSERT INTO postcall.pause_end (pause_id, reason, resumed_by) VALUES (77, 'r', 'x')").await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.pause_end").await, 0);
}

#[tokio::test]
async fn no_more_is_paused_than_dispatchers_keep_in_memory() {
    let database = database().await;
    let fill = format!(
        "INSERT INTO postcall.pause (host, reason, paused_by)
         SELECT 'h' || number || '.example', 'r', 'Ada' FROM generate_series(1, {MOST_PAUSES}) AS number"
    );
    database.execute(&fill).await;
    let one_more = ["pause", "agent", "a", "--reason", "r"];
    let error = refused(&postcall_on(&database, &one_more), 1);
    assert!(error.contains("not paused: 1000 pauses are active"), "{error}");
    assert_eq!(database.session().active_pauses().await.unwrap().len(), MOST_PAUSES);
    let error = refused(&postcall_on(&database, &["resume", "agent", "a", "--reason", "r"]), 1);
    assert!(error.contains("host h1000.example") && error.contains("and more"), "{error}");
    succeeds(&postcall_on(&database, &["resume", "host", "h7.example", "--reason", "r"]));
    succeeds(&postcall_on(&database, &one_more));
}

#[tokio::test]
async fn what_is_paused_is_known_without_a_look_at_what_was_paused_before() {
    let database = database().await;
    database.store.pause(&agent("a"), "r", "Ada").await.unwrap();
    // Whoever read the history of pauses would wait for this lock.
    let mut history = database.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE postcall.pause, postcall.pause_end IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *history)
        .await
        .unwrap();
    let pauses = tokio::time::timeout(PATIENCE, database.session().active_pauses()).await;
    assert_eq!(pauses.expect("it reads the history of pauses").unwrap().len(), 1);
}

#[tokio::test]
async fn a_slip_in_a_name_pauses_nothing_and_is_told_with_what_was_probably_meant() {
    let database = database().await;
    database.publish("agent_7f3k2", "default", &json!({"method": "GET", "url": "https://crm.example/"})).await;
    let error =
        |arguments: &[&str], code| refused(&postcall_on(&database, &[arguments, &["--reason", "r"]].concat()), code);
    let unknown = error(&["pause", "agent", "agent_7f3k"], 1);
    assert!(unknown.contains("agent agent_7f3k has no actions: did you mean agent_7f3k2?"), "{unknown}");
    let unknown = error(&["pause", "action", "agent_7f3k"], 1);
    assert!(unknown.contains("did you mean agent_7f3k2?"), "{unknown}");
    let unknown = error(&["pause", "action", "a", "--name", "secnd"], 1);
    assert!(unknown.contains("agent a has no action secnd: did you mean second?"), "{unknown}");
    let bad = error(&["pause", "host", "https://crm.example/hook"], 2);
    assert!(bad.contains("give the host alone"), "{bad}");
    let nothing = error(&["resume", "agent", "a"], 1);
    assert!(nothing.contains("agent a is not paused; nothing is"), "{nothing}");
    assert_eq!(database.number("SELECT count(*) FROM postcall.pause").await, 0);
    // A host need not be known; but it is probably a slip.
    let unused = postcall_on(&database, &["pause", "host", "cmr.example", "--reason", "r"]);
    succeeds(&unused);
    assert!(stderr(&unused).contains("no action goes to host cmr.example"), "{}", stderr(&unused));
    let used = postcall_on(&database, &["pause", "host", "crm.example", "--reason", "r"]);
    succeeds(&used);
    assert!(!stderr(&used).contains("no action"), "{}", stderr(&used));
    let not_paused = error(&["resume", "host", "crm.example:8443"], 1);
    assert!(not_paused.contains("is not paused; what is: host crm.example, host cmr.example"), "{not_paused}");
}

#[tokio::test]
async fn publishers_pause_and_resume_auditors_look_and_nobody_else_does_either() {
    let database = database().await;
    let [platform, dispatcher, auditor] = ["postcall_platform", "postcall_dispatcher", "postcall_auditor"];
    for role in [platform, dispatcher, auditor] {
        let url = database.login(&[role]).await;
        for command in ["pause", "resume"] {
            let error = refused(&postcall_at(&url, &[command, "agent", "a", "--reason", "r"]), 1);
            assert!(error.contains("permission denied"), "{role}: {error}");
            if role != platform {
                assert!(
                    error.contains("This needs a database user with the role postcall_publisher"),
                    "{role}: {error}"
                );
            }
        }
    }
    let url = database.login(&[auditor]).await;
    succeeds(&postcall_at(&url, &["pause", "list", "--all"]));
    let url = database.login(&[platform]).await;
    refused(&postcall_at(&url, &["pause", "list"]), 1);
}
