//! What `postcall action check` says: all errors and all warnings of a file at once, each marked in the text that it is in, and
//! no warning keeps anybody from publishing.

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::process::{file, postcall, postcall_on, stderr, stdout};

/// What `check --json` says of an action, and its exit status.
fn checked(action: &str) -> (Vec<Value>, Option<i32>) {
    let file = file(action);
    let output = postcall(&["action", "check", "--json", file.path().to_str().unwrap()]);
    let mut answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let Value::Array(problems) = answer["problems"].take() else { panic!("{answer}") };
    (problems, output.status.code())
}

/// The part of a text that is meant.
fn marked(text: &str, problem: &Value) -> String {
    let at = |end: &str| usize::try_from(problem["range"][end].as_u64().unwrap()).unwrap();
    text.chars().skip(at("start")).take(at("end") - at("start")).collect()
}

/// An action with a slip of each kind, and without an error.
fn slips() -> Value {
    json!({
        "method": "POST",
        "url": "http://10.1.2.3:5432/é/{{callInfo.callSid}}?from=${callinfo.from}",
        "timeout": 110,
        "headers": "{\"x-a\": \"$outcome\"}",
        "body": "{\n  \"é\": \"${duration}\", \"lead\": ${lead}\n}",
    })
}

#[test]
fn each_slip_is_a_warning_that_marks_its_place_in_characters() {
    let slips = slips();
    let (problems, status) = checked(&slips.to_string());
    assert_eq!(status, Some(0));
    let expected = [
        ("short_timeout", "timeout", ""),
        ("plain_http", "url", "http"),
        ("forbidden_port", "url", "10.1.2.3:5432"),
        ("private_address", "url", "10.1.2.3:5432"),
        ("literal_braces", "url", "{{callInfo.callSid}}"),
        ("unknown_path", "url", "${callinfo.from}"),
        ("literal_dollar", "headers", "$outcome"),
        ("quoted_number", "body", "\"${duration}\""),
        ("unknown_path", "body", "${lead}"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (code, field, text)) in problems.iter().zip(expected) {
        assert_eq!((&problem["code"], &problem["field"]), (&json!(code), &json!(field)));
        assert_eq!(problem["severity"], "warning", "{code}");
        assert!(problem["message"].is_string() && problem["hint"].is_string(), "{problem}");
        match text {
            "" => assert_eq!((&problem["range"], &problem["line"]), (&Value::Null, &Value::Null)),
            text => assert_eq!(marked(slips[field].as_str().unwrap(), problem), text),
        }
    }
    assert_eq!(problems[0]["hint"], "were seconds meant? 110 seconds are 110000");
    assert_eq!(problems[5]["message"], "no documented call has `callinfo.from`");
    assert_eq!(problems[5]["hint"], "did you mean `${callInfo.from}`?");
    assert_eq!((&problems[7]["line"], &problems[7]["column"]), (&json!(2), &json!(8)));
}

#[tokio::test]
async fn warnings_are_told_in_a_line_each_and_never_keep_an_action_from_being_published() {
    let slips = file(&slips().to_string());
    let path = slips.path().to_str().unwrap();
    let output = postcall(&["action", "check", path]);
    assert_eq!(stdout(&output), "the action is well formed\n");
    let words = stderr(&output);
    assert_eq!(words.matches("\nwarning: ").count() + 1, 9, "{words}");
    let line =
        "warning: url: no documented call has `callinfo.from`: did you mean `${callInfo.from}`? (line 1, column 50)";
    assert!(words.lines().any(|said| said == line), "{words}");

    let database = Database::new().await;
    let output = postcall_on(&database, &["action", "publish", "a", path]);
    assert_eq!(stdout(&output), "published a default version 1 (enabled)\n");
    assert_eq!(stderr(&output), words);
}

#[test]
fn errors_of_the_file_and_of_its_templates_and_warnings_are_said_at_once() {
    let body = "{\n \"a\": \"${callinfo.from}\"\n \"b\": 1\n}";
    let action = json!({
        "method": "post", "url": "https://h.example/${}", "timeout": 15, "retries": 3, "headers": {"Host": "h", "x": []}, "body": body,
    });
    let (problems, status) = checked(&action.to_string());
    assert_eq!(status, Some(1));
    let found: Vec<_> = problems
        .iter()
        .map(|one| ["severity", "field", "code"].map(|key| one[key].as_str().unwrap().to_owned()).join(" "))
        .collect();
    let expected = [
        "error action bad_action",
        "error method bad_method",
        "error timeout bad_timeout",
        "error url bad_placeholder",
        "error headers header_forbidden",
        "error headers header_value_type",
        "error body invalid_json_body",
        "warning body unknown_path",
    ];
    assert_eq!(found, expected);
    let seconds = problems[2]["message"].as_str().unwrap();
    assert!(seconds.ends_with("were seconds meant? 15 seconds are 15000"), "{seconds}");
    // An error of the file marks the file, and one of a template marks the template.
    assert_eq!(marked(&action.to_string(), &problems[2]), "1");
    assert_eq!(marked(body, &problems[6]), "\n");
    assert_eq!(marked(body, &problems[7]), "${callinfo.from}");
    assert_eq!(problems[6]["hint"], Value::Null);
}

#[test]
fn a_host_that_can_hardly_be_looked_up_is_warned_of_and_marked_and_one_that_can_is_not() {
    for (host, is_warned) in [
        ("*", true),
        ("*.example.com", true),
        ("a..b", true),
        ("x", true),
        ("crm.example.com", false),
        ("xn--mller-kva.example", false),
        ("192.0.2.7", false),
    ] {
        let url = format!("https://{host}/x?a=${{outcome}}");
        let (problems, status) = checked(&json!({"method": "POST", "url": url}).to_string());
        let unlikely: Vec<_> = problems.iter().filter(|one| one["code"] == "unlikely_host").collect();
        assert_eq!((unlikely.len(), status), (usize::from(is_warned), Some(0)), "{host}: {problems:?}");
        assert!(unlikely.iter().all(|warning| marked(&url, warning) == host), "{host}: {unlikely:?}");
    }
    // What means this machine is told once.
    let (problems, _) = checked(&json!({"method": "POST", "url": "https://localhost/"}).to_string());
    let codes: Vec<_> = problems.iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["private_address"]);
}

#[test]
fn a_timeout_that_looks_like_seconds_is_said_to_whoever_wrote_it_in_quotes_too() {
    for (timeout, said) in [
        (json!("15"), Some("15 seconds are 15000")),
        (json!(30), Some("30 seconds are 30000")),
        (json!("15000"), None),
        (json!(0), None),
        (json!(200_000), None),
    ] {
        let action = json!({"method": "POST", "url": "https://h.example/", "timeout": timeout});
        let (problems, _) = checked(&action.to_string());
        let message = problems[0]["message"].as_str().unwrap();
        assert_eq!(problems[0]["code"], "bad_timeout");
        assert_eq!(message.split("were seconds meant? ").nth(1), said, "{message}");
    }
}

#[test]
fn a_body_that_is_not_sent_draws_one_warning() {
    let action = json!({"method": "GET", "url": "https://h.example/", "body": "{\"a\": \"${lead} {{x}}\"}"});
    let (problems, status) = checked(&action.to_string());
    assert_eq!((problems.len(), &problems[0]["code"], status), (1, &json!("unused_body"), Some(0)));
}
