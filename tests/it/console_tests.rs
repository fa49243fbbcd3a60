//! Tests of actions that are made by the console's form: one real request for each form, whatever the browser repeats, and a page
//! that tells what became of it.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::console::{Console, PASSWORD, ROLES, Response, users};
use crate::support::database::Database;
use crate::support::egress::{EgressProxy, Manner};
use crate::support::keys::{key_file, new_key};
use crate::support::process::THIS_MACHINE;
use crate::support::receiver::Receiver;
use crate::support::silent::{arrives, silent};

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FORM: &str = "/change/test?agent=a&name=default";

/// A database with an action of agent a that posts to `url`.
async fn database(url: &str) -> Database {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": url, "timeout": 60_000})).await;
    database
}

/// A console of Ada's that may call this machine.
async fn console(database: &Database) -> Console {
    let settings = [&["--write", "--as", "Ada Lovelace"][..], &THIS_MACHINE].concat();
    Console::start_with(&database.url, &settings).await
}

/// The fields of a form that was shown, with this call and this reason.
fn fields(page: &Response, call: &str, reason: &str) -> Vec<(&'static str, String)> {
    let hidden = |name: &str| {
        let (_, rest) = page.body.split_once(&format!("name=\"{name}\" value=\"")).expect("a field");
        rest.split('"').next().unwrap().to_owned()
    };
    let shown = ["form", "agent", "name", "version"].map(|name| (name, hidden(name)));
    shown.into_iter().chain([("call", call.to_owned()), ("reason", reason.to_owned())]).collect()
}

/// Sends a form of the page.
async fn sends(console: &Console, cookie: &str, fields: &[(&'static str, String)]) -> Response {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    console.sends(cookie, "/change/test", &fields).await
}

/// The address of the test to which an answer leads.
fn address(response: &Response) -> String {
    assert_eq!(response.status, 303, "{}", response.words());
    let address = response.header("location").unwrap().split('?').next().unwrap();
    assert!(address.starts_with("/tests/"), "{address}");
    address.to_owned()
}

/// The page of a test, once it has a result.
async fn ended(console: &Console, cookie: &str, address: &str) -> Response {
    let waiting = async {
        loop {
            let page = console.get_as(cookie, address).await;
            assert_eq!(page.status, 200, "{}", page.words());
            if !page.words().contains("There is no result yet") {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the test has no end")
}

fn says(page: &Response, words: &str) {
    assert!(page.words().contains(words), "no {words:?} in {}", page.words());
}

#[tokio::test]
async fn a_form_makes_one_request_however_often_it_is_sent_and_its_page_tells_the_outcome() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = database(&receiver.url("/hook?token=${outcome}")).await;
    let console = console(&database).await;
    let agent = console.page("/agents/a").await;
    assert!(agent.body.contains("href=\"/change/test?agent=a&#38;name=default\""), "{}", agent.body);
    let form = console.page(FORM).await;
    says(&form, "This sends one real request");
    assert!(!form.words().contains("--allow-http"), "this console may: {}", form.words());
    assert_eq!(receiver.received().len(), 0, "to look at the form sends nothing");

    // A double click, a reload, and the form once more from an old page.
    let form = fields(&form, "", "does it work?");
    let (first, second) = tokio::join!(sends(&console, "", &form), sends(&console, "", &form));
    let test = address(&first);
    assert_eq!(test, address(&second));
    let page = ended(&console, "", &test).await;
    for said in ["delivered", "The receiver took it, with status 200.", "Ada Lovelace", "does it work?", "version 1"] {
        says(&page, said);
    }
    says(&page, "the documented sample");
    assert!(page.body.contains("/hook?token=") && !page.body.contains("qualified_lead"), "masked: {}", page.body);
    console.page(&test).await;
    let again = sends(&console, "", &form).await;
    assert_eq!(address(&again), test);
    says(&console.page(again.header("location").unwrap()).await, "Nothing was sent again.");
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(database.number("SELECT count(*) FROM postcall.action_test").await, 1);

    let list = console.page("/tests?agent=a").await;
    assert!(list.body.contains(&format!("href=\"{test}\"")), "{}", list.body);
    says(&list, "does it work?");
    says(&page, "sent as soon as the connection was ready");
    let form = fields(&console.page(FORM).await, "", "and once more?");
    let page = ended(&console, "", &address(&sends(&console, "", &form).await)).await;
    says(&page, "sent on a connection that was kept open");
    // Where the console itself may not go is warned of.
    let strict = Console::start_with(&database.url, &["--write", "--as", "Ada Lovelace"]).await;
    says(&strict.page(FORM).await, "--allow-http");
}

#[tokio::test]
async fn a_form_that_the_console_never_showed_makes_no_request_and_is_shown_again() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = database(&receiver.url("/")).await;
    let earlier = console(&database).await;
    let form = fields(&earlier.page(FORM).await, "", "typed before the restart");
    let later = console(&database).await;
    let refused = sends(&later, "", &form).await;
    assert_eq!(refused.status, 409, "{}", refused.words());
    says(&refused, "Nothing was sent.");
    assert!(refused.body.contains("value=\"typed before the restart\""), "{}", refused.body);
    assert_eq!(receiver.received().len(), 0);
    let form = fields(&refused, "", "typed before the restart");
    ended(&later, "", &address(&sends(&later, "", &form).await)).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_test_that_is_refused_says_why_and_nothing_that_was_typed_is_lost() {
    let (receiver, mut arrivals) = silent().await;
    let database = database(&receiver.url("/")).await;
    let console = console(&database).await;
    let call = "0192f0c1-0000-7000-8000-000000000001";
    let sent = async |call: &str, reason: &str| {
        let form = console.page(FORM).await;
        sends(&console, "", &fields(&form, call, reason)).await
    };
    for (call, reason, status, said) in [
        ("not an id", "a reason", 422, "Expected the id of a call"),
        (call, " ", 422, "It must not be empty."),
        (call, "a reason", 409, "There is no call"),
    ] {
        let refused = sent(call, reason).await;
        assert_eq!(refused.status, status, "{}", refused.words());
        says(&refused, said);
        let kept = |value: &str| refused.body.contains(&format!("value=\"{value}\""));
        assert!(kept(call) && kept(reason), "{}", refused.body);
    }
    for _ in 0..2 {
        let begun = sent("", "a reason").await;
        arrives(&mut arrivals).await;
        let page = console.page(&address(&begun)).await;
        says(&page, "sending");
        says(&page, "There is no result yet.");
    }
    let third = sent("", "the third reason").await;
    assert_eq!(third.status, 409, "{}", third.words());
    says(&third, "2 tests of this agent are in flight");
    assert!(third.body.contains("value=\"the third reason\""), "{}", third.body);
    assert_eq!(receiver.received().len(), 2);
    database.execute("INSERT INTO postcall.pause (agent, reason, paused_by) VALUES ('a', 'their wish', 'Bob')").await;
    let paused = sent("", "a reason").await;
    assert_eq!(paused.status, 409);
    says(&paused, "by Bob: their wish. To test it, resume it first.");
}

#[tokio::test]
async fn a_test_in_flight_when_the_console_stops_ends_at_once_and_is_recorded() {
    let (receiver, mut arrivals) = silent().await;
    let database = database(&receiver.url("/")).await;
    let console = console(&database).await;
    let form = fields(&console.page(FORM).await, "", "a reason");
    address(&sends(&console, "", &form).await);
    arrives(&mut arrivals).await;
    assert!(console.ended_by(Signal::SIGTERM).await);
    let ended = "SELECT state || ' ' || error_kind FROM postcall.action_test_history";
    assert_eq!(database.text(ended).await.as_deref(), Some("unknown test_stopped"));
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn only_publishers_test_and_operators_and_auditors_see_what_came_of_it() {
    let receiver = Receiver::answering(TAKEN).await;
    let database = database(&receiver.url("/")).await;
    let users = users();
    let settings = ["--auth", "basic", "--write", "--users", users.path().to_str().unwrap()];
    let settings = [&settings[..], &THIS_MACHINE].concat();
    let console = Console::start_with(&database.login(&ROLES).await, &settings).await;
    let publisher = console.log_in("publisher", PASSWORD).await;
    let form = fields(&console.get_as(&publisher, FORM).await, "", "a reason");
    for other in ["viewer", "auditor", "operator"] {
        let cookie = console.log_in(other, PASSWORD).await;
        assert_eq!(sends(&console, &cookie, &form).await.status, 403, "{other}");
        let agent = console.get_as(&cookie, "/agents/a").await;
        assert!(agent.status == 200 && !agent.body.contains("/change/test"), "{other}: {}", agent.body);
    }
    assert_eq!(receiver.received().len(), 0);
    let test = address(&sends(&console, &publisher, &form).await);
    says(&ended(&console, &publisher, &test).await, "delivered");
    assert_eq!(receiver.received().len(), 1);
    for (role, status) in [("viewer", 403), ("auditor", 200), ("operator", 200)] {
        let cookie = console.log_in(role, PASSWORD).await;
        for address in [test.as_str(), "/tests?agent=a"] {
            let page = console.get_as(&cookie, address).await;
            assert_eq!(page.status, status, "{role} {address}: {}", page.words());
        }
    }
}

#[tokio::test]
async fn a_test_goes_through_the_operators_proxy() {
    let (receiver, proxy) = (Receiver::answering(TAKEN).await, EgressProxy::start(Manner::Forward));
    let database = database(&receiver.url("/")).await;
    let proxy_url = proxy.url();
    let settings = [&["--write", "--as", "Ada", "--egress-proxy", &proxy_url][..], &THIS_MACHINE].concat();
    let console = Console::start_with(&database.url, &settings).await;
    let form = console.get_as("", FORM).await;
    let address = address(&sends(&console, "", &fields(&form, "", "does it work?")).await);
    says(&ended(&console, "", &address).await, "The receiver took it, with status 200");
    assert_eq!(proxy.targets(), [receiver.address().to_string()]);
}

#[tokio::test]
async fn the_form_of_an_action_keeps_its_client_certificate() {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": "https://a.test/", "client_certificate": "crm-tls"});
    database.publish("a", "default", &action).await;
    let keys = key_file(&[&new_key()]);
    let settings = ["--write", "--as", "Ada Lovelace", "--key-file", keys.path().to_str().unwrap()];
    let console = Console::start_with(&database.url, &settings).await;
    let form = console.get_as("", "/change/action?agent=a&name=default").await;
    assert!(form.body.contains("name=\"client_certificate\" value=\"crm-tls\""), "{}", form.words());
    let field = |step: &'static str, timeout: &'static str| {
        [
            ("over", "1"),
            ("agent", "a"),
            ("name", "default"),
            ("method", "POST"),
            ("url", "https://a.test/"),
            ("timeout", timeout),
            ("headers", ""),
            ("body", ""),
            ("client_certificate", "crm-tls"),
            ("enabled", "yes"),
            ("reason", "slow"),
            ("step", step),
        ]
    };
    let review = console.sends("", "/change/action", &field("review", "30000")).await;
    assert!(review.body.contains("name=\"client_certificate\" value=\"crm-tls\""), "{}", review.words());
    console.done("", "/change/action", &field("publish", "30000")).await;
    let newest = "SELECT concat_ws(' ', version, timeout_ms, client_certificate) FROM postcall.action_version ORDER BY version DESC";
    assert_eq!(database.text(newest).await.as_deref(), Some("2 30000 crm-tls"));
}
