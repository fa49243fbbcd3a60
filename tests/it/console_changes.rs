//! What is changed by the console: each change is recorded with who made it, is made once, and is what the command line makes.

use serde_json::json;

use crate::support::console::{Console, Response};
use crate::support::database::Database;
use crate::support::endings::{end_all, ended};
use crate::support::process::{file, postcall_on, stdout};

async fn console() -> (Database, Console) {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": "https://receiver.example/", "body": "{\"a\": 1}"});
    database.publish("a", "default", &action).await;
    let console = Console::start_with(&database.url, &["--write", "--as", "Ada Lovelace"]).await;
    (database, console)
}

fn says(page: &Response, words: &str) {
    assert!(page.words().contains(words), "no {words:?} in {}", page.words());
}

/// The fields of the form of the action, as they are, but for these.
fn fields<'f>(changed: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let form = [
        ("agent", "a"),
        ("name", "default"),
        ("method", "POST"),
        ("url", "https://receiver.example/"),
        ("timeout", "15000"),
        ("headers", ""),
        ("body", "{\"a\": 1}"),
        ("enabled", "yes"),
        ("over", "1"),
        ("reason", ""),
        ("step", "review"),
    ];
    let value = |name: &str| changed.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
    form.into_iter().map(|(name, as_it_is)| (name, value(name).unwrap_or(as_it_is))).collect()
}

#[tokio::test]
async fn pausing_and_switching_are_recorded_with_the_person_and_twice_is_once() {
    let (database, console) = console().await;
    let switch = [("agent", "a"), ("name", "default"), ("enabled", "no"), ("reason", "not now")];
    says(&console.done("", "/change/enabled", &switch).await, "A default is now disabled.");
    says(&console.done("", "/change/enabled", &switch).await, "A default was disabled already.");
    let by = "SELECT switched_by || ': ' || reason FROM postcall.action_switch ORDER BY switch_id DESC LIMIT 1";
    assert_eq!(database.text(by).await.as_deref(), Some("Ada Lovelace: not now"));
    for target in [
        &[("target", "agent"), ("agent", "a")][..],
        &[("target", "action"), ("agent", "a"), ("name", "default")],
        &[("target", "host"), ("host", "receiver.example")],
    ] {
        let order = |order| [target, &[("order", order), ("reason", "their maintenance")]].concat();
        says(&console.done("", "/change/pause", &order("pause")).await, "is paused; what waits for it is sent once");
        says(&console.done("", "/change/pause", &order("pause")).await, "was paused already, by Ada Lovelace");
        says(&console.done("", "/change/pause", &order("resume")).await, "is resumed; it was paused by Ada Lovelace.");
        says(&console.done("", "/change/pause", &order("resume")).await, "is not paused, or not any more.");
    }
    assert_eq!(database.number("SELECT count(*) FROM postcall.pause WHERE paused_by = 'Ada Lovelace'").await, 3);
    assert_eq!(database.number("SELECT count(*) FROM postcall.pause_end WHERE resumed_by = 'Ada Lovelace'").await, 3);
    for (fields, said) in [
        (&[("target", "agent"), ("agent", "aa"), ("order", "pause"), ("reason", "x")][..], "did you mean a?"),
        (&[("target", "host"), ("host", "https://x/"), ("order", "pause"), ("reason", "x")], "give the host alone"),
        (
            &[("target", "agent"), ("agent", "a"), ("order", "pause"), ("reason", " ")],
            "The reason: it must not be empty",
        ),
    ] {
        let refused = console.sends("", "/change/pause", fields).await;
        assert_eq!(refused.status, 409, "{}", refused.words());
        says(&refused, said);
    }
}

#[tokio::test]
async fn a_delivery_is_replayed_once_and_resolved_once_however_often_the_form_is_sent() {
    let (database, console) = console().await;
    let failed = ended(&database, "failed", 1).await.remove(0);
    let unknown = ended(&database, "unknown", 1).await.remove(0);
    let resolve = [("delivery", unknown.as_str()), ("finding", "failed"), ("reason", "they never had it")];
    says(&console.page(&format!("/deliveries/{unknown}")).await, "Record this finding");
    let page = console.done("", "/change/resolve", &resolve).await;
    says(&page, "is resolved as failed, says Ada Lovelace.");
    let again = console.sends("", "/change/resolve", &resolve).await;
    assert_eq!(again.status, 409);
    says(&again, "was resolved before");
    for id in [&failed, &unknown] {
        let replay = [("delivery", id.as_str()), ("reason", "again")];
        says(&console.done("", "/change/replay", &replay).await, "was replayed as this delivery");
        let again = console.sends("", "/change/replay", &replay).await;
        assert_eq!(again.status, 409);
        says(&again, "is still waiting");
    }
    let by = "SELECT count(*) FROM postcall.replay WHERE replayed_by = 'Ada Lovelace' AND reason = 'again'";
    assert_eq!(database.number(by).await, 2);
}

/// The value of a hidden field.
fn hidden(page: &Response, name: &str) -> String {
    let (_, rest) = page.body.split_once(&format!("name=\"{name}\" value=\"")).expect("a field");
    rest.split('"').next().unwrap().replace("&#43;", "+").replace("&#38;", "&")
}

#[tokio::test]
async fn what_became_of_what_a_search_finds_is_said_once_of_those_that_were_shown_and_are_unknown() {
    let (database, console) = console().await;
    let unknown = ended(&database, "unknown", 12).await;
    ended(&database, "failed", 2).await;
    assert!(postcall_on(&database, &["replay", &unknown[11], "--include-unknown", "--reason", "r"]).status.success());
    let search = console.page("/deliveries?agent=a").await;
    assert!(search.body.contains("/change/resolve-many?agent=a\""), "{}", search.body);
    let without = console.page("/deliveries?agent=a&state=failed").await;
    assert!(!without.body.contains("resolve-many"), "nothing there is unknown");
    let dry = console.page("/change/resolve-many?agent=a").await;
    for words in ["Resolve 11 unknown deliveries", "11 unknown.", "And 1 more", "2 failed", "1: replayed already"] {
        says(&dry, words);
    }
    let shown = |id: &String| dry.body.contains(&format!("/deliveries/{id}\""));
    assert_eq!(unknown.iter().filter(|id| shown(id)).count(), 10, "the first ones: {}", dry.body);
    // What becomes unknown after the dry run is none of those that were shown, though the replay was made before.
    ended(&database, "unknown", 1).await;
    let (query, until) = (hidden(&dry, "query"), hidden(&dry, "until"));
    let fields = [("query", query.as_str()), ("until", until.as_str()), ("reason", "their log")];
    let refused = console.sends("", "/change/resolve-many", &fields).await;
    assert_eq!(refused.status, 409, "{}", refused.words());
    says(&refused, "Say what you found out");
    assert_eq!(database.number("SELECT count(*) FROM postcall.resolution").await, 0, "nothing was changed yet");
    let form = [&fields[..], &[("finding", "delivered")]].concat();
    says(&console.done("", "/change/resolve-many", &form).await, "11 deliveries are resolved as delivered.");
    says(&console.done("", "/change/resolve-many", &form).await, "0 deliveries are resolved as delivered.");
    let by = "SELECT count(*) FROM postcall.resolution WHERE resolved_by = 'Ada Lovelace' AND reason = 'their log'";
    assert_eq!(database.number(by).await, 11);
    assert_eq!(console.get("/change/resolve-many").await.status, 400, "all of history is no search");
}

#[tokio::test]
async fn what_a_search_finds_is_counted_first_and_then_replayed_and_never_twice() {
    let (database, console) = console().await;
    let failed = ended(&database, "failed", 3).await;
    ended(&database, "delivered", 2).await;
    database.insert_call("a", &json!({})).await;
    let dry = console.page("/change/replay-many?agent=a").await;
    says(&dry, "Replay 3 deliveries");
    says(&dry, "3 failed.");
    says(&dry, "2 delivered");
    assert!(failed.iter().all(|id| dry.body.contains(&format!("/deliveries/{id}\""))), "which: {}", dry.body);
    assert_eq!(database.number("SELECT count(*) FROM postcall.replay").await, 0, "nothing was changed yet");
    let (query, until) = (hidden(&dry, "query"), hidden(&dry, "until"));
    // It was on its way at the dry run, and so is none of those that were shown.
    end_all(&database, "failed").await;
    let form = [("query", query.as_str()), ("until", until.as_str()), ("reason", "the receiver was down")];
    says(&console.done("", "/change/replay-many", &form).await, "3 deliveries were replayed.");
    says(
        &console.done("", "/change/replay-many", &form).await,
        "0 deliveries were replayed. Left out: 3: replayed already.",
    );
    assert_eq!(database.number("SELECT count(*) FROM postcall.replay WHERE replayed_by = 'Ada Lovelace'").await, 3);
    let everything = console.get("/change/replay-many").await;
    assert_eq!(everything.status, 400, "all of history is no search: {}", everything.words());
}

#[tokio::test]
async fn an_action_is_checked_compared_and_published_with_its_person_and_reason() {
    let (database, console) = console().await;
    let body = ("body", "{\r\n \"a\": 2}");
    let review = console.sends("", "/change/action", &fields(&[body])).await;
    assert_eq!(review.status, 200, "{}", review.words());
    says(&review, "What changes from version 1");
    says(&review, "- {\"a\": 1} + { + \"a\": 2}");
    assert_eq!(database.number("SELECT max(version)::bigint FROM postcall.action_version").await, 1, "nothing yet");
    let publish = fields(&[body, ("step", "publish"), ("reason", "a is two now")]);
    says(&console.done("", "/change/action", &publish).await, "Published a default version 2 (enabled).");
    // Sent twice, it is the same, and nobody else has done it.
    let twice = console.done("", "/change/action", &publish).await;
    says(&twice, "a default version 2 is the same already, published by Ada Lovelace; nothing was published again.");
    assert!(!twice.words().contains("in the meantime"), "{}", twice.words());
    let row = "SELECT published_by || ', ' || reason || ', ' || body FROM postcall.action_version WHERE version = 2";
    assert_eq!(database.text(row).await.as_deref(), Some("Ada Lovelace, a is two now, {\n \"a\": 2}"));
    // It is what the command line would have published.
    let written =
        file("{\"method\": \"POST\", \"url\": \"https://receiver.example/\", \"body\": \"{\\n \\\"a\\\": 2}\"}");
    let output = postcall_on(&database, &["action", "publish", "a", written.path().to_str().unwrap()]);
    assert!(stdout(&output).contains("version 2 is the same already"), "{}", stdout(&output));
    // Back to the first version.
    let versions = console.page("/versions?agent=a&name=default").await;
    says(&versions, "Ada Lovelace a is two now");
    says(&versions, "What version 2 changed from version 1");
    says(&versions, "- {\"a\": 1} + { + \"a\": 2}");
    assert!(!versions.words().contains("What version 1 changed"), "{}", versions.words());
    let old = console.page("/change/action?agent=a&name=default&version=1").await;
    says(&old, "This is version 1 as it was. The newest is 2.");
    says(&old, "{\"a\": 1}");
    let back = fields(&[("over", "2"), ("step", "publish"), ("reason", "back to version 1")]);
    says(&console.done("", "/change/action", &back).await, "Published a default version 3 (enabled).");
}

#[tokio::test]
async fn all_that_is_wrong_is_said_beside_its_field_and_nothing_typed_is_lost() {
    let (database, console) = console().await;
    let body = format!("\n<b>${{\n{}", "x".repeat(60_000));
    let typed = fields(&[
        ("url", "https://a.example/${"),
        ("timeout", "soon"),
        ("headers", "[1]"),
        ("body", &body),
        ("reason", "my <i> reason"),
    ]);
    let wrong = console.sends("", "/change/action", &typed).await;
    assert_eq!(wrong.status, 422);
    for field in ["url", "timeout", "headers", "body"] {
        let (_, beside) = wrong.body.split_once(&format!("id=\"{field}-wrong\"")).unwrap();
        assert!(beside.split("</div>").next().unwrap().contains("class=\"wrong\""), "{field}");
    }
    let escaped = body.replace('<', "&#60;").replace('>', "&#62;");
    assert!(wrong.body.contains(&format!(
        "<textarea id=\"body\" name=\"body\" rows=\"12\" aria-describedby=\"body-wrong\">\n{escaped}</textarea>"
    )));
    for kept in ["https://a.example/${", "value=\"soon\"", "[1]", "my &#60;i&#62; reason"] {
        assert!(wrong.body.contains(kept), "{kept}");
    }
    assert_eq!(database.number("SELECT max(version)::bigint FROM postcall.action_version").await, 1);
}

#[tokio::test]
async fn whoever_publishes_over_a_version_that_they_have_not_seen_is_told_and_shown_the_difference() {
    let (database, console) = console().await;
    let other = json!({"method": "POST", "url": "https://receiver.example/", "body": "{\"b\": 9}"});
    database.publish("a", "default", &other).await;
    let publish = fields(&[("body", "{\"a\": 2}"), ("step", "publish"), ("reason", "r")]);
    let told = console.sends("", "/change/action", &publish).await;
    assert_eq!(told.status, 200);
    says(&told, "Version 2 was published in the meantime, by the test, so nothing was published.");
    says(&told, "- {\"b\": 9} + {\"a\": 2}");
    assert!(told.body.contains("name=\"over\" value=\"2\""), "{}", told.body);
    assert_eq!(database.number("SELECT max(version)::bigint FROM postcall.action_version").await, 2);
    let again = fields(&[("body", "{\"a\": 2}"), ("over", "2"), ("step", "publish"), ("reason", "r")]);
    says(&console.done("", "/change/action", &again).await, "version 3");
    // Two who make the same new action.
    let new = |body| fields(&[("agent", "new"), ("over", ""), ("step", "publish"), ("reason", "r"), ("body", body)]);
    says(&console.done("", "/change/action", &new("1")).await, "Published new default version 1 (enabled).");
    says(
        &console.sends("", "/change/action", &new("2")).await,
        "Version 1 was published in the meantime, by Ada Lovelace",
    );
}

#[tokio::test]
async fn nothing_is_published_without_a_reason_and_where_nothing_changes_there_is_nothing_to_publish() {
    let (database, console) = console().await;
    let publish = "value=\"publish\"";
    let changed = console.sends("", "/change/action", &fields(&[("body", "{\"a\": 2}")])).await;
    assert!(
        changed.body.contains(publish)
            && changed.body.contains("name=\"reason\" value=\"\" maxlength=\"1000\" required")
    );
    let refused = console.sends("", "/change/action", &fields(&[("body", "{\"a\": 2}"), ("step", "publish")])).await;
    assert_eq!(refused.status, 422);
    says(&refused, "The reason: it must not be empty");
    assert!(refused.body.contains("{&#34;a&#34;: 2}"), "what was typed is there: {}", refused.body);
    assert_eq!(database.number("SELECT max(version)::bigint FROM postcall.action_version").await, 1);
    let same = console.sends("", "/change/action", &fields(&[])).await;
    says(&same, "Nothing: there is nothing to publish.");
    assert!(!same.body.contains(publish), "{}", same.body);
    let switched = console.sends("", "/change/action", &fields(&[("enabled", "no")])).await;
    says(&switched, "It is disabled by this.");
    assert!(switched.body.contains(publish), "{}", switched.body);
}

#[tokio::test]
async fn what_is_not_there_is_said_not_to_be_there() {
    let (_database, console) = console().await;
    for (path, status, said) in [
        ("/change/action?agent=a&name=default&version=99", 404, "There is no version 99 of an action a default."),
        ("/change/action?agent=a&name=default&version=-1", 404, "There is no version -1 of an action a default."),
        ("/change/action?agent=a&name=default&version=x", 400, "version: expected a number"),
        ("/tests", 400, "agent: expected the name of an agent."),
        ("/tests?agent=nobody", 404, "No agent nobody has an action."),
        ("/deliveries?since=1h&until=2h", 400, "so nothing can be found"),
        ("/calls?since=1h&until=2h", 400, "so nothing can be found"),
        ("/audit?since=1h&until=2h", 400, "so nothing can be found"),
        ("/change/replay-many?since=1h&until=2h", 400, "so nothing can be found"),
    ] {
        let page = console.get(path).await;
        assert_eq!(page.status, status, "{path}: {}", page.words());
        says(&page, said);
        assert!(!page.words().contains("this console only reads"), "{path}: {}", page.words());
    }
    assert_eq!(console.page("/tests?agent=a").await.status, 200);
    let nowhere = console.get("/nowhere").await;
    assert!(nowhere.status == 404 && !nowhere.words().contains("this console only reads"), "{}", nowhere.words());
}

#[tokio::test]
async fn a_console_without_write_has_no_form_and_takes_none() {
    let (database, _) = console().await;
    let failed = ended(&database, "failed", 1).await.remove(0);
    let console = Console::start_with(&database.url, &["--as", "Ada"]).await;
    for path in ["/", "/agents/a", "/deliveries?state=failed", &format!("/deliveries/{failed}")] {
        let page = console.page(path).await;
        assert!(!page.body.contains("method=\"post\"") && !page.body.contains("/change/"), "{path}: {}", page.body);
        says(&page, "this console only reads");
    }
    says(&console.get("/nowhere").await, "this console only reads");
    let order = [("order", "pause"), ("target", "agent"), ("agent", "a"), ("reason", "x")];
    let refused = console.sends("", "/change/pause", &order).await;
    assert_eq!(refused.status, 403);
    says(&refused, "This console changes nothing.");
    // What was just done is told to whoever did it, and nobody can make the console tell something else.
    says(&console.page("/?note=00000000000000000000000000000000").await, "Overview");
}
