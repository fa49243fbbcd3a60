//! No call and no action file takes memory or time out of proportion. The tests measure the program itself, which ends
//! when it asks for more memory than it was given.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::time::{Duration, Instant};

use postcall::domain::action_file::MAX_ACTION_FILE_BYTES;
use postcall::domain::call::MAX_CALL_BYTES;
use serde_json::{Value, json};

use crate::support::process::{POSTCALL, file, stderr, stdout};

/// What the program may take beside what it was asked to hold, in KiB: itself, its threads, its output.
const BASE_KIB: usize = 48 * 1024;

/// Tells a command that hangs from one that does not, on a busy machine and in a build without optimisations.
const GENEROUS: Duration = Duration::from_secs(60);

/// Runs a command that may allocate so many KiB.
fn within(kib: usize, arguments: &[&str]) -> Output {
    let begun = Instant::now();
    let limited = format!("ulimit -d {kib} && exec \"$0\" \"$@\"");
    let output = std::process::Command::new("sh")
        .args(["-c", &limited, POSTCALL])
        .args(arguments)
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), None, "{kib} KiB were not enough: {}", stderr(&output));
    assert!(begun.elapsed() < GENEROUS, "it took {:?}", begun.elapsed());
    output
}

/// Renders a call with so much memory beside the call itself.
fn render(kib: usize, action: &Value, call: &str) -> Value {
    let (action, call) = (file(&action.to_string()), file(call));
    let paths = [action.path(), call.path()].map(|path| path.to_str().unwrap().to_owned());
    let output = within(BASE_KIB + kib, &["render", "--action", &paths[0], "--call", &paths[1]]);
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn post(body: Option<&str>) -> Value {
    match body {
        None => json!({"method": "POST", "url": "https://h/"}),
        Some(body) => json!({"method": "POST", "url": "https://h/", "body": body}),
    }
}

fn check(text: &str) -> Output {
    let action = file(text);
    within(BASE_KIB, &["action", "check", action.path().to_str().unwrap()])
}

const CALL_KIB: usize = MAX_CALL_BYTES / 1024;

#[test]
fn the_largest_call_of_the_smallest_values_takes_little_more_than_its_text() {
    let numbers = format!("{{\"a\":[{}1],\"z\":2}}", "1,".repeat(MAX_CALL_BYTES / 2 - 20));
    let rendered = render(CALL_KIB, &post(Some("[${a[0]}, ${z}]")), &numbers);
    assert_eq!(rendered["body"], "[1, 2]");
    let rendered = render(2 * CALL_KIB, &post(None), &numbers);
    assert_eq!(rendered["error"]["code"], "too_large");
}

#[test]
fn a_bomb_takes_no_more_than_the_limit_of_a_body() {
    let bomb = format!("[{}1]", "\"${x}\",".repeat(500));
    let call = json!({"x": "a".repeat(100 * 1024)}).to_string();
    assert_eq!(render(CALL_KIB, &post(Some(&bomb)), &call)["error"]["code"], "too_large");
}

#[test]
fn white_space_is_not_read_again_for_each_of_very_many_placeholders() {
    let placeholders = "${x}".repeat(500);
    let action = json!({
        "method": "POST",
        "url": format!("https://h/?{placeholders}"),
        "headers": {"a": placeholders},
        "body": format!("\"{placeholders}\""),
    });
    let call = format!("{{\"x\":{{{}}}}}", " ".repeat(MAX_CALL_BYTES - 20));
    let rendered = render(2 * CALL_KIB, &action, &call);
    assert_eq!(rendered["body"], format!("\"{}\"", "{}".repeat(500)));
}

#[test]
fn a_call_that_gives_a_million_names_twice_is_read_in_bounded_memory() {
    let mut names: String = (0..250_000).map(|number| format!("\"{number:x}\":1,\"{number:x}\":2,")).collect();
    names.insert_str(0, "{\"x\":{");
    names.push_str("\"z\":{}}}");
    let rendered = render(10 * CALL_KIB, &post(Some("[\"${x.z}\", ${x.0}]")), &names);
    assert_eq!(rendered["body"], "[\"{}\", 2]");
    let rendered = render(10 * CALL_KIB, &post(None), &names);
    assert!(rendered["body"].as_str().unwrap().ends_with(",\"3d08f\":2,\"z\":{}}}"));
}

#[test]
fn files_past_their_limits_are_not_read_to_their_ends() {
    let call = format!("{{}}{}é", " ".repeat(20 * MAX_CALL_BYTES));
    assert_eq!(render(4 * CALL_KIB, &post(None), &call)["error"]["code"], "too_large");
    let output = check(&format!("{}é", "é".repeat(20 * MAX_CALL_BYTES)));
    assert!(stderr(&output).contains("error[too_large]"), "{}", stderr(&output));
    let fits = format!("{}{}", post(None), " ".repeat(MAX_ACTION_FILE_BYTES));
    assert!(stderr(&check(&fits)).contains("error[too_large]"));
}

#[test]
fn a_file_of_very_many_wrong_fields_is_refused_in_few_lines() {
    let fields: String = (0..42_000).map(|number| format!("\"f{number:x}\":1,\n")).collect();
    let output = check(&format!("{{{fields}\"url\":1}}"));
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.lines().count() < 150 && said.contains("and 41980 more fields"), "{said}");
}

#[test]
fn no_template_of_full_size_takes_long_or_says_much() {
    const FULL: usize = 64 * 1024;
    let fill = |start: &str, piece: &str, end: &str| {
        let times = (FULL - start.len() - end.len()) / piece.len();
        format!("{start}{}{end}", piece.repeat(times))
    };
    let url = "https://h/";
    let placeholders = |piece: &str| {
        format!("[{}1{}]", format!("{piece},").repeat(500), " ".repeat(FULL - 1000 - 500 * (piece.len() + 1)))
    };
    let actions = [
        json!({"url": url, "body": "${".repeat(FULL / 2)}),
        json!({"url": url, "body": fill("\"", "${", "\"")}),
        json!({"url": url, "body": fill("[", "${a", "]")}),
        json!({"url": url, "body": "[".repeat(FULL)}),
        json!({"url": url, "body": "{\"a\":".repeat(FULL / 5)}),
        json!({"url": url, "body": fill("[", "1,", "x]")}),
        json!({"url": url, "body": fill("\"${a", "['b']", "}\"")}),
        json!({"url": url, "body": fill("\"${a", ".b", "}\" x")}),
        json!({"url": url, "body": fill("\"", "\u{301}", "\" x")}),
        json!({"url": url, "body": fill("", "x", "")}),
        json!({"url": url, "body": placeholders("-${a}")}),
        json!({"url": url, "headers": fill("{", "\"a\":1,", "\"A\":2}")}),
        json!({"url": url, "headers": fill("{\"b\":\"", "c", "\",\"B\":1}")}),
        json!({"url": url, "headers": fill("{\"", "a", "\":1, \"${\":2}")}),
        json!({"url": url, "headers": format!("{{{}\"z\":{{}}}}", (0..5_000).map(|n| format!("\"a{n}\":1,")).collect::<String>())}),
        json!({"url": fill(url, "/", "")}),
        json!({"url": fill(url, "a/", "..")}),
        json!({"url": fill(url, "%", "/..")}),
        json!({"url": fill(url, ".", "\\")}),
        json!({"url": fill(url, "%2e", "/.")}),
        json!({"url": fill("https://", "a.", "/")}),
        json!({"url": fill("https://", "é", "/")}),
        json!({"url": fill("https://", "é.", "/")}),
        json!({"url": fill("https://", ".", "/")}),
        json!({"url": fill("https://", "%61", "/")}),
        json!({"url": fill("https://[", ":", "/")}),
        json!({"url": fill(url, "\\${", "")}),
        json!({"url": format!("{url}{}{}", "-${a}/".repeat(500), "/é".repeat(20_000))}),
    ];
    for mut action in actions {
        action["method"] = json!("POST");
        let output = check(&action.to_string());
        let said = stderr(&output);
        assert!(said.len() < 3000, "{} bytes are said of {:.100}", said.len(), action.to_string());
        assert!(output.status.code().is_some_and(|code| code <= 1), "{said}");
    }
}

#[test]
fn what_found_nothing_is_bounded_in_a_request_and_told_in_full_to_an_author() {
    let body = format!(
        "[{}1]",
        (0..500).map(|number| format!("${{missing_{number}.{}}},", "x".repeat(100))).collect::<String>()
    );
    let rendered = render(CALL_KIB, &post(Some(&body)), "{}");
    assert_eq!(rendered["unresolved"].as_array().unwrap().len(), 500);
}
