//! What differs between two versions of an action, line by line.

use std::time::Duration;

use similar::TextDiff;

use crate::domain::action::ActionSpec;

/// How long the shortest difference is looked for. After that, a longer one is told.
const MAX_SEARCH: Duration = Duration::from_secs(1);
/// The number of lines around each difference that are shown, too.
const AROUND: usize = 3;

/// The lines that differ, in the form of `diff -u` without its head; empty if the versions are the same. Templates are shown
/// as they were written, as `action show` does.
pub fn differences(older: &ActionSpec, newer: &ActionSpec) -> String {
    differences_within(older, newer, MAX_SEARCH)
}

/// As [`differences`], of which the shortest is looked for no longer than `search`.
pub fn differences_within(older: &ActionSpec, newer: &ActionSpec, search: Duration) -> String {
    let (older, newer) = (lines(older), lines(newer));
    let diff = TextDiff::configure().timeout(search).diff_lines(&older, &newer);
    diff.unified_diff().context_radius(AROUND).to_string()
}

/// All lines of the first version of an action, each as one that is added.
pub fn first(spec: &ActionSpec) -> String {
    lines(spec).lines().map(|line| format!("+{line}\n")).collect()
}

/// A version as lines: its fields in the order of the platform's form, and templates of several lines indented below them.
fn lines(spec: &ActionSpec) -> String {
    let headers = spec.headers.as_deref().map_or("headers: none\n".to_owned(), |text| block("headers", text));
    let body =
        spec.body.as_deref().map_or("body: none, the whole call is sent\n".to_owned(), |text| block("body", text));
    let certificate = spec.client_certificate.as_deref().map(|name| format!("client_certificate: {name}\n"));
    let (url, certificate) = (one_line(&spec.url), certificate.unwrap_or_default());
    format!("method: {}\nurl: {url}\ntimeout: {}\n{certificate}{headers}{body}", spec.method, spec.timeout_ms)
}

/// A text whose line breaks are shown as escapes.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}

fn block(field: &str, text: &str) -> String {
    let lines: String = text.split('\n').map(|line| format!("  {line}\n")).collect();
    format!("{field}:\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Method;

    fn spec(body: Option<&str>) -> ActionSpec {
        let (url, headers) = ("https://h/".to_owned(), Some("{\"a\": 1}".to_owned()));
        ActionSpec {
            method: Method::Post,
            url,
            timeout_ms: 1000,
            headers,
            body: body.map(str::to_owned),
            client_certificate: None,
        }
    }

    #[test]
    fn what_differs_is_told_line_by_line_with_what_is_around_it() {
        assert_eq!(differences(&spec(Some("{}")), &spec(Some("{}"))), "");
        let newer = ActionSpec { timeout_ms: 5000, ..spec(Some("{\n  \"b\": 2\n}")) };
        let expected = "@@ -1,6 +1,8 @@\n method: POST\n url: https://h/\n-timeout: 1000\n+timeout: 5000\n headers:\n   \
                        {\"a\": 1}\n body:\n-  {}\n+  {\n+    \"b\": 2\n+  }\n";
        assert_eq!(differences(&spec(Some("{}")), &newer), expected.replace("@@ -1,6 +1,8 @@", "@@ -1,7 +1,9 @@"));
        let none = differences(&spec(Some("{}")), &spec(None));
        assert!(none.ends_with("-body:\n-  {}\n+body: none, the whole call is sent\n"), "{none}");
    }

    #[test]
    fn of_a_first_version_every_field_is_told() {
        let expected = "+method: POST\n+url: https://h/\n+timeout: 1000\n+headers:\n+  {\"a\": 1}\n+body:\n+  {}\n";
        assert_eq!(first(&spec(Some("{}"))), expected);
    }

    #[test]
    fn templates_of_full_size_are_compared_in_bounded_time() {
        let body = |odd: &str, even: &str| {
            (0..32 * 1024).map(|number| if number % 3 == 0 { odd } else { even }).collect::<String>()
        };
        let (older, newer) = (spec(Some(&body("\n", "a\n"))), spec(Some(&body("b\n", "\n"))));
        assert!(!differences(&older, &newer).is_empty());
    }
}
