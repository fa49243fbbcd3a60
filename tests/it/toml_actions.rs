//! An action file may be TOML: by its name, or by its content where there is no name. It says the same as JSON, and its errors
//! are as good.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::process::{POSTCALL, file, postcall, postcall_on, stderr, stdout};

const ACTION: &str = "\
# What the CRM gets.
method = \"POST\"
url = \"https://crm.example.com/calls/${callInfo.callSid}\"
body = '''
{
  \"from\": \"${callInfo.from}\",
  \"said\": \"\\\"${outcome}\\\"\",
  \"seconds\": ${duration}
}'''

[headers]
Authorization = \"Bearer x\"
X-Outcome = \"${outcome}\"
";

fn named(end: &str, text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(end).tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// Runs a command with this text as its standard input.
fn with_input(arguments: &[&str], text: &str) -> Output {
    let mut command = std::process::Command::new(POSTCALL);
    command
        .env_remove("DATABASE_URL")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn what_is_published_from_toml_is_what_the_same_fields_in_json_give() {
    let database = Database::new().await;
    let (toml, call) = (
        named(".toml", ACTION),
        file(r#"{"callInfo": {"callSid": "C", "from": "+1"}, "outcome": "o\"k", "duration": 1}"#),
    );
    let output = postcall_on(&database, &["action", "publish", "a", path(&toml)]);
    assert_eq!(stdout(&output), "published a default version 1 (enabled)\n", "{}", stderr(&output));
    let shown = stdout(&postcall_on(&database, &["action", "show", "a"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let body =
        "{\n  \"from\": \"${callInfo.from}\",\n  \"said\": \"\\\"${outcome}\\\"\",\n  \"seconds\": ${duration}\n}";
    assert_eq!(shown["body"], body);
    let json = file(&shown.to_string());
    let render = |action: &str| {
        let output = postcall(&["render", "--action", action, "--call", path(&call)]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()
    };
    let sent = render(path(&toml));
    assert_eq!(sent, render(path(&json)));
    assert_eq!(sent["headers"][1], json!(["x-outcome", "o\"k"]));
    assert_eq!(sent["body"], "{\n  \"from\": \"+1\",\n  \"said\": \"\\\"o\\\"k\\\"\",\n  \"seconds\": 1\n}");
}

#[test]
fn a_file_is_read_as_its_name_says_and_standard_input_as_its_content_says() {
    let well = |output: Output| {
        assert_eq!(stdout(&output), "the action is well formed\n", "{}", stderr(&output));
    };
    let json = r#" {"method": "POST", "url": "https://a.example/"}"#;
    well(postcall(&["action", "check", path(&named(".toml", ACTION))]));
    well(postcall(&["action", "check", path(&named(".TOML", ACTION))]));
    well(with_input(&["action", "check", "-"], ACTION));
    well(with_input(&["action", "check", "-"], json));
    for (end, text, words) in
        [(".json", ACTION, "is not JSON"), ("", ACTION, "is not JSON"), (".toml", json, "is not TOML")]
    {
        let output = postcall(&["action", "check", path(&named(end, text))]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(words), "{end}: {}", stderr(&output));
    }
}

#[test]
fn an_error_of_a_toml_file_and_one_of_its_templates_are_shown_where_they_are() {
    let wrong =
        ACTION.replace("method =", "timeout = \"5000\"\nmethod =").replace("{callInfo.from}\",", "{callInfo.from}\"");
    let output = postcall(&["action", "check", path(&named(".toml", &wrong))]);
    let expected = "\
error[bad_timeout]: `timeout` must be whole milliseconds from 100 to 120000, as a number without quotes
 --> timeout:2:11
  |
2 | timeout = \"5000\"
  |           ^
error[invalid_json_body]: expected `,` or `}` after this value: is a comma missing at the end of this line?
 --> body:2:29
  |
2 |   \"from\": \"${callInfo.from}\"
  |                             ^
warning: headers: the value of `Authorization` is probably a secret, and would be stored in clear: name a secret in its place (`${secret.NAME}`), \
or publish with the key file (--key-file), which seals the templates; if it is no secret, nothing is wrong (line 2, column 20)
";
    assert_eq!((stderr(&output).as_str(), output.status.code()), (expected, Some(1)));
    let output = postcall(&["action", "check", path(&named(".toml", "method = \"POST\nurl = 1"))]);
    let words = stderr(&output);
    assert!(
        words.starts_with("error[bad_action]: the file is not TOML: ") && words.contains("--> action:1:15"),
        "{words}"
    );
}
