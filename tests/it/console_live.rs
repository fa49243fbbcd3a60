//! The live tail: what comes to an end is seen by those who look, and nobody who looks hinders anybody else.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::console::{Console, Stream};
use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::life::SCRIPT;
use crate::support::proxy::{End, Proxy};

const WELCOME: &str = "event: told\ndata: Live: what comes to an end appears here.\n\n";

async fn database() -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database
}

/// The ids of the events that have come.
fn ids(stream: &Stream) -> Vec<&str> {
    stream.seen.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[tokio::test]
async fn a_delivery_that_ends_while_somebody_looks_is_seen_with_its_state_once() {
    let database = database().await;
    let console = Console::start(&database.url).await;
    let mut stream = console.follow(None).await;
    stream.until(WELCOME).await;
    assert!(stream.seen.contains("content-type: text/event-stream; charset=utf-8"), "{}", stream.seen);
    assert!(stream.seen.contains("cache-control: no-store") && stream.seen.contains("x-content-type-options: nosniff"));
    let failed = ended(&database, "failed", 1).await.remove(0);
    stream.until(&format!("id: {failed}\n")).await;
    // The end of the next one shows that the first one does not come again.
    for state in ["delivered", "unknown"] {
        let next = ended(&database, state, 1).await.remove(0);
        stream.until(&format!("id: {next}\n")).await;
        stream.until(&format!(">{state}</span>")).await;
    }
    assert_eq!(ids(&stream).len(), 3, "{}", stream.seen);
    assert!(stream.seen.contains("data: <tr data-id=\"") && stream.seen.contains(">failed</span>"), "{}", stream.seen);
}

/// As after a dump was restored: what is new has smaller numbers of transactions than what was there before.
#[tokio::test]
async fn what_ends_while_the_server_counts_its_transactions_anew_is_seen_too() {
    let database = database().await;
    ended(&database, "delivered", 30).await;
    database
        .execute(
            "ALTER TABLE postcall.delivery DISABLE TRIGGER history_is_immutable;
             UPDATE postcall.delivery SET xact = xact + 1000000000, created_at = created_at - interval '1 hour',
                 claimed_at = claimed_at - interval '1 hour', finished_at = finished_at - interval '1 hour';
             ALTER TABLE postcall.delivery ENABLE ALWAYS TRIGGER history_is_immutable",
        )
        .await;
    let console = Console::start(&database.url).await;
    let mut stream = console.follow(None).await;
    stream.until(WELCOME).await;
    let failed = ended(&database, "failed", 1).await.remove(0);
    stream.until(&format!("id: {failed}\n")).await;
    assert_eq!(ids(&stream), [failed], "{}", stream.seen);
}

#[tokio::test]
async fn texts_of_others_are_escaped_in_events_too() {
    let database = Database::new().await;
    database.publish(SCRIPT, SCRIPT, &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let console = Console::start(&database.url).await;
    let mut stream = console.follow(None).await;
    stream.until(WELCOME).await;
    database.insert_call(SCRIPT, &json!({})).await;
    let id = crate::support::endings::end_all(&database, "failed").await.remove(0);
    stream.until(&format!("id: {id}\n")).await;
    stream.until("</tr>").await;
    assert!(!stream.seen.contains("<script") && stream.seen.contains("&#60;script"), "{}", stream.seen);
}

#[tokio::test]
async fn who_comes_back_sees_what_has_ended_meanwhile_and_is_told_if_that_is_not_known() {
    let database = database().await;
    let console = Console::start(&database.url).await;
    let mut first = console.follow(None).await;
    first.until(WELCOME).await;
    let before = ended(&database, "failed", 1).await.remove(0);
    first.until(&format!("id: {before}\n")).await;
    // Somebody else goes on looking.
    let mut other = console.follow(None).await;
    other.until(&format!("id: {before}\n")).await;
    drop(first);
    let meanwhile = ended(&database, "delivered", 1).await.remove(0);
    other.until(&format!("id: {meanwhile}\n")).await;
    let mut again = console.follow(Some(&before)).await;
    again.until(&format!("id: {meanwhile}\n")).await;
    assert_eq!(ids(&again), [&meanwhile]);
    assert!(!again.seen.contains("may be missing"), "{}", again.seen);
    let mut lost = console.follow(Some("0192f0c1-0000-7000-8000-000000000001")).await;
    lost.until("may be missing here: reload the page").await;
}

#[tokio::test]
async fn all_who_look_cost_the_database_one_session_and_nobody_costs_it_anything() {
    let database = database().await;
    let console = Console::start(&database.url).await;
    console.page("/").await;
    let mut viewers = Vec::new();
    for _ in 0..16 {
        let mut stream = console.follow(None).await;
        stream.until(WELCOME).await;
        viewers.push(stream);
    }
    let id = ended(&database, "failed", 1).await.remove(0);
    for viewer in &mut viewers {
        viewer.until(&format!("id: {id}\n")).await;
    }
    let looking = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%make_interval%ORDER BY finished_at DESC%'
                   AND pid <> pg_backend_pid()";
    assert!(database.number(&format!("SELECT count(*) {looking}")).await <= 1);
    let refused = console.get("/live").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert!(refused.words().contains("16 browsers follow the live tail already"), "{}", refused.words());
    console.page("/").await;
    drop(viewers.pop());
    // Its place is free as soon as the console knows that it has gone: at the next event.
    let mut next = ended(&database, "failed", 1).await;
    for viewer in &mut viewers {
        viewer.until(&format!("id: {}\n", next[0])).await;
    }
    let found = async {
        loop {
            let mut stream = console.follow(None).await;
            stream.until("\r\n\r\n").await;
            if stream.seen.starts_with("HTTP/1.1 200") {
                return stream;
            }
            next = ended(&database, "failed", 1).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), found).await.expect("a place comes free");
}

#[tokio::test]
async fn who_reads_nothing_holds_up_neither_pages_nor_those_who_read() {
    let database = database().await;
    let console = Console::start(&database.url).await;
    let mut stuck = Vec::new();
    for _ in 0..15 {
        let mut stream = console.follow(None).await;
        stream.until(WELCOME).await;
        stuck.push(stream);
    }
    let mut reader = console.follow(None).await;
    reader.until(WELCOME).await;
    for _ in 0..5 {
        let ids = ended(&database, "failed", 20).await;
        let (_, _, _) = tokio::join!(console.page("/"), console.page("/deliveries"), console.page("/health"));
        // Of that many at once, a sample is shown; the newest is in it.
        reader.until(ids.last().unwrap()).await;
    }
    reader.until("Live, a sample: more comes to an end than is shown here.").await;
    drop(stuck);
}

#[tokio::test]
async fn a_database_that_goes_away_is_told_and_the_tail_goes_on_when_it_is_back() {
    let database = database().await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let console = Console::start(&proxy.url_of(&database.url)).await;
    let mut stream = console.follow(None).await;
    stream.until(WELCOME).await;
    let server = database.url.split(['/', '@']).nth(3).unwrap();
    proxy.switch_to("127.0.0.1:1");
    proxy.cut_all(End::Reset);
    stream.until("The database does not answer. This goes on when it does.").await;
    proxy.switch_to(server);
    // Said again, and not only at the beginning.
    stream.seen.clear();
    stream.until(WELCOME).await;
    let id = ended(&database, "failed", 1).await.remove(0);
    stream.until(&format!("id: {id}\n")).await;
}

#[tokio::test]
async fn the_tail_ends_in_order_before_its_connection_does_and_with_the_console() {
    let database = database().await;
    let console = Console::start(&database.url).await;
    let mut long = console.follow(None).await;
    long.until(WELCOME).await;
    assert!(long.ends_in_order().await, "a browser comes back without an error");
    let mut stream = console.follow(None).await;
    stream.until("event: told").await;
    let (ended, in_order) = tokio::join!(console.ended_by(Signal::SIGTERM), stream.ends_in_order());
    assert!(ended && in_order);
}

#[tokio::test]
async fn who_may_not_read_history_is_told_which_role_that_needs() {
    let database = database().await;
    let nobody = database.login(&["postcall_console_viewer"]).await;
    let console = Console::start(&nobody).await;
    let mut stream = console.follow(None).await;
    stream.until("may not read this. It needs a database user with the role").await;
}
