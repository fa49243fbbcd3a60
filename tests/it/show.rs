//! `postcall show`: whichever id somebody has, it leads to what is known, and what was not sent is not said to be sent.

use postcall::service::past_request::{PastRequest, render_again_within};
use serde_json::{Value, json};

use crate::support::console::Console;
use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::process::{Dispatcher, postcall_at, postcall_on, stderr, stdout};

fn show(database: &Database, id: &str) -> String {
    let output = postcall_on(database, &["show", id]);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

#[tokio::test]
async fn a_delivery_is_shown_by_its_own_id_by_its_call_s_id_and_by_the_provider_s() {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": "https://receiver.example/"});
    database.publish("a", "default", &action).await;
    let call = database.insert_call("a", &json!({"callInfo": {"callSid": "CA1"}})).await.to_string();
    let delivery = end_all(&database, "delivered").await.remove(0);
    let shown = show(&database, &delivery);
    assert!(shown.starts_with(&format!("delivery {delivery}  DELIVERED")), "{shown}");
    assert_eq!(show(&database, &call), shown);
    assert_eq!(show(&database, "CA1"), shown);
    assert_eq!(show(&database, " CA1 \n"), shown, "as it is pasted");
    // Several are listed, each with the command that shows it.
    database.publish("a", "crm", &action).await;
    let call = database.insert_call("a", &json!({"callInfo": {"callSid": "CA1"}})).await.to_string();
    let both = end_all(&database, "failed").await;
    for (id, expected) in [(call.as_str(), &both[..]), ("CA1", &[&both[..], &[delivery]].concat())] {
        let listed = show(&database, id);
        assert_eq!(listed.lines().count(), expected.len() + 1, "{listed}");
        assert!(expected.iter().all(|delivery| listed.contains(&format!("postcall show {delivery}"))), "{listed}");
        let objects: Value = serde_json::from_str(&stdout(&postcall_on(&database, &["show", id, "--json"]))).unwrap();
        assert_eq!(objects.as_array().unwrap().len(), expected.len());
    }
}

#[tokio::test]
async fn of_a_call_without_a_delivery_and_of_an_id_of_nothing_it_is_said_what_is_known() {
    let database = Database::new().await;
    let url = database.login(&["postcall_auditor"]).await;
    database.publish("agent_7f3k2", "default", &json!({"method": "GET", "url": "https://receiver.example/"})).await;
    let call = database.insert_call("agent_7f3k", &json!({"callInfo": {"callSid": "CA1"}})).await.to_string();
    for id in [call.as_str(), "CA1"] {
        let shown = stdout(&postcall_at(&url, &["show", id]));
        assert!(shown.starts_with(&format!("call {call}  NO DELIVERY")), "{shown}");
        assert!(shown.contains("agent unknown: it has no action: did you mean agent_7f3k2?"), "{shown}");
    }
    let nothing = postcall_at(&url, &["show", "CA2"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert_eq!(
        stderr(&nothing),
        "postcall: there is no delivery with the id CA2, and no call. Either the transaction that inserted the call was not committed, or \
         the call and its history are older than what is kept\n"
    );
}

#[tokio::test]
async fn what_certainly_did_not_leave_is_not_said_to_be_sent() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    for (state, title) in [
        ("delivered", "\nwhat was sent\n"),
        ("rejected", "\nwhat was sent\n"),
        ("failed", "\nwhat would have been sent: nothing left, no byte reached the receiver\n"),
        ("skipped", "\nwhat would have been sent: nothing left, because the action was disabled\n"),
        ("unknown", "\nwhat was sent: it is not known whether all of it arrived\n"),
    ] {
        let id = ended(&database, state, 1).await.remove(0);
        let shown = show(&database, &id);
        assert!(shown.contains(title), "{state}: {shown}");
        assert_eq!(shown.contains("what was sent"), title.contains("what was sent"), "{state}: {shown}");
    }
    // A finding that it failed says nothing about what left.
    let id = ended(&database, "unknown", 1).await.remove(0);
    assert!(postcall_on(&database, &["resolve", &id, "--as", "failed", "--reason", "r"]).status.success());
    assert!(show(&database, &id).contains("\nwhat was sent, or a part of it"));
}

#[tokio::test]
async fn a_delivery_that_waits_is_shown_with_what_holds_it_back_by_show_and_by_the_console() {
    let database = Database::new().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    database.publish("a", "default", &json!({"method": "POST", "url": format!("http://{closed}/")})).await;
    let console = Console::start_with(&database.login(&["postcall_auditor"]).await, &[]).await;
    let ids = || database.text("SELECT max(delivery_id::text) FROM postcall.waiting");
    let told = async |id: &str| {
        let page = console.page(&format!("/deliveries/{id}")).await.words();
        let auditor = database.login(&["postcall_auditor"]).await;
        let output = postcall_at(&auditor, &["show", id]);
        assert!(output.status.success(), "{}", stderr(&output));
        let json: Value = serde_json::from_str(&stdout(&postcall_on(&database, &["show", id, "--json"]))).unwrap();
        (page, stdout(&output), json["held_back_by"].clone())
    };
    database.insert_call("a", &json!({})).await;
    let id = ids().await.unwrap();
    let (page, shown, json) = told(&id).await;
    let nobody = "No dispatcher runs, so nothing is sent.";
    assert!(
        page.contains(nobody) && shown.contains(&format!("why it waits\n  {nobody}\n    postcall run\n")),
        "{shown}"
    );
    assert_eq!((json.as_array().unwrap().len(), &json[0]["kind"]), (1, &json!("no_dispatcher")));
    let pause = ["pause", "agent", "a", "--reason", "their maintenance", "--by", "Grace Hopper"];
    assert!(postcall_on(&database, &pause).status.success());
    let dispatcher = Dispatcher::start(&database, &[]).await;
    let (page, shown, json) = told(&id).await;
    assert!(!page.contains(nobody) && !shown.contains(nobody), "{shown}");
    for text in [&page, &shown] {
        assert!(text.contains("Paused: agent a, since 20"), "{text}");
        assert!(text.contains("by Grace Hopper: their maintenance"), "{text}");
        assert!(text.contains("postcall resume agent a --reason '…'"), "{text}");
    }
    assert_eq!((json.as_array().unwrap().len(), &json[0]["kind"]), (1, &json!("paused")));
    assert!(postcall_on(&database, &["resume", "agent", "a", "--reason", "r"]).status.success());
    // The first one fails; from then on, they wait until somebody is reached there.
    let seen =
        format!("SELECT count(*) FROM postcall.dispatcher_report WHERE hosts::text LIKE '%{closed}%unreachable%'");
    let mut look = tokio::time::interval(std::time::Duration::from_millis(100));
    let held = async {
        loop {
            database.insert_call("a", &json!({})).await;
            look.tick().await;
            if database.number(&seen).await == 1 {
                return ids().await.unwrap();
            }
        }
    };
    let id = tokio::time::timeout(std::time::Duration::from_secs(60), held).await.expect("it is reported");
    let (page, shown, json) = told(&id).await;
    let unreachable = format!("Its host {closed} has been unreachable for");
    assert!(page.contains(&unreachable) && shown.contains(&unreachable), "{shown} {json}");
    drop(dispatcher);
    // What does not wait is held back by nothing.
    let id = database.text("SELECT min(delivery_id::text) FROM postcall.delivery").await.unwrap();
    let (page, shown, json) = told(&id).await;
    assert!(!page.contains(&unreachable) && !shown.contains("why it waits") && json == json!([]), "{shown} {json}");
}

#[tokio::test]
async fn a_request_is_rendered_again_unless_its_call_has_more_bytes_than_the_reader_takes() {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    database.insert_call("a", &json!({"note": "some bytes"})).await;
    let bytes = database.number("SELECT call_bytes::bigint FROM postcall.outbox").await;
    let id = end_all(&database, "delivered").await.remove(0).parse().unwrap();
    let row = database.store.delivery(id).await.unwrap().unwrap();
    let within = render_again_within(&database.store, &row, bytes).await;
    assert!(matches!(within, PastRequest::Rendered { .. }), "{within:?}");
    let beyond = render_again_within(&database.store, &row, bytes - 1).await;
    assert!(matches!(beyond, PastRequest::TooLarge { bytes: told } if told == bytes), "{beyond:?}");
}
