//! The editor of an action: its check, and the request that it shows.

use serde_json::{Value, json};

use crate::support::console::{Console, Response};
use crate::support::database::Database;
use crate::support::process::{file, postcall};

/// The fields of the form, all that it always has.
fn form<'f>(url: &'f str, timeout: &'f str, headers: &'f str, body: &'f str) -> Vec<(&'f str, &'f str)> {
    let fixed =
        [("agent", "a"), ("name", "default"), ("over", ""), ("method", "POST"), ("reason", ""), ("enabled", "yes")];
    fixed.into_iter().chain([("url", url), ("timeout", timeout), ("headers", headers), ("body", body)]).collect()
}

async fn console() -> (Database, Console) {
    let database = Database::new().await;
    let action =
        json!({"method": "POST", "url": "https://receiver.example/", "body": "{\"from\": \"${callInfo.from}\"}"});
    database.publish("a", "default", &action).await;
    let console = Console::start_with(&database.url, &["--write", "--as", "Ada Lovelace"]).await;
    (database, console)
}

async fn checked(console: &Console, fields: &[(&str, &str)]) -> Response {
    console.sends("", "/change/check", fields).await
}

#[tokio::test]
async fn the_check_while_typing_tells_the_very_same_as_action_check() {
    let (_database, console) = console().await;
    for (url, timeout, headers, body) in [
        ("https://a.test/?from=${callInfo.from}", "15000", "", ""),
        ("https://a.test/é/${", "15", "{\"a\": \"b\"", "{\"é𝒳\": 1\n\"b\": ${callInfo.form}}"),
        ("http://10.0.0.1/", "15000", "{\"x\": \"{{callInfo.from}}\"}", "{\"duration\": \"${duration}\"}"),
        ("ftp://a.test/", "15000", "[]", "{\"𝒳𝒳\": \"${lead}\", \"b\": $outcome}"),
    ] {
        let response = checked(&console, &form(url, timeout, headers, body)).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
        let told: Value = serde_json::from_str(&response.body).unwrap();
        let mut action = json!({"method": "POST", "url": url, "timeout": timeout.parse::<u64>().unwrap()});
        for (name, text) in [("headers", headers), ("body", body)] {
            if !text.is_empty() {
                action[name] = text.into();
            }
        }
        action["enabled"] = true.into();
        let file = file(&action.to_string());
        let output = postcall(&["action", "check", "--json", file.path().to_str().unwrap()]);
        let expected: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["problems"], expected["problems"], "{url}");
        assert_eq!(told["problems"].as_array().unwrap().is_empty(), headers.is_empty(), "{url}: {told}");
    }
}

#[tokio::test]
async fn only_who_may_publish_checks_from_the_console_s_own_pages_and_no_more_than_a_form_holds() {
    let (database, console) = console().await;
    let host = console.address().to_string();
    let right = form("https://a.test/", "15000", "", "");
    assert_eq!(checked(&console, &right).await.status, 200);
    assert_eq!(console.get("/change/check").await.status, 405);
    for site in ["cross-site", "same-site", "none"] {
        let response = console.sends_with(&[("host", &host), ("sec-fetch-site", site)], "/change/check", &right).await;
        assert_eq!(response.status, 403, "{site}");
    }
    let large = "x".repeat(700 * 1024);
    let refused = checked(&console, &form("https://a.test/", "15000", "", &large)).await;
    assert_eq!(refused.status, 413);
    let reader = Console::start(&database.url).await;
    assert_eq!(checked(&reader, &right).await.status, 403);
}

#[tokio::test]
async fn checks_of_many_keep_no_page_waiting() {
    let (_database, console) = console().await;
    let placeholders = "\"${callInfo.form}\",".repeat(3_000);
    let body = format!("[{placeholders}1]");
    let fields = form("https://a.test/", "15000", "", &body);
    let checks = futures_util::future::join_all((0..20).map(|_| checked(&console, &fields)));
    let pages = futures_util::future::join_all((0..8).map(|_| console.get("/agents/a")));
    let (checks, pages) = tokio::join!(checks, pages);
    assert!(
        pages.iter().all(|page| page.status == 200),
        "{:?}",
        pages.iter().map(|page| page.status).collect::<Vec<_>>()
    );
    // Whoever finds no place in time is told to come again.
    assert!(checks.iter().all(|check| [200, 503].contains(&check.status)));
    assert!(checks.iter().any(|check| check.status == 200));
}

#[tokio::test]
async fn the_request_is_shown_for_the_sample_or_a_chosen_call_with_what_found_no_value() {
    let (database, console) = console().await;
    let call = json!({"callInfo": {"from": "+4912345"}, "context": {"orderId": "L-1"}});
    let call_id = database.insert_call("a", &call).await.to_string();
    let other = database.insert_call("b", &call).await.to_string();
    let body = "{\"from\": \"${callInfo.from}\", \"lead\": \"${context.orderId}\"}";
    let mut fields = form("https://a.test/?api_key=s3cret", "15000", "{\"authorization\": \"Bearer s3cret\"}", body);
    fields.push(("step", "preview"));
    let shown = async |call: &str| {
        let fields: Vec<_> = fields.iter().copied().chain([("call", call)]).collect();
        let page = console.sends("", "/change/action", &fields).await;
        assert_eq!(page.status, 200, "{}", page.words());
        page
    };
    let of_call = shown(&call_id).await;
    let words = of_call.words();
    assert!(words.contains("every placeholder found a value") && words.contains("\"from\": \"+4912345\""), "{words}");
    assert!(words.contains("\"lead\": \"L-1\"") && words.contains("https://a.test/?api_key=***"), "{words}");
    // The form keeps what was typed; what is shown of the request is masked.
    let preview = of_call.body.split_once("<section id=\"preview\"").unwrap().1;
    assert!(!preview.contains("s3cret"), "{preview}");
    let words = shown("").await.words();
    assert!(words.contains("placeholders without a value context.orderId in body"), "{words}");
    let page = shown("").await.body;
    assert!(
        page.contains("context.orderId&#10;") || page.contains("<code>context.orderId</code>"),
        "of the latest calls"
    );
    assert!(shown(&other).await.words().contains("is one of another agent"));
    assert!(shown("x").await.words().contains("expected the id of a call"));
    let gone = shown("0192f0c1-0000-7000-8000-000000000001").await.words();
    assert!(gone.contains("There is no call 0192f0c1"), "{gone}");
}

#[tokio::test]
async fn each_place_without_a_value_is_marked_in_the_request_by_a_sign_and_in_words() {
    let (_database, console) = console().await;
    let headers = "{\"x-lead\": \"lead ${context.lead}\", \"authorization\": \"Bearer ${context.token}\"}";
    let body = "{\"lead\": \"${context.lead}\", \"n\": ${context.n}, \"from\": \"${callInfo.from}\"}";
    let mut fields = form("https://a.test/?key=s3cret${context.no}&x=${context['<b>x']}", "15000", headers, body);
    fields.push(("step", "preview"));
    let page = console.sends("", "/change/action", &fields).await;
    assert_eq!(page.status, 200, "{}", page.words());
    let preview = page.body.split_once("<section id=\"preview\"").unwrap().1.split_once("</section>").unwrap().0;
    let mark = |path: &str, instead: &str| {
        format!("<mark class=\"gap\" title=\"no value: {path}\"><span>[no value for {path}] </span>{instead}</mark>")
    };
    let no = |path| mark(path, "");
    for expected in [
        format!(
            "POST https://a.test/?key=***{}&#38;x={}</code>",
            no("context.no"),
            no("context[&#39;&#60;b&#62;x&#39;]")
        ),
        format!("lead{}</dd>", no("context.lead")),
        format!("***{}</dd>", no("context.token")),
        format!("&#34;lead&#34;: &#34;{}&#34;, &#34;n&#34;: {}, ", no("context.lead"), mark("context.n", "null")),
    ] {
        assert!(preview.contains(&expected), "no {expected} in {preview}");
    }
    assert_eq!(preview.matches("<mark").count(), 6, "what found a value is not marked: {preview}");
    assert!(!preview.contains("s3cret"), "{preview}");
}

#[tokio::test]
async fn the_chosen_call_stays_on_the_way_over_the_comparison() {
    let (database, console) = console().await;
    let call_id = database.insert_call("a", &json!({})).await.to_string();
    let mut fields = form("https://a.test/", "15000", "", "{\"x\": 1}");
    fields.extend([("call", call_id.as_str()), ("step", "review")]);
    let review = console.sends("", "/change/action", &fields).await;
    assert_eq!(review.status, 200, "{}", review.words());
    // What a browser sends from that page, with "Back to the form".
    let hidden = review.body.split("<input type=\"hidden\" name=\"").skip(1).map(|input| {
        let (name, rest) = input.split_once("\" value=\"").unwrap();
        (name, rest.split_once('"').unwrap().0.replace("&#34;", "\""))
    });
    let hidden: Vec<(&str, String)> = hidden.collect();
    let mut back: Vec<(&str, &str)> = hidden.iter().map(|(name, value)| (*name, value.as_str())).collect();
    back.extend([("reason", ""), ("step", "edit")]);
    let form = console.sends("", "/change/action", &back).await;
    assert!(form.body.contains(&format!("name=\"call\" value=\"{call_id}\"")), "{}", form.body);
}

#[tokio::test]
async fn a_call_is_chosen_from_the_latest_ones_of_the_agent_and_no_other() {
    let (database, console) = console().await;
    let call = json!({"callInfo": {"callSid": "CA<b>1"}});
    let (own, other) = (database.insert_call("a", &call).await, database.insert_call("b", &call).await);
    for path in ["/change/action?agent=a&name=default", "/change/test?agent=a&name=default"] {
        let page = console.page(path).await.body;
        let choices = page.split_once("<datalist id=\"calls\">").unwrap().1.split_once("</datalist>").unwrap().0;
        let choice = choices.trim().strip_prefix(&format!("<option value=\"{own}\">20")).expect(choices);
        assert!(choice.ends_with(" UTC, CA&#60;b&#62;1</option>"), "{choices}");
        assert!(page.contains("list=\"calls\"") && !page.contains(&other.to_string()), "{page}");
    }
}
