//! The platform's documentation, sent and received as it specifies: the whole default call object, and every example.

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::inbox::{Inbox, Received};
use crate::support::process::{Dispatcher, file, postcall, stdout};

/// The worked cases of the rendering rules, with the documentation's call object.
fn cases() -> Value {
    serde_json::from_str(include_str!("data/rendering_cases.json")).unwrap()
}

fn default_call() -> Value {
    cases()["default_call"].clone()
}

/// Sends the default call by each of the actions, and returns what arrived, by the action's path.
async fn sent(actions: &[Value]) -> Vec<Received> {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    for (number, action) in actions.iter().enumerate() {
        let mut action = action.clone();
        let target = action["url"].as_str().unwrap().replacen("https://api.example.com", "", 1);
        action["url"] = json!(inbox.url(&format!("/{number}{target}")));
        database.publish("agent_7f3k2", &number.to_string(), &action).await;
    }
    database.insert_call("agent_7f3k2", &default_call()).await;
    let _dispatcher = Dispatcher::start(&database, &[]).await;
    database.settled().await;
    let mut received = inbox.received();
    received.sort_by_key(|request| request.target.split('/').nth(1).unwrap().parse::<usize>().unwrap());
    assert_eq!(received.len(), actions.len());
    received
}

#[tokio::test]
async fn without_a_body_template_the_whole_call_arrives() {
    let url = "https://api.example.com/hook";
    let received =
        sent(&[json!({"method": "POST", "url": url}), json!({"method": "PUT", "url": url, "body": " \n"})]).await;
    for (request, method) in received.iter().zip(["POST", "PUT"]) {
        assert_eq!(request.method, method);
        assert_eq!(request.body, default_call().to_string());
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("content-length"), Some(request.body.len().to_string().as_str()));
        assert!(request.header("webhook-id").is_some());
        assert_eq!(request.header("user-agent"), Some(concat!("postcall/", env!("CARGO_PKG_VERSION"))));
        assert_eq!(request.header("accept-encoding"), None);
    }
}

#[tokio::test]
async fn get_sends_no_body_not_even_the_default_one() {
    let action =
        json!({"method": "GET", "url": "https://api.example.com/hook?id=${callInfo.callSid}&phone=${callInfo.from}"});
    let received = sent(&[action]).await;
    assert_eq!(received[0].method, "GET");
    assert_eq!(received[0].body, "");
    assert_eq!(received[0].header("content-length"), None);
    assert_eq!(received[0].header("content-type"), None);
    assert_eq!(received[0].target, "/0/hook?id=CA1234567890abcdef1234567890abcdef&phone=%2B15551234567");
}

#[tokio::test]
async fn every_documented_example_arrives_byte_for_byte() {
    let cases = cases();
    let seeds: Vec<&Value> = cases["cases"].as_array().unwrap().iter().filter(|case| case["basis"] == "seed").collect();
    let of_kind = |kind: &str| -> Vec<&Value> {
        let plain =
            |case: &&&Value| case["template_kind"] == kind && case["call"] == "default" && case["expect"].is_string();
        seeds.iter().copied().filter(|case| plain(&case)).collect()
    };
    let url = "https://api.example.com/hook";
    let (bodies, urls, headers) = (of_kind("body"), of_kind("url"), of_kind("header"));
    assert!(
        bodies.len() > 10 && !urls.is_empty() && headers.len() > 2,
        "{} {} {}",
        bodies.len(),
        urls.len(),
        headers.len()
    );

    let method = |case: &Value| case["method"].as_str().unwrap_or("POST").to_owned();
    let actions: Vec<Value> = bodies
        .iter()
        .map(|case| json!({"method": method(case), "url": url, "body": case["template"].as_str().unwrap_or("")}))
        .collect();
    for (request, case) in sent(&actions).await.iter().zip(&bodies) {
        assert_eq!(request.body, case["expect"].as_str().unwrap(), "{}", case["name"]);
    }

    let actions: Vec<Value> = urls.iter().map(|case| json!({"method": "POST", "url": case["template"]})).collect();
    for (number, (request, case)) in sent(&actions).await.iter().zip(&urls).enumerate() {
        let expected = case["expect"].as_str().unwrap().replacen("https://api.example.com", &format!("/{number}"), 1);
        assert_eq!(request.target, expected, "{}", case["name"]);
    }

    let text = |case: &Value| match case["scope"].as_str() {
        Some("object") => case["template"].as_str().unwrap().to_owned(),
        _ => json!({"x-case": case["template"]}).to_string(),
    };
    let actions: Vec<Value> =
        headers.iter().map(|case| json!({"method": "POST", "url": url, "headers": text(case)})).collect();
    for (request, case) in sent(&actions).await.iter().zip(&headers) {
        for line in case["expect"].as_str().unwrap().lines() {
            let (name, value) =
                if case["scope"] == "object" { line.split_once(": ").unwrap() } else { ("x-case", line) };
            assert_eq!(request.header(name), Some(value), "{}", case["name"]);
        }
    }
}

#[test]
fn render_prints_the_request_or_the_error_without_a_database() {
    let call = file(&default_call().to_string());
    let render = |action: &Value| {
        let action = file(&action.to_string());
        let output =
            postcall(&["render", "--action", action.path().to_str().unwrap(), "--call", call.path().to_str().unwrap()]);
        (output.status.code(), serde_json::from_str::<Value>(&stdout(&output)).unwrap())
    };
    let action = json!({"method": "PUT", "url": "https://api.example.com/o/${context.Order ID}?x=${nope}",
                        "headers": "{\"X-D\": ${duration}}", "body": "{\"from\": \"${callInfo.from}\", \"y\": \"${nope}\"}"});
    let expected = json!({
        "method": "PUT",
        "url": "https://api.example.com/o/ORD%2077%2FB?x=",
        "headers": [["x-d", "42"], ["content-type", "application/json"]],
        "body": "{\"from\": \"+15551234567\", \"y\": \"\"}",
        "unresolved": ["nope"],
    });
    assert_eq!(render(&action), (Some(0), expected));

    let (status, answer) = render(&json!({"method": "PUT", "url": "https://api.example.com/tasks/${callInfo.task}"}));
    assert_eq!(status, Some(1));
    assert_eq!(answer["error"]["code"], "empty_path_value");
    assert_eq!(answer["error"]["field"], "url");
    assert!(answer["error"]["message"].is_string() && answer["error"]["line"] == 1, "{answer}");

    let (status, answer) = render(&json!({"method": "PATCH", "url": "https://api.example.com/"}));
    assert_eq!((status, answer["error"]["code"].as_str()), (Some(1), Some("bad_method")));
    let (status, answer) = render(&json!({"method": "POST", "url": "https://api.example.com/", "timeout": 5}));
    assert_eq!((status, answer["error"]["code"].as_str()), (Some(1), Some("bad_timeout")));
}

#[test]
fn help_teaches_and_wrong_usage_is_told_apart_from_a_problem() {
    for command in ["migrate", "run", "action", "render", "history", "show", "demo"] {
        let output = postcall(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(stdout(&output).contains("Usage:"), "{command}");
    }
    assert_eq!(postcall(&["run", "--concurrency", "0"]).status.code(), Some(2));
    assert_eq!(postcall(&["run", "--allow-target", "everywhere"]).status.code(), Some(2));
    assert_eq!(postcall(&["history"]).status.code(), Some(2), "no DATABASE_URL");
    assert_eq!(postcall(&["nonsense"]).status.code(), Some(2));
    assert_eq!(postcall(&["history", "--database-url", "nonsense"]).status.code(), Some(1));
}
