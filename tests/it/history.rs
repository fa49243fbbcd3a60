//! History: rows that make no sense cannot exist, nothing changes or leaks, and every question finds its rows.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_at, postcall_on, stderr, stdout};

/// A complete delivered row; `changes` replaces columns.
fn row(changes: &[(&str, &str)]) -> String {
    let mut columns = vec![
        ("delivery_id", "postcall.uuid_v7()"),
        ("call_id", "postcall.uuid_v7()"),
        ("claim", "postcall.uuid_v7()"),
        ("action_id", "1"),
        ("created_at", "now()"),
        ("claimed_at", "now()"),
        ("finished_at", "now()"),
        ("action_version", "1"),
        ("dispatcher_id", "1"),
        ("agent", "'a'"),
        ("state", "'delivered'"),
        ("error_kind", "NULL"),
        ("error_detail", "NULL"),
        ("method", "'POST'"),
        ("url", "'https://receiver.example/'"),
        ("response_code", "200"),
        ("response_bytes", "0"),
        ("response_sha256", "sha256('')"),
        ("body_end", "'complete'"),
        ("latency_ms", "5"),
    ];
    for (name, value) in changes {
        columns.iter_mut().find(|column| column.0 == *name).expect(name).1 = value;
    }
    let (names, values): (Vec<&str>, Vec<&str>) = columns.into_iter().unzip();
    format!("INSERT INTO postcall.delivery ({}) VALUES ({})", names.join(", "), values.join(", "))
}

const NO_ANSWER: [(&str, &str); 4] =
    [("response_code", "NULL"), ("response_bytes", "NULL"), ("response_sha256", "NULL"), ("body_end", "NULL")];

fn unanswered<'a>(state: &'a str, kind: &'a str) -> Vec<(&'a str, &'a str)> {
    [&NO_ANSWER[..], &[("state", state), ("error_kind", kind)]].concat()
}

#[tokio::test]
async fn every_state_has_rows_that_make_sense() {
    let database = Database::new().await;
    database.execute(&row(&[])).await;
    database.execute(&row(&[("state", "'rejected'"), ("response_code", "302")])).await;
    database.execute(&row(&[("body_end", "'timeout'")])).await;
    for kind in ["blocked", "dns", "connect", "tls"] {
        database.execute(&row(&unanswered("'failed'", &format!("'{kind}'")))).await;
    }
    for kind in ["timeout", "reset", "protocol", "dispatcher_lost"] {
        database.execute(&row(&unanswered("'unknown'", &format!("'{kind}'")))).await;
    }
    let unattempted = [("latency_ms", "NULL"), ("method", "NULL"), ("url", "NULL")];
    database.execute(&row(&[unanswered("'failed'", "'render'"), unattempted.to_vec()].concat())).await;
    database.execute(&row(&[unanswered("'unknown'", "'dispatcher_lost'"), unattempted.to_vec()].concat())).await;
    database.execute(&row(&[unanswered("'skipped'", "NULL"), unattempted.to_vec()].concat())).await;
}

#[tokio::test]
async fn a_row_that_makes_no_sense_cannot_exist() {
    let database = Database::new().await;
    let refusals: Vec<(Vec<(&str, &str)>, &str)> = vec![
        (vec![("state", "'waiting'")], "state_is_final"),
        (vec![("response_code", "404")], "delivered_means_2xx"),
        (vec![("state", "'rejected'")], "delivered_means_2xx"),
        (unanswered("'delivered'", "NULL"), "delivered_means_2xx"),
        (
            vec![("state", "'failed'"), ("error_kind", "'dns'"), ("response_code", "500")],
            "an_answer_means_delivered_or_rejected",
        ),
        (unanswered("'failed'", "'timeout'"), "failed_means_certainly_unsent"),
        (unanswered("'failed'", "NULL"), "failed_means_certainly_unsent"),
        (unanswered("'unknown'", "'connect'"), "unknown_means_perhaps_received"),
        (vec![("error_kind", "'dns'")], "only_failed_and_unknown_have_an_error"),
        (vec![("error_detail", "'oops'")], "only_failed_and_unknown_have_an_error"),
        (vec![("latency_ms", "NULL")], "an_attempt_has_a_latency"),
        (unanswered("'failed'", "'render'"), "an_attempt_has_a_latency"),
        (vec![("body_end", "NULL")], "an_answer_has_a_body_end"),
        (vec![("body_end", "'eaten'")], "an_answer_has_a_body_end"),
        (vec![("response_sha256", "NULL")], "an_answer_has_a_digest"),
        (vec![("url", "NULL")], "what_was_answered_was_sent"),
        (vec![("finished_at", "now() - interval '1 day'")], "nothing_ends_before_it_begins"),
        (vec![("response_code", "1000")], "delivery_response_code_check"),
        (vec![("latency_ms", "-1")], "delivery_latency_ms_check"),
    ];
    for (changes, constraint) in refusals {
        let message = database.error_of(&row(&changes)).await;
        assert!(message.contains("violates check constraint"), "{changes:?}: {message}");
        let refused_alone = database.error_with_only(constraint, &row(&changes)).await;
        assert!(refused_alone.contains(constraint), "{changes:?}: {constraint} lets it pass: {refused_alone}");
    }
}

#[tokio::test]
async fn history_cannot_be_rewritten_even_by_its_owner() {
    let database = Database::new().await;
    database.execute(&row(&[])).await;
    for sql in ["UPDATE postcall.delivery SET agent = 'b'", "DELETE FROM postcall.delivery"] {
        assert_eq!(database.error_of(sql).await.split(" of ").next(), Some("rows"));
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery WHERE agent = 'a'").await, 1);
}

#[tokio::test]
async fn an_auditor_reads_history_and_nothing_else() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    database.insert_call("a", &json!({"callInfo": {"callSid": "CA7"}})).await;
    let mut auditor = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("SET ROLE postcall_auditor").execute(&mut auditor).await.unwrap();
    let sid: String =
        sqlx::query_scalar("SELECT call_sid FROM postcall.delivery_history").fetch_one(&mut auditor).await.unwrap();
    assert_eq!(sid, "CA7");
    for sql in [
        "SELECT call FROM postcall.outbox",
        "SELECT url FROM postcall.action_version",
        "INSERT INTO postcall.waiting SELECT * FROM postcall.waiting",
        "UPDATE postcall.action SET enabled = false",
    ] {
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut auditor).await.expect_err(sql);
        assert!(error.to_string().contains("permission denied"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_dispatcher_works_with_its_role_alone() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database.insert_call("a", &json!({})).await;
    let name = database.text("SELECT current_database()").await.unwrap();
    database.execute(&format!("CREATE USER dispatcher_of_{name} IN ROLE postcall_dispatcher")).await;
    let url = database.url.replace("postgres@", &format!("dispatcher_of_{name}@"));
    let _dispatcher = Dispatcher::start_at(&url, &[]).await;
    database.settled().await;
    assert_eq!(inbox.received().len(), 1);
    database.until("SELECT last_value > 0 FROM postcall.bell").await;
}

/// One delivery in each of several states, through the program itself.
async fn storied() -> (Database, Inbox) {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let action =
        |path: &str| json!({"method": "POST", "url": inbox.url(path), "headers": {"Authorization": "Bearer s3cret"}});
    database.publish("good", "default", &action("/hook?token=s3cret&id=${callInfo.callSid}&x=${nope}")).await;
    database.publish("bad", "crm", &action("/422")).await;
    database.publish("typo", "default", &action("/${callInfo.task}")).await;
    for (number, agent) in ["good", "bad", "typo", "good", "good"].into_iter().enumerate() {
        let call =
            json!({"callInfo": {"callSid": format!("CA{number}")}, "summary": "He said \"hi\", then left\nfor good"});
        database.insert_call(agent, &call).await;
    }
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    drop(dispatcher);
    database.publish("idle", "default", &action("/")).await;
    database.insert_call("idle", &json!({"callInfo": {"callSid": "CA-waits"}})).await;
    (database, inbox)
}

fn listed(database: &Database, arguments: &[&str]) -> Vec<Value> {
    let output = postcall_on(database, &[&["history", "--format", "json"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[tokio::test]
async fn history_finds_what_it_is_asked_for_and_only_that() {
    let (database, _inbox) = storied().await;
    let count = |arguments: &[&str]| listed(&database, arguments).len();
    assert_eq!(count(&[]), 6);
    assert_eq!(count(&["--agent", "good"]), 3);
    assert_eq!(count(&["--action", "crm"]), 1);
    assert_eq!(count(&["--state", "rejected", "--state", "failed"]), 2);
    assert_eq!(count(&["--state", "waiting"]), 1);
    assert_eq!(count(&["--call-sid", "CA3"]), 1);
    assert_eq!(count(&["--call-sid", "CA-waits"]), 1);
    assert_eq!(count(&["--error-kind", "render"]), 1);
    assert_eq!(count(&["--response-code", "422"]), 1);
    assert_eq!(count(&["--since", "2026-01-01", "--until", "2999-01-01T00:00:00Z"]), 6);
    assert_eq!(count(&["--until", "2026-01-01"]), 0);
    assert_eq!(count(&["--agent", "good", "--state", "failed"]), 0);
    let one = &listed(&database, &["--call-sid", "CA1"])[0];
    assert_eq!((one["agent"].as_str(), one["response_code"].as_i64()), (Some("bad"), Some(422)));
    assert_eq!(count(&["--call-id", one["call_id"].as_str().unwrap()]), 1);
}

#[tokio::test]
async fn a_call_is_found_by_its_whole_provider_s_id_in_every_state_however_long_or_numeric() {
    let (database, inbox) = (Database::new().await, Inbox::holding().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let long = format!("CA\u{e9}{}", "0123456789".repeat(40));
    let calls = [
        (json!({"callInfo": {"callSid": long}}), long.as_str()),
        (json!({"callInfo": {"callSid": 12_345_678_901_234_567_890_u64}}), "12345678901234567890"),
        (json!({"callInfo": {"callSid": "CA 'quoted' %"}}), "CA 'quoted' %"),
    ];
    for (call, _) in &calls {
        database.insert_call("a", call).await;
    }
    let found = |state: &str| {
        for (_, sid) in &calls {
            let rows = listed(&database, &["--call-sid", sid]);
            assert_eq!(rows.len(), 1, "{state}: {sid}");
            assert_eq!(rows[0]["state"], json!(state), "{sid}");
            let kept: String = sid.chars().take(256).collect();
            assert_eq!(rows[0]["call_sid"], json!(kept));
        }
        assert_eq!(listed(&database, &["--call-sid", &long[..150]]).len(), 0, "no other is taken for it");
    };
    found("waiting");
    let dispatcher = Dispatcher::start(&database, &[]).await;
    inbox.has(3).await;
    found("sending");
    inbox.answer(3);
    database.settled().await;
    drop(dispatcher);
    found("delivered");
}

/// What a call holds reaches history by no way: not by a URL, not even as a word, and not by an error.
#[tokio::test]
async fn history_keeps_of_a_url_nothing_of_a_call_and_of_its_template_only_plain_words() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let path = "/crm/T0123/${name}/by-${name}?from=${from}&said=${said}&${name}=1&token=s3cret&s3cretonly";
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url(path)})).await;
    database
        .publish("a", "typo", &json!({"method": "POST", "url": inbox.url("/${said.0}/${name}"), "body": "[1${said}]"}))
        .await;
    let said = "My knee hurts";
    database.insert_call("a", &json!({"name": "Aditi", "from": "+14155550123", "said": said})).await;
    // A row of an earlier release, which recorded the whole URL.
    database.execute(&row(&[("url", "'https://receiver.example/Aditi1/x?from=%2B14155550123'")])).await;
    let dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    drop(dispatcher);
    let target = inbox.received()[0].target.clone();
    assert!(
        target.contains("/Aditi/by-Aditi?from=%2B14155550123&said=My%20knee%20hurts"),
        "the receiver gets all: {target}"
    );
    let recorded = "SELECT string_agg(to_jsonb(d)::text, E'\\n') FROM postcall.delivery_history AS d WHERE agent = 'a' AND call_id IN
                        (SELECT id FROM postcall.outbox)";
    let recorded = database.text(recorded).await.unwrap();
    let kept = inbox.url("/crm/…/…/…?from=…&said=…&…&token=…&…");
    assert!(recorded.contains(&kept), "{kept} in:\n{recorded}");
    let listed = stdout(&postcall_on(&database, &["history", "--format", "csv"]));
    assert!(listed.contains(&kept) && listed.contains("https://receiver.example/…/x?from=…"), "{listed}");
    for secret in ["Aditi", "4155550123", "knee", "s3cret", "T0123"] {
        assert!(!recorded.contains(secret) && !listed.contains(secret), "{secret} in:\n{recorded}\n{listed}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_overlap() {
    let (database, _inbox) = storied().await;
    let all: Vec<Value> = listed(&database, &[]).iter().map(|row| row["delivery_id"].clone()).collect();
    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let more = after.iter().flat_map(|id| ["--after", id.as_str()]).collect::<Vec<_>>();
        let output = postcall_on(&database, &[&["history", "--format", "json", "--limit", "4"], &more[..]].concat());
        let page: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
        paged.extend(page.iter().map(|row| row["delivery_id"].clone()));
        match stderr(&output).trim().strip_prefix("more: repeat with --after ") {
            Some(id) => after = Some(id.to_owned()),
            None => break,
        }
    }
    assert_eq!(paged, all);
}

#[tokio::test]
async fn csv_has_every_column_of_the_view_and_a_table_fits_its_width() {
    let (database, _inbox) = storied().await;
    let csv = stdout(&postcall_on(&database, &["history", "--format", "csv"]));
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = 'postcall.delivery_history'::regclass AND attnum > 0 ORDER BY attnum",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(sorted(header), sorted(columns));
    assert_eq!(reader.records().map(Result::unwrap).count(), 6);
    let table = stdout(&postcall_on(&database, &["history"]));
    assert!(table.lines().all(|line| line.chars().count() <= 160), "{table}");
    assert_eq!(table.lines().count(), 7, "{table}");
}

#[tokio::test]
async fn show_tells_the_whole_story_and_no_secret() {
    let (database, inbox) = storied().await;
    let id = listed(&database, &["--call-sid", "CA0"])[0]["delivery_id"].as_str().unwrap().to_owned();
    let text = stdout(&postcall_on(&database, &["show", &id]));
    for told in [
        "DELIVERED",
        "CA0",
        "token=***&id=CA0&x=",
        "authorization: ***",
        "found nothing for nope",
        "status         200",
        "He said \\\"hi\\\"",
    ] {
        assert!(text.contains(told), "{told} in:\n{text}");
    }
    assert!(!text.contains("s3cret") && !text.contains("WARNING"), "{text}");
    let object: Value = serde_json::from_str(&stdout(&postcall_on(&database, &["show", &id, "--json"]))).unwrap();
    let same = ["body_as_sent", "head_as_sent", "same_as_sent"].map(|part| object["request"][part].as_bool());
    assert_eq!(same, [Some(true), None, None], "without a key there is no digest of the head");
    let sent = object["request"]["body"].as_str().unwrap();
    assert!(inbox.received().iter().any(|request| request.body == sent), "{sent}");
    let everything = stdout(&postcall_on(&database, &["history", "--format", "csv"]));
    assert!(!everything.contains("s3cret"), "{everything}");
    let unknown = postcall_on(&database, &["show", "01a20a0c-146c-7e1c-9aa8-e0f101fcdd31"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("there is no delivery"));
}

/// Whoever may read history, or does so while the database cannot return a call, sees the delivery. What is missing has its
/// own reason in each case: rights, the database, or a call that is gone.
#[tokio::test]
async fn a_request_that_cannot_be_shown_again_has_its_reason_beside_the_delivery() {
    let (database, _inbox) = storied().await;
    let id = listed(&database, &["--call-sid", "CA0"])[0]["delivery_id"].as_str().unwrap().to_owned();
    let auditor = database.login(&["postcall_auditor"]).await;
    let shows = |url: &str, reason: &str| {
        let object: Value = serde_json::from_str(&stdout(&postcall_at(url, &["show", &id, "--json"]))).unwrap();
        assert_eq!(object["request"], json!({ "gone": reason }));
        assert_eq!(object["state"], "delivered", "{object}");
    };
    shows(&auditor, "these rights allow history only");
    database.execute("ALTER TABLE postcall.outbox RENAME COLUMN call TO payload").await;
    shows(&database.url, "the database did not return what it holds");
    database.execute("ALTER TABLE postcall.outbox RENAME COLUMN payload TO call").await;
    database.execute("ALTER TABLE postcall.outbox DISABLE TRIGGER USER; DELETE FROM postcall.outbox").await;
    shows(&database.url, "the call's payload is no longer kept");
}
