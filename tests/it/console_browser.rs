//! The console in a real browser: each page in light and dark, on a desk and on a phone. Pictures of all pages are left in
//! `target/console-pictures`.

use std::path::PathBuf;

use crate::console_several::until_served;
use crate::several_databases::listed;
use crate::support::browser::Browser;
use crate::support::console::{Console, PASSWORD, ROLES, users};
use crate::support::database::Database;
use crate::support::life::{Life, SCRIPT};
use crate::support::process::THIS_MACHINE;

/// Colour scheme, width and height of a screen.
const SCREENS: [(&str, u32, u32); 4] =
    [("light", 1280, 800), ("dark", 1280, 800), ("light", 360, 780), ("dark", 360, 780)];

fn pictures() -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/console-pictures");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn address_of(agent: &str) -> String {
    let encoded: String = agent.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/agents/{encoded}")
}

/// Looks at a page on every screen; what is wrong with it.
async fn look_at(browser: &Browser, console: &Console, name: &str, path: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (scheme, width, height) in SCREENS {
        browser.looks(scheme, width, height).await;
        browser.goes_to(&format!("http://{}{path}", console.address())).await;
        let seen = format!("{name} {scheme} {width}");
        browser.picture(&pictures().join(format!("{name}-{scheme}-{width}.png"))).await;
        let too_wide =
            browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
        if too_wide != 0 {
            wrong.push(format!("{seen}: scrolls sideways by {too_wide}"));
        }
        let is_styled = browser.value("getComputedStyle(document.querySelector('header')).borderBottomStyle").await;
        if is_styled != "solid" {
            wrong.push(format!("{seen}: the style sheet does not apply"));
        }
        wrong.extend(browser.obstacles().await.into_iter().map(|one| format!("{seen}: {one}")));
        wrong.extend(browser.complaints().await.into_iter().map(|one| format!("{seen}: {one}")));
    }
    wrong
}

#[tokio::test]
async fn each_page_is_well_in_light_and_dark_on_a_desk_and_on_a_phone() {
    let Some(browser) = Browser::start().await else { return };
    let life = Life::new().await;
    let console = Console::start(&life.database.url).await;
    let auditor = Console::start(&life.database.login(&["postcall_auditor"]).await).await;
    let of = |state: &str| format!("agent = 'voice-support' AND state = '{state}'");
    let replayed = life.delivery("action = 'tickets' AND replay_of IS NULL AND call_sid = 'CA5f0e2b'").await;
    let resolved = life.delivery("resolved_at IS NOT NULL").await;
    let delivered = life.delivery(&of("delivered")).await;
    let unknown = life.delivery(&of("unknown")).await;
    let failed = life.delivery(&of("failed")).await;
    let waiting = life.delivery("state = 'waiting'").await;
    let hostile = life.delivery("error_detail LIKE '%script%'").await;
    let mut wrong = Vec::new();
    for (name, path) in [
        ("overview", "/".to_owned()),
        ("deliveries", "/deliveries".to_owned()),
        ("search", "/deliveries?state=failed&state=unknown&agent=voice-support&since=24h".to_owned()),
        ("nothing", "/deliveries?q=CAnone".to_owned()),
        ("delivered", format!("/deliveries/{delivered}")),
        ("replayed", format!("/deliveries/{replayed}")),
        ("resolved", format!("/deliveries/{resolved}")),
        ("unknown", format!("/deliveries/{unknown}")),
        ("failed", format!("/deliveries/{failed}")),
        ("waiting", format!("/deliveries/{waiting}")),
        ("hostile", format!("/deliveries/{hostile}")),
        ("calls", "/calls".to_owned()),
        ("without", "/calls?without=1".to_owned()),
        ("audit", "/audit".to_owned()),
        ("audit-search", "/audit?act=replayed&act=paused&since=24h".to_owned()),
        ("agents", "/agents".to_owned()),
        ("agent", "/agents/voice-support".to_owned()),
        ("hostile-agent", address_of(SCRIPT)),
    ] {
        wrong.extend(look_at(&browser, &console, name, &path).await);
    }
    wrong.extend(look_at(&browser, &auditor, "auditor-agent", "/agents/voice-support").await);
    wrong.extend(look_at(&browser, &auditor, "auditor-delivery", &format!("/deliveries/{delivered}")).await);
    let empty = Database::new().await;
    let empty = Console::start(&empty.url).await;
    wrong.extend(look_at(&browser, &empty, "empty", "/").await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn pages_of_several_databases_are_well_too() {
    let Some(browser) = Browser::start().await else { return };
    let (life, empty) = (Life::new().await, Database::new().await);
    let list = listed(&[("north", &life.database.url), ("south", &empty.url), ("gone", "postgres://u@127.0.0.1:1/d")]);
    let console = Console::start_with("", &["--databases", list.path().to_str().unwrap()]).await;
    for name in ["north", "south"] {
        until_served(&console, name).await;
    }
    let mut wrong = Vec::new();
    for (name, path) in [
        ("all", "/"),
        ("all-deliveries", "/deliveries"),
        ("one-of-all", "/in/north/"),
        ("one-of-all-deliveries", "/in/north/deliveries"),
        ("one-of-all-gone", "/in/gone/"),
    ] {
        wrong.extend(look_at(&browser, &console, name, path).await);
    }
    // Of the page of a database that is away, the browser says that this is its status.
    wrong.retain(|one| !one.contains("/in/gone/ - Failed to load resource: the server responded with a status of 503"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The pictures that docs/console.md shows; `POSTCALL_PICTURES=docs/pictures` renews them, and nothing compares them.
#[tokio::test]
async fn the_pictures_of_the_documents_are_renewed_if_that_is_asked_for() {
    let Some(directory) = std::env::var_os("POSTCALL_PICTURES") else { return };
    let Some(browser) = Browser::start().await else { return };
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(directory);
    std::fs::create_dir_all(&directory).unwrap();
    let life = Life::plain().await;
    for (agent, sid) in [("voice-suport", "CA7d10a1"), ("voice-suport", "CA7d10a2"), ("receptionist", "CA90ffe0")] {
        life.database.insert_call(agent, &serde_json::json!({ "callInfo": { "callSid": sid } })).await;
    }
    let console = Console::start(&life.database.url).await;
    let of = |state: &str| format!("agent = 'voice-support' AND state = '{state}'");
    let delivered = format!("/deliveries/{}", life.delivery(&of("delivered")).await);
    let unknown = format!("/deliveries/{}", life.delivery(&of("unknown")).await);
    for (name, path, scheme, width, height) in [
        ("overview", "/", "light", 1280, 900),
        ("overview-dark", "/", "dark", 1280, 900),
        ("overview-phone", "/", "light", 390, 844),
        ("deliveries", "/deliveries", "light", 1280, 780),
        ("search", "/deliveries?state=failed&state=unknown&agent=voice-support&since=24h", "light", 1280, 900),
        ("delivered", &delivered, "light", 1280, 900),
        ("unknown", &unknown, "light", 1280, 900),
        ("calls", "/calls?without=1", "light", 1280, 900),
        ("audit", "/audit", "light", 1280, 780),
        ("audit-phone", "/audit", "dark", 390, 844),
        ("agents", "/agents", "light", 1280, 500),
        ("agent", "/agents/voice-support", "light", 1280, 900),
    ] {
        browser.looks(scheme, width, height).await;
        browser.goes_to(&format!("http://{}{path}", console.address())).await;
        browser.picture_of_the_top(&directory.join(format!("{name}.png"))).await;
    }
    let writing = [&["--write", "--as", "Ada Lovelace"][..], &THIS_MACHINE].concat();
    let (users, changes) = (users(), Console::start_with(&life.database.url, &writing).await);
    let settings = ["--auth", "basic", "--users", users.path().to_str().unwrap()];
    let doors = Console::start_with(&life.database.login(&ROLES).await, &settings).await;
    browser.looks("light", 1280, 900).await;
    for (name, console, path) in [
        ("log-in", &doors, "/log-in"),
        ("editor", &changes, "/change/action?agent=voice-support&name=crm"),
        ("versions", &changes, "/versions?agent=voice-support&name=crm"),
        ("test-form", &changes, "/change/test?agent=voice-support&name=crm"),
    ] {
        browser.goes_to(&format!("http://{}{path}", console.address())).await;
        browser.picture_of_the_top(&directory.join(format!("{name}.png"))).await;
    }
    browser.goes_to(&format!("http://{}/change/action?agent=voice-support&name=crm", changes.address())).await;
    let edit = fills("form.change", &[("timeout", "8000"), ("reason", "their system has become slower")], "button");
    does(&browser, "review", &edit, "What changes").await;
    browser.picture_of_the_top(&directory.join("review.png")).await;
    let replay =
        format!("http://{}/change/replay-many?agent=voice-support&state=rejected&state=failed", changes.address());
    browser.goes_to(&replay).await;
    browser.picture_of_the_top(&directory.join("replay-many.png")).await;
    browser.goes_to(&format!("http://{}/change/test?agent=voice-support&name=crm", changes.address())).await;
    let reason = [("reason", "before it is published for everybody")];
    does(&browser, "test", &fills("form.change", &reason, "button"), reason[0].1).await;
    let no_result = "document.body.innerText.includes('There is no result yet')";
    while browser.value(no_result).await == true {
        does(&browser, "test", "location.reload();", reason[0].1).await;
    }
    browser.picture_of_the_top(&directory.join("test.png")).await;
    browser.goes_to(&format!("http://{}/tests?agent=voice-support", changes.address())).await;
    browser.picture_of_the_top(&directory.join("tests.png")).await;
}

/// Runs a script that leads to another page, and waits until a text is on it. What is wrong with that page.
async fn does(browser: &Browser, name: &str, script: &str, then: &str) -> Vec<String> {
    browser.value(&format!("{{ {script} }} 0")).await;
    let is_there = format!("document.readyState === 'complete' && !!document.body?.innerText.includes({then:?})");
    let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
    let arrived = async {
        while browser.value(&is_there).await != true {
            look.tick().await;
        }
    };
    let arrived = tokio::time::timeout(std::time::Duration::from_secs(60), arrived).await;
    let text = browser.value("document.body.innerText").await;
    assert!(arrived.is_ok(), "{name}: waited a minute for {then:?} in {text}");
    browser.picture(&pictures().join(format!("{name}.png"))).await;
    let (obstacles, complaints) = (browser.obstacles().await, browser.complaints().await);
    obstacles.into_iter().chain(complaints).map(|one| format!("{name}: {one}")).collect()
}

/// Fills in the fields of a form, and sends it.
fn fills(form: &str, fields: &[(&str, &str)], button: &str) -> String {
    let fields: String =
        fields.iter().map(|(name, value)| format!("form.querySelector('[name={name}]').value = {value:?};")).collect();
    format!("const form = document.querySelector({form:?}); {fields} form.querySelector({button:?}).click();")
}

#[tokio::test]
async fn somebody_logs_in_and_makes_one_change_of_each_kind_without_a_script_of_the_console() {
    let Some(browser) = Browser::start().await else { return };
    let life = Life::new().await;
    let users = users();
    let settings = ["--auth", "basic", "--write", "--users", users.path().to_str().unwrap()];
    let settings = [&settings[..], &THIS_MACHINE].concat();
    let console = Console::start_with(&life.database.login(&ROLES).await, &settings).await;
    let address = |path: &str| format!("location.href = 'http://{}{path}';", console.address());
    let unknown = life.delivery("agent = 'voice-support' AND state = 'unknown'").await;
    let failed = life.delivery("agent = 'voice-support' AND state = 'failed' AND replayed_as IS NULL").await;
    let reason = ("reason", "a browser does it");
    browser.looks("light", 360, 780).await;
    browser.goes_to(&format!("http://{}/agents/voice-support", console.address())).await;
    let log_in = [("name", "publisher"), ("password", PASSWORD)];
    let mut wrong = does(&browser, "log-in", "", "Password").await;
    wrong.extend(does(&browser, "logged-in", &fills("form.change", &log_in, "button"), "Last deliveries").await);
    wrong.extend(
        does(&browser, "forms", "document.querySelectorAll('details').forEach(one => one.open = true)", "Disable")
            .await,
    );
    let disable = fills("form[action='/change/enabled']", &[reason], "button");
    wrong.extend(does(&browser, "disabled", &disable, "is now disabled.").await);
    let pause = fills("form[action='/change/pause']:has([value=pause])", &[reason], "button");
    wrong.extend(does(&browser, "paused", &pause, "is paused; what waits").await);
    let resume = fills("form[action='/change/pause']:has([value=resume])", &[reason], "button");
    wrong.extend(does(&browser, "resumed", &resume, "is resumed; it was paused by publisher.").await);
    wrong.extend(
        does(&browser, "edit", "document.querySelector('a[href^=\"/change/action\"]').click()", "Check and compare")
            .await,
    );
    let edit = [("timeout", "9999"), reason];
    wrong.extend(does(&browser, "review", &fills("form.change", &edit, "button"), "What changes").await);
    wrong.extend(does(&browser, "published", &fills("form.change", &[], "button"), "Published voice-support").await);
    wrong.extend(
        does(&browser, "versions", "document.querySelector('a[href^=\"/versions\"]').click()", "Use it again").await,
    );
    // What a version changed is opened where the keyboard has come to, and everything in it is well.
    let open =
        "const summary = document.querySelector('.more summary'); summary.focus(); document.activeElement.click()";
    wrong.extend(does(&browser, "versions-open", open, "+timeout: 9999").await);
    let test = address("/change/test?agent=voice-support&name=crm");
    wrong.extend(does(&browser, "test-form", &test, "Send one request").await);
    wrong.extend(does(&browser, "test", &fills("form.change", &[reason], "button"), reason.1).await);
    wrong.extend(does(&browser, "tests", &address("/tests?agent=voice-support"), reason.1).await);
    wrong.extend(does(&browser, "unknown-form", &address(&format!("/deliveries/{unknown}")), "What happened").await);
    let resolve = "document.querySelector('[value=delivered]').checked = true;".to_owned()
        + &fills("form[action='/change/resolve']", &[reason], "button");
    wrong.extend(does(&browser, "resolve", &resolve, "is resolved as delivered").await);
    wrong.extend(does(&browser, "failed-form", &address(&format!("/deliveries/{failed}")), "What happened").await);
    let replay = fills("form[action='/change/replay']", &[reason], "button");
    wrong.extend(does(&browser, "replay", &replay, "was replayed as this delivery").await);
    let many = address("/change/resolve-many?state=unknown");
    wrong.extend(does(&browser, "resolve-many", &many, "Nothing was changed yet").await);
    wrong.extend(
        does(
            &browser,
            "replay-many",
            &address("/change/replay-many?state=rejected&state=skipped"),
            "Nothing was changed yet",
        )
        .await,
    );
    wrong.extend(
        does(&browser, "logged-out", "document.querySelector('form[action=\"/log-out\"] button').click()", "Password")
            .await,
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Somebody who goes through pages of a console that changes things, and what was wrong on their way.
struct Way<'b> {
    browser: &'b Browser,
    console: Console,
    wrong: Vec<String>,
}

impl Way<'_> {
    async fn opens(&mut self, name: &str, path: &str, then: &str) {
        let address = format!("location.href = 'http://{}{path}';", self.console.address());
        self.wrong.extend(does(self.browser, name, &address, then).await);
    }

    /// Presses what stands in a form with these fields filled in.
    async fn sends(&mut self, name: &str, form: &str, fields: &[(&str, &str)], then: &str) {
        self.wrong.extend(does(self.browser, name, &fills(form, fields, "button"), then).await);
    }

    async fn clicks(&mut self, name: &str, link: &str, then: &str) {
        let script = format!("document.querySelector({link:?}).click()");
        self.wrong.extend(does(self.browser, name, &script, then).await);
    }
}

#[tokio::test]
async fn what_is_switched_off_or_paused_is_switched_on_again_by_the_forms_of_the_pages() {
    let Some(browser) = Browser::start().await else { return };
    let life = Life::new().await;
    let settings = [&["--write", "--as", "Ada Lovelace"][..], &THIS_MACHINE].concat();
    let console = Console::start_with(&life.database.url, &settings).await;
    browser.looks("light", 1280, 900).await;
    browser.goes_to(&format!("http://{}/agents/voice-support", console.address())).await;
    let mut way = Way { browser: &browser, console, wrong: Vec::new() };
    let reason = ("reason", "a browser does it");
    let switch = "form[action='/change/enabled']:has([name=name][value=crm])";
    way.sends("disabled-again", switch, &[reason], "oice-support crm is now disabled.").await;
    way.sends("enabled-again", switch, &[reason], "oice-support crm is now enabled.").await;
    way.opens("overview-forms", "/", "Pause a host").await;
    let pause = "form[action='/change/pause']:has([value=pause])";
    way.sends("host-paused", pause, &[("host", "crm.example"), reason], "ost crm.example is paused").await;
    let resume = "form[action='/change/pause']:has([value=resume]):has([value='crm.example'])";
    way.sends("host-resumed", resume, &[reason], "host crm.example is resumed").await;
    let switches = "SELECT count(*) FROM postcall.action_switch WHERE reason = 'a browser does it'";
    assert_eq!(life.database.number(switches).await, 2);
    let ends = "SELECT count(*) FROM postcall.pause_end WHERE resumed_by = 'Ada Lovelace'";
    assert_eq!(life.database.number(ends).await, 1);
    assert!(way.wrong.is_empty(), "{}", way.wrong.join("\n"));
}

#[tokio::test]
async fn an_earlier_version_is_used_again_and_a_search_is_replayed_by_the_forms_of_the_pages() {
    let Some(browser) = Browser::start().await else { return };
    let life = Life::new().await;
    let newer = serde_json::json!({"method": "POST", "url": "https://elsewhere.example/"});
    life.database.publish("voice-support", "old", &newer).await;
    let settings = [&["--write", "--as", "Ada Lovelace"][..], &THIS_MACHINE].concat();
    let console = Console::start_with(&life.database.url, &settings).await;
    browser.looks("light", 1280, 900).await;
    browser.goes_to(&format!("http://{}/versions?agent=voice-support&name=old", console.address())).await;
    let mut way = Way { browser: &browser, console, wrong: Vec::new() };
    way.clicks("go-back", "a[href*='version=1']", "This is version 1 as it was. The newest is 2.").await;
    way.sends("go-back-review", "form.change", &[], "What changes from version 2").await;
    let why = browser.value("document.querySelector('[name=reason]').value").await;
    assert_eq!(why, "back to version 1");
    way.sends("gone-back", "form.change", &[], "Published voice-support old version 3").await;
    way.opens("replay-many-search", "/deliveries?state=rejected&agent=voice-support", "Replay what this").await;
    let can = "SELECT count(*) FROM postcall.delivery_history WHERE state = 'rejected' AND agent = 'voice-support'
                   AND replayed_as IS NULL";
    let can = life.database.number(can).await;
    assert!(can > 0, "there is something to replay");
    way.clicks("replay-many-first", "a[href*='/change/replay-many']", "Nothing was changed yet").await;
    let reason = [("reason", "the receiver takes them now")];
    way.sends("replayed-many", "form.change", &reason, "deliveries were replayed.").await;
    let replays = "SELECT count(*) FROM postcall.replay WHERE reason = 'the receiver takes them now'";
    assert_eq!(life.database.number(replays).await, can);
    assert!(way.wrong.is_empty(), "{}", way.wrong.join("\n"));
}

#[tokio::test]
async fn a_page_is_used_by_keyboard_alone_and_the_first_step_skips_the_navigation() {
    let Some(browser) = Browser::start().await else { return };
    let database = Database::new().await;
    let console = Console::start(&database.url).await;
    browser.looks("light", 1280, 800).await;
    browser.goes_to(&format!("http://{}/deliveries", console.address())).await;
    let focus = "document.activeElement.textContent.trim() || document.activeElement.name || document.activeElement.id";
    let mut passed = Vec::new();
    for _ in 0..9 {
        browser.presses("Tab").await;
        passed.push(browser.value(focus).await.as_str().unwrap().to_owned());
        let outlined = browser.value("getComputedStyle(document.activeElement).outlineStyle").await;
        assert_eq!(outlined, "solid", "{passed:?} has a focus that can be seen");
    }
    let links = ["Overview", "Deliveries", "Calls", "Agents", "Audit"];
    assert_eq!(passed, [&["Skip to the content", "postcall"][..], &links, &["q", "Search"]].concat());
    let first = browser.value("document.querySelector('a').getAttribute('href')").await;
    assert_eq!(first, "#content");
}

#[tokio::test]
async fn a_page_of_another_site_can_neither_frame_the_console_nor_load_anything_of_it() {
    let Some(browser) = Browser::start().await else { return };
    let database = Database::new().await;
    let console = Console::start(&database.url).await;
    let target = format!("http://{}", console.address());
    let page = format!(
        "<!doctype html><title>x</title><iframe src='{target}/'></iframe><img src='{target}/icon.svg' onload=\"document.title='loaded'\"
         onerror=\"document.title='refused'\">"
    );
    let other = Console::start(&database.url).await;
    // Another origin: that of another port.
    browser.goes_to(&format!("http://{}/health", other.address())).await;
    browser.complaints().await;
    let url = format!("data:text/html,{}", page.replace('#', "%23"));
    browser.goes_to(&url).await;
    browser
        .value("new Promise(done => { const look = () => document.title === 'x' ? setTimeout(look, 10) : done(1); look(); })")
        .await;
    assert_eq!(browser.value("document.title").await, "refused");
    let complaints = browser.complaints().await.join("\n");
    assert!(complaints.contains("403") || complaints.contains("frame"), "{complaints}");
}
