//! Metrics, health and readiness of a dispatcher (`--metrics-listen`): they say exactly what happened, nothing personal, and
//! whoever asks for them disturbs nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::inbox::Inbox;
use crate::support::process::{Dispatcher, postcall_on, stderr};
use crate::support::proxy::{Fate, Proxy};
use crate::support::receiver::Receiver;
use crate::support::scrape::{Scrape, Scraper, start};

/// The shortest lease there is.
const LEASE: [&str; 2] = ["--lease-ms", "1000"];
/// More than the server holds at the same time.
const MORE_THAN_IT_HOLDS: usize = 40;
/// What no metric may contain.
const SECRET: &str = "Xyzzy-7391";
/// The largest scrape, in bytes.
const MOST_BYTES: usize = 16 * 1024;

/// The deliveries that a scrape counts, without those of which there are none.
fn deliveries(scrape: &Scrape) -> BTreeMap<(String, String), f64> {
    let samples = scrape.samples.iter().filter(|(name, _, value)| name == "postcall_deliveries_total" && *value > 0.0);
    samples.map(|(_, labels, value)| ((labels["state"].clone(), labels["error_kind"].clone()), *value)).collect()
}

/// Waits until so many deliveries are counted as recorded.
async fn until_counted(scraper: Scraper, count: f64) -> Scrape {
    scraper.until(|scrape| deliveries(scrape).values().sum::<f64>() >= count).await
}

async fn call_for(database: &Database, name: &str, url: &str) {
    let agent = format!("{name}-{SECRET}");
    let action = json!({"method": "POST", "url": url, "timeout": 1_000, "headers": {"x-from": "${callInfo.from}"},
                        "body": r#"{"who": "${nobody}", "n": "${callInfo.from}"}"#});
    database.publish(&agent, "default", &action).await;
    database.insert_call(&agent, &json!({"callInfo": {"from": SECRET}})).await;
}

#[tokio::test]
async fn after_known_deliveries_the_counters_are_exactly_these_and_name_neither_an_agent_nor_a_host_nor_a_caller() {
    let (database, inbox, silent) = (Database::new().await, Inbox::open().await, Inbox::holding().await);
    let resets = Receiver::start(|mut peer| async move {
        peer.request().await;
        peer.reset();
    })
    .await;
    let rubbish = Receiver::answering(b"I speak no HTTP\r\n\r\n").await;
    let (_nobody, closed) = port_of_nobody();
    let no_tls = format!("https://{}/", rubbish.address());
    for (name, url) in [
        ("ok", &inbox.url("/200")[..]),
        ("ok-again", &inbox.url("/204")),
        ("moved", &inbox.url("/302")),
        ("gone", &inbox.url("/404")),
        ("broken", &inbox.url("/503")),
        ("silent", &silent.url("/")),
        ("resets", &resets.url("/")),
        ("rubbish", &rubbish.url("/")),
        ("closed", &closed),
        ("no-tls", &no_tls),
        ("private", "https://10.1.2.3/"),
        ("off", &inbox.url("/")),
    ] {
        call_for(&database, name, url).await;
    }
    let off = postcall_on(&database, &["action", "disable", &format!("off-{SECRET}")]);
    assert!(off.status.success(), "{}", stderr(&off));
    let large = format!("large-{SECRET}");
    database.publish(&large, "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database.insert_call(&large, &json!({ "text": "x".repeat(4_096) })).await;
    let arguments = ["--hold-unreachable", "false", "--max-call-bytes", "4096"];
    let (dispatcher, scraper) = start(&database.url, &arguments).await;
    database.settled().await;
    let scrape = until_counted(scraper, 13.0).await;
    let expected = [
        (("delivered", ""), 2.0),
        (("failed", "blocked"), 1.0),
        (("failed", "connect"), 1.0),
        (("failed", "render"), 1.0),
        (("failed", "tls"), 1.0),
        (("rejected", ""), 3.0),
        (("skipped", ""), 1.0),
        (("unknown", "protocol"), 1.0),
        (("unknown", "reset"), 1.0),
        (("unknown", "timeout"), 1.0),
    ];
    let expected = expected.map(|((state, kind), count)| ((state.to_owned(), kind.to_owned()), count));
    assert_eq!(deliveries(&scrape), BTreeMap::from(expected));
    let responses = scrape.by("postcall_responses_total", "code_class");
    let classes = [("2xx", 2.0), ("3xx", 1.0), ("4xx", 1.0), ("5xx", 1.0)];
    assert_eq!(responses, classes.map(|(class, count)| (class.to_owned(), count)).into());
    for (name, value) in [
        ("postcall_claimed_deliveries_total", 13.0),
        ("postcall_returned_deliveries_total", 0.0),
        ("postcall_queue_duration_seconds_count", 13.0),
        // All that were rendered: without the one that is too large, and the one that is off.
        ("postcall_unresolved_placeholders_total", 11.0),
        ("postcall_requests_in_flight", 0.0),
        ("postcall_concurrency_limit", 256.0),
        ("postcall_results_unwritten", 0.0),
        ("postcall_results_unrecorded", 0.0),
        ("postcall_database_up", 1.0),
    ] {
        assert_eq!(scrape.value(name, &[]), value, "{name}\n{}", scrape.text);
    }
    assert_eq!(scrape.value("postcall_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    let lease = scrape.value("postcall_lease_remaining_seconds", &[]);
    assert!((3.0..=15.0).contains(&lease), "{lease}");
    // The same durations as in history, which keeps whole milliseconds.
    for (metric, column) in [("request", "latency_ms"), ("queue", "queue_ms")] {
        let of_history = format!("SELECT (sum({column}) || ' ' || count({column})) FROM postcall.delivery_history");
        let of_history = database.text(&of_history).await.unwrap();
        let (sum, count) = of_history.split_once(' ').unwrap();
        let (sum, count): (f64, f64) = (sum.parse().unwrap(), count.parse().unwrap());
        let metric = format!("postcall_{metric}_duration_seconds");
        assert_eq!(scrape.value(&format!("{metric}_count"), &[]), count, "{metric}");
        let difference = scrape.value(&format!("{metric}_sum"), &[]) * 1_000.0 - sum;
        assert!(difference.abs() <= count, "{metric}: {difference} ms of {count}");
    }
    assert!(scrape.text.len() < MOST_BYTES, "{} bytes", scrape.text.len());
    for secret in [SECRET, "127.0.0.1", "10.1.2.3", "ok-again"] {
        assert!(!scrape.text.contains(secret), "{secret}\n{}", scrape.text);
    }
    drop(dispatcher);
}

#[tokio::test]
async fn what_the_database_knows_is_told_without_more_rights_than_a_dispatcher_has() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    ended(&database, "unknown", 3).await;
    let resolved = database.text("SELECT min(delivery_id::text) FROM postcall.delivery").await.unwrap();
    let resolve = ["resolve", &resolved, "--as", "delivered", "--reason", "r"];
    assert!(postcall_on(&database, &resolve).status.success());
    assert!(postcall_on(&database, &["pause", "agent", "a", "--reason", "r"]).status.success());
    database
        .execute(
            "INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)
             SELECT postcall.uuid_v7(), postcall.uuid_v7(), 'a', 1, now() - interval '1 hour' FROM generate_series(1, 4)",
        )
        .await;
    let mut session = database.session();
    for change in ["lost_at = now()", "lost_at = now() - interval '2 hours'", "stopped_at = now()", "lost_at = now()"] {
        let id = Database::register(&mut session).await;
        let begun = "started_at = now() - interval '1 day'";
        database.execute(&format!("UPDATE postcall.dispatcher SET {begun}, {change} WHERE dispatcher_id = {id}")).await;
    }
    // In flight of nobody: no dispatcher is allowed to take it for its own, and none gives it up without a row.
    let in_flight = Database::register(&mut session).await;
    database
        .execute(&format!(
            "INSERT INTO postcall.sending (delivery_id, call_id, agent, action_id, action_version, created_at, dispatcher_id,
                 claim, claimed_at)
             SELECT postcall.uuid_v7(), postcall.uuid_v7(), 'a', 1, 1, now(), {in_flight}, postcall.uuid_v7(),
                    now() - interval '1 day';
             ALTER TABLE postcall.outbox DISABLE TRIGGER await_deliveries"
        ))
        .await;
    let url = database.login(&["postcall_dispatcher"]).await;
    let (_dispatcher, scraper) = start(&url, &["--change-policy"]).await;
    let scrape = scraper.until(|scrape| scrape.families.contains_key("postcall_invariant_violations")).await;
    for (name, value) in [
        ("postcall_waiting_deliveries", 4.0),
        ("postcall_unknown_unresolved", 2.0),
        ("postcall_pauses_active", 1.0),
        ("postcall_hosts_paused", 0.0),
        ("postcall_oldest_unpaused_seconds", 0.0),
        ("postcall_database_up", 1.0),
    ] {
        assert_eq!(scrape.value(name, &[]), value, "{name}\n{}", scrape.text);
    }
    let statuses = [("alive", 2.0), ("lost", 2.0), ("stopped", 1.0)];
    let statuses = statuses.map(|(status, count)| (status.to_owned(), count));
    assert_eq!(scrape.by("postcall_dispatchers", "status"), statuses.into());
    let violations = [("guards_on".to_owned(), 1.0), ("none_stuck".to_owned(), 1.0)];
    assert_eq!(scrape.by("postcall_invariant_violations", "name"), violations.into(), "{}", scrape.text);
    let age = |name: &str| scrape.value(name, &[]) / 3_600.0;
    assert!((1.0..1.1).contains(&age("postcall_oldest_waiting_seconds")), "{}", scrape.text);
    assert!((24.0..24.1).contains(&age("postcall_oldest_sending_seconds")), "{}", scrape.text);
}

/// Lets a delivery of this agent wait that is so many minutes old.
async fn waits(database: &Database, agent: &str, minutes: i32) {
    let waiting = "INSERT INTO postcall.waiting (delivery_id, call_id, agent, action_id, created_at)";
    let made = format!("now() - interval '{minutes} min'");
    let select =
        format!("SELECT postcall.uuid_v7(), postcall.uuid_v7(), agent, action_id, {made} FROM postcall.action");
    database.execute(&format!("{waiting} {select} WHERE agent = '{agent}'")).await;
}

#[tokio::test]
async fn the_oldest_delivery_that_no_pause_holds_back_is_told_whatever_else_is_paused() {
    let database = Database::new().await;
    let hosts =
        [("by-host", "paused.example"), ("by-agent", "b.example"), ("by-action", "c.example"), ("free", "d.example")];
    for (agent, host) in hosts {
        database.publish(agent, "default", &json!({"method": "POST", "url": format!("https://{host}/x")})).await;
    }
    let mut session = database.session();
    assert_eq!(session.oldest_unpaused().await.unwrap(), None, "nothing waits, and nothing is paused");
    for (agent, minutes) in [("by-host", 90), ("by-agent", 80), ("by-action", 70), ("free", 10), ("free", 5)] {
        waits(&database, agent, minutes).await;
    }
    let mut oldest = async || session.oldest_unpaused().await.unwrap().map(|seconds| (seconds / 60.0) as i64);
    let pauses: [(&[&str], Option<i64>); 4] = [
        (&["host", "paused.example"], Some(80)),
        (&["agent", "by-agent"], Some(70)),
        (&["action", "by-action"], Some(10)),
        (&["host", "d.example:443"], None),
    ];
    assert_eq!(oldest().await, Some(90));
    for (target, left) in pauses {
        let paused = postcall_on(&database, &[&["pause"], target, &["--reason", "r"]].concat());
        assert!(paused.status.success(), "{}", stderr(&paused));
        assert_eq!(oldest().await, left, "{target:?}");
    }
    let figures = session.queue_figures().await.unwrap();
    assert_eq!((figures.active_pauses, figures.paused_hosts), (4, 2));
}

#[tokio::test]
async fn every_figure_of_the_database_can_be_read_with_the_rights_of_a_dispatcher() {
    let database = Database::new().await;
    let url = database.login(&["postcall_dispatcher"]).await;
    let (_dispatcher, scraper) = start(&url, &[]).await;
    // The last one that is read.
    let scrape = scraper.until(|scrape| scrape.families.contains_key("postcall_invariant_violations")).await;
    for of_database in [
        "postcall_dispatchers",
        "postcall_waiting_deliveries",
        "postcall_unknown_unresolved",
        "postcall_partition_headroom_seconds",
        "postcall_default_partition_rows",
    ] {
        assert!(scrape.families.contains_key(of_database), "{of_database}\n{}", scrape.text);
    }
    assert_eq!(scrape.value("postcall_database_errors_total", &[("operation", "figures")]), 0.0);
}

#[tokio::test]
async fn the_age_of_the_oldest_row_that_is_not_sealed_is_told_where_history_is_sealed_and_nowhere_else() {
    let database = crate::support::sealing::database_with(2).await;
    let mut session = database.session();
    assert_eq!(session.oldest_unsealed(false).await.unwrap(), None, "nothing ever was sealed");
    assert!(session.oldest_unsealed(true).await.unwrap().is_some_and(|age| age > 0.0), "it is this dispatcher's turn");
    crate::support::sealing::seal(&database, None).await;
    assert_eq!(session.oldest_unsealed(false).await.unwrap(), Some(0.0));
    for row in [
        "INSERT INTO postcall.pause (agent, reason, paused_by, paused_at) VALUES ('a', 'r', 'Ada', now() - interval '1 hour')",
        "UPDATE postcall.action SET enabled = NOT enabled",
    ] {
        // The guard of actions records the switch.
        match row.starts_with("INSERT") {
            true => crate::support::sealing::unguarded(&database, row).await,
            false => database.execute(row).await,
        }
        ended(&database, "delivered", 1).await;
        let age = session.oldest_unsealed(false).await.unwrap().unwrap();
        assert!(age > 0.0 && (!row.contains("1 hour") || age >= 3_600.0), "{row}: {age}");
        crate::support::sealing::seal(&database, None).await;
        assert_eq!(session.oldest_unsealed(false).await.unwrap(), Some(0.0));
    }
    database.execute("UPDATE postcall.action SET enabled = true").await;
    ended(&database, "delivered", 1).await;
    let url = database.login(&["postcall_dispatcher"]).await;
    let (_dispatcher, scraper) = start(&url, &[]).await;
    let scrape = scraper.until(|scrape| scrape.families.contains_key("postcall_invariant_violations")).await;
    assert!(scrape.value("postcall_oldest_unsealed_seconds", &[]) > 0.0, "{}", scrape.text);
    let unsealed = Database::new().await;
    let (_dispatcher, scraper) = start(&unsealed.url, &[]).await;
    let scrape = scraper.until(|scrape| scrape.families.contains_key("postcall_invariant_violations")).await;
    assert!(!scrape.families.contains_key("postcall_oldest_unsealed_seconds"), "{}", scrape.text);
}

#[tokio::test]
async fn a_figure_that_may_not_be_read_is_told_in_the_log_and_the_others_are_served() {
    let database = Database::new().await;
    database.execute("REVOKE SELECT (created_at) ON postcall.outbox_default FROM postcall_dispatcher").await;
    let (mut dispatcher, scraper) = start(&database.login(&["postcall_dispatcher"]).await, &[]).await;
    let scrape = scraper.until(|scrape| scrape.families.contains_key("postcall_invariant_violations")).await;
    assert!(!scrape.families.contains_key("postcall_default_partition_rows"), "{}", scrape.text);
    let line = dispatcher.says("a figure for the metrics may not be read by this database user").await;
    assert!(line.contains("permission denied for table outbox_default"), "{line}");
}

#[tokio::test]
async fn the_headroom_ends_where_the_first_partition_is_missing_and_rows_without_one_are_counted() {
    let database = Database::new().await;
    let mut session = database.session();
    let days = |figures: Vec<postcall::store::figures::PartitionFigures>| {
        let of = |table: &str| {
            let figures = figures.iter().find(|figures| figures.table == table).unwrap();
            (figures.headroom / 86_400.0, figures.default_rows.counted)
        };
        (of("outbox"), of("delivery"))
    };
    let (outbox, delivery) = days(session.partition_figures().await.unwrap());
    assert!((14.0..=21.0).contains(&outbox.0) && (58.0..=92.0).contains(&delivery.0), "{outbox:?} {delivery:?}");
    assert_eq!((outbox.1, delivery.1), (0, 0));
    let name = "to_char(date_trunc('week', now() AT TIME ZONE 'UTC') + interval '1 week', '_YYYYMMDD')";
    let next = database.text(&format!("SELECT {name}")).await.unwrap();
    database.execute(&format!("ALTER TABLE postcall.outbox DETACH PARTITION postcall.outbox{next}")).await;
    database
        .execute(
            "INSERT INTO postcall.outbox (id, agent, call)
             SELECT postcall.uuid_v7_floor(now() + interval '1 week'), 'a', '{}'",
        )
        .await;
    let (outbox, _) = days(session.partition_figures().await.unwrap());
    assert!((0.0..=7.0).contains(&outbox.0) && outbox.1 == 1, "{outbox:?}");
    let this = "to_char(date_trunc('week', now() AT TIME ZONE 'UTC'), '_YYYYMMDD')";
    let this = database.text(&format!("SELECT {this}")).await.unwrap();
    database.execute(&format!("ALTER TABLE postcall.outbox DETACH PARTITION postcall.outbox{this}")).await;
    assert_eq!(days(session.partition_figures().await.unwrap()).0.0, 0.0);
}

#[tokio::test]
async fn while_the_database_is_silent_the_own_metrics_are_served_and_it_is_not_ready_until_it_is_back() {
    let database = Database::new().await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let (_dispatcher, scraper) = start(&proxy.url_of(&database.url), &[]).await;
    scraper.until_readiness_is(200, "ready").await;
    proxy.hold_back(true);
    scraper.until_readiness_is(503, "the database does not answer").await;
    let scrape = scraper.scrape().await;
    assert_eq!(scrape.value("postcall_database_up", &[]), 0.0);
    for own in ["postcall_deliveries_total", "postcall_requests_in_flight", "postcall_lease_remaining_seconds"] {
        assert!(scrape.families.contains_key(own), "{}", scrape.text);
    }
    for of_database in ["postcall_waiting_deliveries", "postcall_dispatchers", "postcall_invariant_violations"] {
        assert!(!scrape.families.contains_key(of_database), "{}", scrape.text);
    }
    let errors = |scrape: &Scrape| scrape.value("postcall_database_errors_total", &[("operation", "figures")]);
    let scrape = scraper.until(|scrape| errors(scrape) >= 1.0).await;
    assert_eq!(scrape.value("postcall_database_up", &[]), 0.0, "not after it gave up, either");
    assert_eq!(scraper.readiness().await.0, 503);
    assert_eq!(scraper.request("GET", "/healthz").await.status, 200);
    proxy.hold_back(false);
    scraper.until_readiness_is(200, "ready").await;
    scraper.until(|scrape| scrape.families.contains_key("postcall_waiting_deliveries")).await;
}

#[tokio::test]
async fn a_figure_that_cannot_be_read_in_time_is_left_out_alone_and_the_database_still_counts_as_there() {
    let database = Database::new().await;
    let proxy = Proxy::to_server_of(&database.url).await;
    proxy.judge(|statement| if statement.contains("AS doubtful") { Fate::Hold } else { Fate::Pass });
    let (_dispatcher, scraper) = start(&proxy.url_of(&database.url), &[]).await;
    scraper.until_readiness_is(200, "ready").await;
    proxy.intervened(1).await;
    let scrape = scraper.until(|scrape| scrape.families.contains_key("postcall_invariant_violations")).await;
    assert_eq!(scrape.value("postcall_database_up", &[]), 1.0);
    for others in ["postcall_dispatchers", "postcall_waiting_deliveries", "postcall_partition_headroom_seconds"] {
        assert!(scrape.families.contains_key(others), "{}", scrape.text);
    }
    assert!(!scrape.families.contains_key("postcall_unknown_unresolved"), "{}", scrape.text);
    assert!(scrape.value("postcall_database_errors_total", &[("operation", "figures")]) >= 1.0, "{}", scrape.text);
}

#[tokio::test]
async fn without_the_lease_it_is_not_ready_and_the_lease_that_is_left_is_nothing() {
    let database = Database::new().await;
    let (_dispatcher, scraper) = start(&database.url, &LEASE).await;
    scraper.until_readiness_is(200, "ready").await;
    let mut lock = database.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM postcall.dispatcher FOR UPDATE").execute(&mut *lock).await.unwrap();
    scraper.until_readiness_is(503, "the lease is not held").await;
    let scrape = scraper.scrape().await;
    assert_eq!(scrape.value("postcall_lease_remaining_seconds", &[]), 0.0);
    assert!(scrape.value("postcall_database_errors_total", &[("operation", "lease")]) >= 1.0, "{}", scrape.text);
    lock.rollback().await.unwrap();
    scraper.until_readiness_is(200, "ready").await;
}

#[tokio::test]
async fn during_the_drain_it_is_alive_and_not_ready_and_shows_what_is_still_in_flight() {
    let (database, inbox) = (Database::new().await, Inbox::holding().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let (dispatcher, scraper) = start(&database.url, &[]).await;
    database.insert_call("a", &json!({})).await;
    inbox.has(1).await;
    dispatcher.signal(Signal::SIGTERM);
    scraper.until_readiness_is(503, "draining").await;
    assert_eq!(scraper.scrape().await.value("postcall_requests_in_flight", &[]), 1.0);
    assert_eq!(scraper.request("GET", "/healthz").await.status, 200);
    inbox.answer(1);
    assert!(dispatcher.ended().await.0);
    assert!(TcpStream::connect(scraper.0).await.is_err(), "it ends with the process");
}

#[tokio::test]
async fn hosts_that_do_not_answer_and_results_that_the_database_refuses_show_as_long_as_they_last() {
    let (database, silent, inbox) = (Database::new().await, Inbox::holding().await, Inbox::open().await);
    let (socket, closed) = port_of_nobody();
    for (agent, url) in [("silent", silent.url("/")), ("closed", closed), ("refused", inbox.url("/"))] {
        database.publish(agent, "default", &json!({"method": "POST", "url": url, "timeout": 60_000})).await;
    }
    let refused = database.insert_call("refused", &json!({})).await;
    let check = format!("CHECK (call_id <> '{refused}')");
    database.execute(&format!("ALTER TABLE postcall.delivery ADD CONSTRAINT an_operator_s {check}")).await;
    database.insert_call("silent", &json!({})).await;
    for _ in 0..10 {
        database.insert_call("closed", &json!({})).await;
    }
    let (_dispatcher, scraper) = start(&database.url, &[]).await;
    let values = |scrape: &Scrape| {
        let names = ["hosts_silent", "hosts_unreachable", "results_unwritten", "requests_in_flight"];
        names.map(|name| scrape.value(&format!("postcall_{name}"), &[]))
    };
    let scrape = scraper.until(|scrape| values(scrape) == [1.0, 1.0, 1.0, 1.0]).await;
    assert!(scrape.value("postcall_database_errors_total", &[("operation", "finish")]) >= 2.0, "{}", scrape.text);
    silent.answer(1);
    scraper.until(|scrape| values(scrape) == [0.0, 1.0, 1.0, 0.0]).await;
    drop(socket);
}

/// A URL at which nobody listens, as long as the socket lives.
fn port_of_nobody() -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    (socket, url)
}

#[tokio::test]
async fn clients_that_are_silent_keep_neither_a_scraper_nor_a_delivery_waiting_and_are_dropped() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let (_dispatcher, scraper) = start(&database.url, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..MORE_THAN_IT_HOLDS {
        silent.push(TcpStream::connect(scraper.0).await.unwrap());
        // Between any two of them.
        assert_eq!(scraper.request("GET", "/healthz").await.status, 200);
    }
    for _ in 0..50 {
        database.insert_call("a", &json!({})).await;
    }
    database.settled().await;
    let scrape = until_counted(scraper, 50.0).await;
    assert_eq!(deliveries(&scrape), [(("delivered".to_owned(), String::new()), 50.0)].into());
    // The first had to make room, and the last was silent for too long.
    for mut stream in [silent.swap_remove(0), silent.pop().unwrap()] {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), stream.read(&mut [0; 64])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
}

#[tokio::test]
async fn however_many_scrape_the_database_is_read_once_in_a_while() {
    let database = Database::new().await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let (_dispatcher, scraper) = start(&proxy.url_of(&database.url), &[]).await;
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    proxy.judge(move |statement| {
        counted.fetch_add(usize::from(statement.contains("ended_at IS NULL AND lease_until")), Ordering::Relaxed);
        Fate::Pass
    });
    scraper.until(|scrape| scrape.value("postcall_database_up", &[]) == 1.0).await;
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        let scrapes = (0..10).map(|_| tokio::spawn(scraper.scrape()));
        for scrape in scrapes.collect::<Vec<_>>() {
            assert_eq!(scrape.await.unwrap().value("postcall_database_up", &[]), 1.0);
        }
    }
    let most = 2 + begun.elapsed().as_secs() / 5;
    let read = read.load(Ordering::Relaxed) as u64;
    assert!((1..=most).contains(&read), "{read} readings, {most} at most");
}

#[tokio::test]
async fn only_what_is_there_is_served_and_only_to_those_who_read() {
    let database = Database::new().await;
    let (_dispatcher, scraper) = start(&database.url, &[]).await;
    for (method, path, status) in [
        ("GET", "/healthz", 200),
        ("GET", "/metrics?a=b", 200),
        ("HEAD", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("DELETE", "/readyz", 405),
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/../metrics", 404),
    ] {
        let reply = scraper.request(method, path).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        assert!(
            reply.head.contains("cache-control: no-store") && reply.head.contains("connection: close"),
            "{reply:?}"
        );
        assert_eq!(reply.body.is_empty(), method == "HEAD", "{reply:?}");
    }
    assert!(scraper.request("GET", "/metrics").await.head.contains("content-type: text/plain; version=0.0.4"));
    let endless = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    let answer = scraper.raw(endless.as_bytes()).await;
    assert!(answer.is_empty() || answer.contains(" 431 "), "{answer}");
    let answer = scraper.raw(b"\x16\x03\x01 rubbish\r\n\r\n").await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(scraper.request("GET", "/healthz").await.status, 200);
}

#[tokio::test]
async fn an_address_that_cannot_be_taken_is_named_at_the_start_and_without_an_address_nothing_is_served() {
    let database = Database::new().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Dispatcher::command(&database.url);
    let (well, said) = Dispatcher::spawned(command.args(["--metrics-listen", &address])).ended().await;
    assert!(!well && said.contains(&format!("cannot serve metrics at {address}")), "{said}");
    assert_eq!(database.number("SELECT count(*) FROM postcall.dispatcher").await, 0, "it left no trace");
    let output = postcall_on(&database, &["run", "--metrics-listen", "localhost:9464"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("localhost:9464 is not an address and port"), "{}", stderr(&output));
    let mut command = Dispatcher::command(&database.url);
    let mut silent = Dispatcher::spawned(command.env("POSTCALL_METRICS_LISTEN", ""));
    let lines = silent.lines_until("dispatching").await;
    assert!(!lines.iter().any(|line| line.contains("serving metrics")), "{lines:#?}");
}
