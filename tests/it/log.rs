//! The log: one delivery can be followed through it, it says nothing of calls, and its fields are those that docs/operating.md
//! explains.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use proc_macro2::TokenTree;
use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::process::Dispatcher;
use crate::support::sources::{is_punct, root, sources};

/// What begins an event or a span.
const EVENTS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
const SPANS: [&str; 5] = ["error_span", "warn_span", "info_span", "debug_span", "trace_span"];

/// What neither a log nor anybody who reads it may see.
const SECRET: &str = "Xyzzy-7391";

#[tokio::test]
async fn one_delivery_can_be_followed_by_its_id_and_nothing_of_its_call_is_logged() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    let headers = format!(r#"{{"x-key": "{SECRET}"}}"#);
    let body = r#"{"who": "${callInfo.from}"}"#;
    let url = inbox.url(&format!("/{SECRET}"));
    let action = json!({"method": "POST", "url": url, "headers": headers, "body": body});
    database.publish("a", "default", &action).await;
    database.insert_call("a", &json!({"callInfo": {"from": SECRET}})).await;
    let mut command = Dispatcher::command(&database.url);
    let mut dispatcher = Dispatcher::spawned(command.args(["--log", "trace", "--log-format", "json"]));
    let mut lines = dispatcher.lines_until("recorded").await;
    let [delivery, dispatcher_id] =
        ["delivery_id", "dispatcher_id"].map(|id| format!("SELECT {id}::text FROM postcall.delivery"));
    let (delivery, dispatcher_id) = (database.text(&delivery).await, database.text(&dispatcher_id).await);
    dispatcher.signal(Signal::SIGTERM);
    let (well, rest) = dispatcher.ended_saying().await;
    lines.extend(rest);
    assert!(well && inbox.received()[0].body.contains(SECRET), "{lines:#?}");
    assert_eq!(lines.iter().find(|line| line.contains(SECRET)), None);
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_delivery = |scope: &Value| scope["delivery.id"].as_str() == delivery.as_deref();
    let its_own: Vec<&Value> = lines.iter().filter(|line| of_delivery(line) || of_delivery(&line["span"])).collect();
    let said: Vec<&str> = its_own.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(said, ["the attempt begins", "the attempt has ended", "recorded"], "{lines:#?}");
    let span = &its_own[0]["span"];
    assert_eq!((&span["name"], &span["action.id"]), (&json!("attempt"), &json!(1)), "{span}");
    assert_eq!(Some(span["dispatcher.id"].to_string()), dispatcher_id);
    let minute = lines.iter().find(|line| line["message"] == json!("the last minute")).expect("one at the end, too");
    let counts = ["claimed", "delivered", "failed", "in_flight"].map(|name| minute[name].as_u64());
    assert_eq!(counts, [Some(1), Some(1), Some(0), Some(0)], "{minute}");
    assert!(its_own[1..].iter().all(|line| line["state"] == json!("delivered")), "{its_own:#?}");
}

#[test]
fn the_documented_fields_are_those_that_the_program_logs() {
    let operating = std::fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let section = operating.lines().skip_while(|line| *line != "### Fields").skip(1);
    let rows = section.take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2));
    let documented: BTreeSet<String> = names.map(str::to_owned).collect();
    let logged: BTreeSet<String> = sources().iter().flat_map(|source| fields(&source.tokens())).collect();
    assert!(logged.len() > 20, "{logged:?}");
    let undocumented: Vec<_> = logged.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&logged).collect();
    assert!(undocumented.is_empty() && gone.is_empty(), "not documented: {undocumented:?}; not logged: {gone:?}");
}

/// The names of the fields of all events and spans in there.
fn fields(tokens: &[TokenTree]) -> Vec<String> {
    let mut found = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let inside: Vec<TokenTree> = group.stream().into_iter().collect();
        let called = match place.checked_sub(2).map(|before| &tokens[before..place]) {
            Some([TokenTree::Ident(name), sign]) if is_punct(sign, '!') => name.to_string(),
            _ => String::new(),
        };
        if EVENTS.contains(&called.as_str()) || SPANS.contains(&called.as_str()) {
            let pieces = inside.split(|token| is_punct(token, ','));
            // The first piece of a span is its name. What stands behind the message fills it in.
            let pieces = pieces.skip(usize::from(SPANS.contains(&called.as_str())));
            found.extend(
                pieces.map_while(|piece| (!is_text(piece)).then(|| field(piece))).filter(|name| !name.is_empty()),
            );
        }
        found.extend(fields(&inside));
    }
    found
}

fn is_text(piece: &[TokenTree]) -> bool {
    matches!(piece, [TokenTree::Literal(_), ..])
}

/// The name of `name = value`, `%name` and `name`.
fn field(piece: &[TokenTree]) -> String {
    let name = piece.split(|token| is_punct(token, '=')).next().unwrap_or_default();
    name.iter().filter(|token| !is_punct(token, '%') && !is_punct(token, '?')).map(ToString::to_string).collect()
}

#[test]
fn fields_are_found_however_they_are_written() {
    let found = |text: &str| fields(&text.parse::<proc_macro2::TokenStream>().unwrap().into_iter().collect::<Vec<_>>());
    assert_eq!(
        found(r#"info!(a.b = %x, c, ?d, %e, f = g(h, "i"), "message {} {j}", k, l = 1)"#),
        ["a.b", "c", "d", "e", "f"]
    );
    assert_eq!(found(r#"if x { tracing::warn!("message") } else { debug_span!("name", m.n = 1, o) }"#), ["m.n", "o"]);
    assert_eq!(found(r#"assert!(p == 1, "no event"); error!(q, "message")"#), ["q"]);
}
