//! What scripts add to the console, in a real browser: the live tail, local times, the chart, the editor.

use std::time::Duration;

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::console::{Console, PASSWORD, ROLES, users};
use crate::support::database::Database;
use crate::support::endings::ended;
use crate::support::process::THIS_MACHINE;

/// Waits until an expression is true.
async fn until(browser: &Browser, expression: &str) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let found = async {
        while browser.value(expression).await != true {
            look.tick().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), found).await.is_err() {
        let page = browser.value("document.body.innerText").await;
        panic!("waited for {expression}: {page} {:?}", browser.complaints().await);
    }
}

async fn nothing_is_wrong(browser: &Browser) {
    assert_eq!(browser.obstacles().await, Vec::<String>::new());
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

async fn database() -> Database {
    let database = Database::new().await;
    let action = json!({"method": "POST", "url": "https://receiver.example/", "headers": {"x-a": "b"}, "body": "{\"a\": \"${outcome}\"}"});
    database.publish("a", "default", &action).await;
    database
}

#[tokio::test]
async fn a_delivery_that_ends_while_one_looks_appears_and_can_be_stopped_and_followed_again() {
    let Some(browser) = Browser::start().await else { return };
    let database = database().await;
    let console = Console::start(&database.url).await;
    browser.looks("light", 1280, 800).await;
    browser.goes_to(&format!("http://{}/", console.address())).await;
    until(&browser, "document.querySelector('[data-live-state]').textContent.startsWith('Live')").await;
    let id = ended(&database, "failed", 1).await.remove(0);
    until(&browser, &format!("document.querySelector('[data-live] tbody tr')?.dataset.id === '{id}'")).await;
    let words = browser.value("document.querySelector('[data-live] tbody tr').innerText").await.to_string();
    assert!(words.contains("failed") && words.contains("dns"), "{words}");
    browser.value("document.querySelector('[data-live] button').click()").await;
    until(&browser, "document.querySelector('[data-live-state]').textContent === 'Stopped.'").await;
    let id = ended(&database, "delivered", 1).await.remove(0);
    browser.value("document.querySelector('[data-live] button').click()").await;
    until(&browser, &format!("document.querySelector('[data-live] tbody tr')?.dataset.id === '{id}'")).await;
    assert_eq!(browser.value("document.querySelectorAll('[data-live] tbody tr').length").await, 2);
    nothing_is_wrong(&browser).await;
}

#[tokio::test]
async fn times_are_local_on_demand_with_their_distance_from_utc_and_the_choice_stays() {
    let Some(browser) = Browser::start().await else { return };
    let database = database().await;
    let id = ended(&database, "failed", 1).await.remove(0);
    let console = Console::start(&database.url).await;
    browser.looks("light", 1280, 800).await;
    browser.runs_in("Asia/Kolkata").await;
    browser.goes_to(&format!("http://{}/deliveries/{id}", console.address())).await;
    let time = "document.querySelector('main time').textContent";
    let utc = browser.value(time).await.as_str().unwrap().to_owned();
    assert!(utc.ends_with(" UTC"), "{utc}");
    browser.value("document.querySelector('[data-times] button').click()").await;
    let local = browser.value(time).await.as_str().unwrap().to_owned();
    assert!(local.ends_with(" +05:30"), "{local}");
    let shifted = browser.value("new Date(document.querySelector('main time').dateTime).toString()").await.to_string();
    assert!(shifted.contains(local.split(['.', ' ']).nth(1).unwrap()), "{local} {shifted}");
    nothing_is_wrong(&browser).await;
    browser.goes_to(&format!("http://{}/deliveries", console.address())).await;
    assert!(browser.value(time).await.as_str().unwrap().ends_with(" +05:30"), "it is remembered");
    browser.value("document.querySelector('[data-times] button').click()").await;
    assert!(!browser.value(time).await.as_str().unwrap().contains('+'));
}

#[tokio::test]
async fn the_last_hour_is_a_chart_and_a_table_with_the_same_numbers() {
    let Some(browser) = Browser::start().await else { return };
    let database = database().await;
    ended(&database, "failed", 3).await;
    let console = Console::start(&database.url).await;
    for scheme in ["light", "dark"] {
        browser.looks(scheme, 1280, 800).await;
        browser.goes_to(&format!("http://{}/", console.address())).await;
        until(
            &browser,
            "document.querySelector('.chart canvas')?.width > 0 && !document.querySelector('.chart').hidden",
        )
        .await;
        browser.value("document.querySelectorAll('details').forEach(one => one.open = true)").await;
        let sum = "[...document.querySelectorAll('#minutes [data-state=failed]')].reduce((sum, one) => sum + Number(one.dataset.count), 0)";
        assert_eq!(browser.value(sum).await, 3);
        assert_eq!(browser.value("document.querySelectorAll('#minutes tbody tr').length").await, 60);
        nothing_is_wrong(&browser).await;
    }
}

#[tokio::test]
async fn the_editor_checks_while_one_types_completes_and_leaves_the_form_as_it_is_typed() {
    let Some(browser) = Browser::start().await else { return };
    let database = database().await;
    let console = Console::start_with(&database.url, &["--write", "--as", "Ada Lovelace"]).await;
    let page = format!("http://{}/change/action?agent=a&name=default", console.address());
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)] {
        browser.looks(scheme, width, 800).await;
        browser.goes_to(&page).await;
        until(&browser, "document.querySelectorAll('.cm-editor').length === 3").await;
        until(&browser, "document.querySelector('[data-check-result]').textContent.includes('Nothing is wrong')").await;
        let is_styled =
            browser.value("getComputedStyle(document.querySelector('.cm-editor .cm-scroller')).display").await;
        assert_eq!(is_styled, "flex", "the editor's own style sheet has the nonce");
        let wide = browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
        assert_eq!(wide, 0, "{scheme} {width}");
        nothing_is_wrong(&browser).await;
    }
    browser.looks("light", 1280, 800).await;
    browser.value("document.querySelectorAll('.cm-content')[2].focus()").await;
    let put = async |text: &str| {
        browser.value("document.execCommand('selectAll'); 0").await;
        // By the editor's own key: where a selection is typed over, Chromium itself sometimes keeps its colours in an inline style.
        browser.presses("Delete").await;
        until(&browser, "document.querySelectorAll('.cm-content')[2].innerText.trim() === ''").await;
        browser.types(text).await;
    };
    put("{\"a\": ${callinfo.from}").await;
    until(&browser, "document.querySelector('.cm-lintRange-error, .cm-lintPoint-error') !== null").await;
    until(&browser, "document.querySelector('[data-check-result]').textContent.includes('✕ error: body')").await;
    until(&browser, "document.getElementById('body').value.includes('callinfo.from')").await;
    put("{\"a\": \"${callInfo.fr").await;
    until(
        &browser,
        "document.querySelector('.cm-tooltip-autocomplete li')?.textContent.includes('callInfo.from') ?? false",
    )
    .await;
    nothing_is_wrong(&browser).await;
    put("{\"a\": \"${context.lead}\"}").await;
    browser.value("document.querySelector('button[value=preview]').click()").await;
    until(&browser, "document.getElementById('preview').textContent.includes('placeholders without a value')").await;
    until(&browser, "document.querySelector('[data-check-result]').textContent.includes('Nothing is wrong')").await;
    nothing_is_wrong(&browser).await;
}

/// A console that people log in to, and a browser that has done so and looks at the editor.
async fn logged_in_to_the_editor(browser: &Browser, console: &Console) -> String {
    let page = format!("http://{}/change/action?agent=a&name=default", console.address());
    browser.looks("light", 1280, 800).await;
    browser.goes_to(&page).await;
    let fill = |name: &str, value: &str| format!("document.querySelector('[name={name}]').value = {value:?};");
    let log_in = fill("name", "publisher") + &fill("password", PASSWORD);
    browser.value(&format!("{log_in} document.querySelector('form.change').submit(); 0")).await;
    until(browser, "document.querySelectorAll('.cm-editor').length === 3").await;
    until(browser, "document.querySelector('[data-check-result]').textContent.includes('Nothing is wrong')").await;
    page
}

/// Types a text into one of the editors, in the place of what is in it.
async fn put(browser: &Browser, editor: usize, text: &str) {
    let content = format!("document.querySelectorAll('.cm-content')[{editor}]");
    browser.value(&format!("{content}.focus(); document.execCommand('selectAll'); 0")).await;
    browser.presses("Delete").await;
    until(browser, &format!("{content}.innerText.trim() === ''")).await;
    browser.types(text).await;
}

#[tokio::test]
async fn what_was_typed_is_in_the_editor_again_when_one_comes_back_to_it() {
    let Some(browser) = Browser::start().await else { return };
    let database = database().await;
    let console = Console::start_with(&database.url, &["--write", "--as", "Ada Lovelace"]).await;
    browser.looks("light", 1280, 800).await;
    browser.goes_to(&format!("http://{}/change/action?agent=a&name=default", console.address())).await;
    until(&browser, "document.querySelectorAll('.cm-editor').length === 3").await;
    let texts = ["https://other.example/x", "{\"x-b\": \"c\"}", "5432"];
    for (editor, text) in texts.iter().enumerate() {
        put(&browser, editor, text).await;
    }
    let typed = "document.getElementById('body').value";
    until(&browser, &format!("{typed} === '5432'")).await;
    browser.value("document.querySelector('button[value=review]').click()").await;
    until(&browser, "document.querySelector('h1')?.textContent.startsWith('Publish') ?? false").await;
    browser.value("history.back()").await;
    for (editor, text) in texts.iter().enumerate() {
        until(&browser, &format!("document.querySelectorAll('.cm-content')[{editor}]?.innerText.trim() === {text:?}"))
            .await;
    }
    assert_eq!(browser.value(typed).await, "5432", "what is shown is what is sent");
    until(&browser, "document.querySelector('[data-check-result]').textContent.includes('Nothing is wrong')").await;
    nothing_is_wrong(&browser).await;
}

#[tokio::test]
async fn a_form_that_was_refused_for_want_of_a_session_still_has_what_was_typed_and_is_not_called_checked() {
    let Some(browser) = Browser::start().await else { return };
    let database = database().await;
    let users = users();
    let settings = ["--auth", "basic", "--write", "--users", users.path().to_str().unwrap()];
    let settings = [&settings[..], &THIS_MACHINE].concat();
    let console = Console::start_with(&database.login(&ROLES).await, &settings).await;
    let page = logged_in_to_the_editor(&browser, &console).await;
    browser.forgets_cookies().await;
    put(&browser, 1, "{\"x-b\": \"${oops\"}").await;
    until(&browser, "document.querySelector('[data-check-result]').textContent.includes('You are not logged in')")
        .await;
    let found = "document.querySelector('[data-check-result]').textContent";
    let found = browser.value(found).await.to_string();
    assert!(!found.contains("Nothing is wrong"), "{found}");
    browser.value("document.querySelector('button[value=review]').click()").await;
    until(&browser, "document.querySelector('h1')?.textContent === 'Not logged in'").await;
    let promise = browser.value("document.querySelector('main').innerText").await.to_string();
    assert!(promise.contains("what you typed is still there"), "{promise}");
    // On another page of the browser.
    browser.has_cookie(&page, &console.log_in("publisher", PASSWORD).await).await;
    browser.value("history.back()").await;
    until(&browser, "document.querySelectorAll('.cm-content')[1]?.innerText.includes('${oops') ?? false").await;
    assert!(browser.value("document.getElementById('headers').value").await.to_string().contains("${oops"));
}

#[tokio::test]
async fn the_url_is_completed_and_marked_as_headers_and_body_are() {
    let Some(browser) = Browser::start().await else { return };
    let database = database().await;
    let console = Console::start_with(&database.url, &["--write", "--as", "Ada Lovelace"]).await;
    browser.looks("light", 1280, 800).await;
    browser.goes_to(&format!("http://{}/change/action?agent=a&name=default", console.address())).await;
    until(&browser, "document.querySelectorAll('.cm-editor').length === 3").await;
    for (editor, before) in [(0, "https://a.test/${ca"), (1, "{\"x-b\": \"${ca"), (2, "{\"x\": \"${ca")] {
        put(&browser, editor, before).await;
        until(
            &browser,
            "document.querySelector('.cm-tooltip-autocomplete li')?.textContent.includes('callInfo') ?? false",
        )
        .await;
        let range = format!(
            "document.querySelectorAll('.cm-editor')[{editor}].querySelector('.cm-lintRange-error, .cm-lintPoint-error') !== null"
        );
        until(&browser, &range).await;
    }
    until(&browser, "document.getElementById('url').value === 'https://a.test/${ca'").await;
    browser.value("document.activeElement.blur()").await;
    until(&browser, "document.querySelector('.cm-tooltip-autocomplete') === null").await;
    nothing_is_wrong(&browser).await;
    // An empty one is sent, and refused in words.
    put(&browser, 0, "").await;
    until(&browser, "document.getElementById('url').value === ''").await;
    browser.value("document.querySelector('button[value=review]').click()").await;
    until(&browser, "document.querySelector('.notice')?.textContent.includes('cannot be published') ?? false").await;
}
