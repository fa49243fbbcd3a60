//! The planted words: a secret, a phone number, a name and a sentence of a transcript go through a whole run, in which deliveries end in
//! every way, and are looked for everywhere else: outputs, logs, metrics, spans, tables, checkpoints and pages, for each role.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use postcall::domain::action_file::{ActionFile, ActionText, Draft};
use postcall::domain::call::Call;
use postcall::domain::secret::Secrets;
use postcall::render::CompiledAction;
use postcall::service::action_form::ActionForm;
use postcall::service::chosen_call::ChosenCall;
use postcall::service::examination::{Storage, look_at};
use postcall::service::past_request::render_again;
use postcall::store::history::HistoryFilter;
use postcall::vault::Keyring;
use serde_json::{Value, json};

use crate::support::collector::{Collector, Manner};
use crate::support::console::{Console, PASSWORD, ROLES, Stream, users};
use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::keys::{key_file, new_key, set};
use crate::support::process::{THIS_MACHINE, file, postcall, postcall_at, stderr, stdout};
use crate::support::receiver::Receiver;
use crate::support::scrape;
use crate::support::tls::self_signed;

/// A secret in the vault.
const SECRET: &str = "tok-Qx71Vv";
/// A token that its author typed into a header of the template.
const TYPED: &str = "typed-Zz93Kk";
/// What is in the call and concerns a person: its digits, and parts that survive any escaping.
const PHONE: &str = "15157845671";
const PERSON: &str = "Wilhelmina";
const SAID: &str = "landlord";

/// What nobody sees who may not read calls.
const OF_CALLS: [&str; 4] = [SECRET, PHONE, PERSON, SAID];

/// What was seen, and where.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    fn add_output(&mut self, url: &str, role: &str, arguments: &[&str]) {
        let output = postcall_at(url, arguments);
        self.add(format!("{role}: postcall {}", arguments.join(" ")), stdout(&output) + &stderr(&output));
    }

    /// The places in which one of the words stands: as it is, percent-encoded, in hexadecimal, or in another case.
    fn with(&self, words: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for (place, text) in &self.0 {
            let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy().to_lowercase();
            for (word, as_it_is) in words.iter().map(|word| (word.to_lowercase(), hex::encode(word))) {
                if [&word, &as_it_is, &hex::encode(&word)].iter().any(|form| decoded.contains(*form)) {
                    let at = decoded.find(&word).unwrap_or_default();
                    let excerpt: String =
                        decoded.chars().skip(decoded[..at].chars().count().saturating_sub(80)).take(200).collect();
                    found.push(format!("{word} in {place}: … {excerpt} …"));
                }
            }
        }
        found
    }
}

fn call() -> Value {
    json!({"callInfo": {"callSid": "CA1", "from": format!("+{PHONE}")}, "customer": {"name": PERSON, "line": format!("a\n{}", PHONE.repeat(7_000))},
           "transcript": format!("My {SAID} hides three goats, said {PERSON}"), "recording": format!("https://r.example/{PHONE}")})
}

/// Answers in which the receiver repeats what it got, in the places that history looks at.
const TELLTALE: &[u8] =
    b"HTTP/1.1 500 landlord 15157845671\r\ncontent-type: text/Wilhelmina\r\nlocation: /15157845671\r\n\
    x-said: My landlord\r\ncontent-length: 50\r\n\r\nWilhelmina 15157845671 !!! typed-Zz93Kk tok-Qx71Vv";
const RUBBISH: &[u8] = b"My landlord 15157845671 speaks no HTTP\r\n\r\n";

/// Publishes, for agent a, an action for each way in which a delivery ends, with call and secret wherever they can stand.
async fn publish(database: &Database, inbox: &Inbox, keys: Option<Arc<Keyring>>) -> (Receiver, Receiver) {
    let store = database.store.clone().with_keys(keys);
    let (telltale, rubbish) = (Receiver::answering(TELLTALE).await, Receiver::answering(RUBBISH).await);
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let path = "/hook/${callInfo.from}/${customer.name}?who=${customer.name}&said=${transcript}&t=${secret.TOKEN}&${callInfo.from}=1&m=${gone.away}#${customer.name}";
    let (broken_header, plain) = (json!({"x-line": "${customer.line}"}), json!({}));
    for (name, url, more) in [
        ("ok", inbox.url(path), &plain),
        ("telltale", telltale.url(path), &plain),
        ("rubbish", rubbish.url(path), &plain),
        ("refused", format!("http://{nobody}{path}"), &plain),
        ("blocked", format!("https://10.0.0.1{path}"), &plain),
        ("broken", inbox.url(path), &broken_header),
        ("too_long", inbox.url(&format!("{path}&l=${{customer.line}}")), &plain),
        ("no_secret", inbox.url(&format!("{path}&g=${{secret.GONE}}")), &plain),
    ] {
        let mut headers = json!({"authorization": format!("Bearer {TYPED}"), "x-from": "${callInfo.from}", "x-key": "${secret.TOKEN}"});
        headers.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = r#"{"said": "${transcript}", "who": "${customer.name}", "token": "${secret.TOKEN}", "missing": "${gone.away}"}"#;
        let mut action = json!({"method": "POST", "url": url, "headers": headers, "body": body});
        if name == "blocked" {
            action["client_certificate"] = json!("TLS");
        }
        let file = ActionFile::parse(&action.to_string()).unwrap();
        store.publish_action("a", name, &file.spec, true, "the test").await.unwrap();
    }
    (telltale, rubbish)
}

/// Follows the links of the console from its front page, as a visitor with this cookie.
async fn pages(console: &Console, role: &str, cookie: &str, seen: &mut Seen) {
    let (mut known, mut next) = (BTreeSet::new(), vec!["/".to_owned()]);
    while let Some(target) = next.pop() {
        let page = console.get_as(cookie, &target).await;
        let links = page.body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for link in links.map(|link| link.replace("&#38;", "&").replace("&amp;", "&")) {
            let is_page = link.starts_with('/') && !["/live", "/assets"].iter().any(|not| link.contains(not));
            if is_page && known.len() < 120 && known.insert(link.clone()) {
                next.push(link);
            }
        }
        seen.add(format!("console as {role}: {target} {}", page.status), format!("{:?}\n{}", page.headers, page.body));
    }
    assert!(known.len() > 5, "{role}: {known:?}");
}

/// What people do afterwards, as publishers, who do not read calls.
fn people_act(url: &str, keys: &str, id: &str, unknown: &str, seen: &mut Seen) {
    let with_call = file(&call().to_string());
    let call_file = with_call.path().to_str().unwrap();
    let test =
        ["action", "test", "a", "--reason", "r", "--by", "Ada", "--call-file", call_file, "--key-file", keys, "--name"];
    // Testers see the request of the call that they gave, but no secret.
    let mut of_testers = Seen::default();
    for name in ["telltale", "rubbish"] {
        of_testers.add_output(url, "publisher", &[&test[..], &[name], &THIS_MACHINE].concat());
    }
    assert_eq!(of_testers.with(&[SECRET, TYPED]), Vec::<String>::new());
    for arguments in [
        &["replay", id, "--by", "Ada", "--reason", "r"][..],
        &["resolve", unknown, "--as", "failed", "--by", "Ada", "--reason", "r"],
        &["pause", "agent", "b", "--by", "Ada", "--reason", "r"],
        &["action", "versions", "a", "--name", "ok"],
        &["audit"],
    ] {
        seen.add_output(url, "publisher", arguments);
    }
}

#[tokio::test]
async fn a_whole_run_leaves_no_planted_word_anywhere_but_in_calls_templates_and_requests() {
    whole_run(Templates::InClear).await;
}

#[tokio::test]
async fn a_whole_run_with_sealed_templates_leaves_no_planted_word_in_the_templates_either() {
    whole_run(Templates::Sealed).await;
}

/// How the templates are stored.
#[derive(Clone, Copy, PartialEq)]
enum Templates {
    InClear,
    Sealed,
}

/// What nobody but its owner sees: the secret that signs, as its receiver got it, and a line of the key of a client's certificate.
struct Keys {
    signs: String,
    of_client: String,
}

/// Gives agent a its secrets, and a key that signs.
fn endow(database: &Database, keys: &tempfile::NamedTempFile) -> Keys {
    set(database, keys, "a", "TOKEN", SECRET);
    let pem = self_signed().2;
    set(database, keys, "a", "TLS", &pem);
    let of_client = pem.split("PRIVATE KEY-----").nth(1).unwrap().lines().nth(1).unwrap().to_owned();
    let enable = ["action", "signing", "enable", "a", "--by", "Ada", "--key-file", keys.path().to_str().unwrap()];
    let enabled = stdout(&postcall_at(&database.url, &enable));
    let signs = enabled.trim().strip_prefix("whsec_").unwrap().to_owned();
    Keys { signs, of_client }
}

/// What the server itself has logged, of all databases.
const SERVER_LOG: &str =
    "SELECT pg_read_file(regexp_replace(current_setting('data_directory'), '/data$', '/server.log'), 0, 100000000,
                         true)";

async fn whole_run(templates: Templates) {
    let (database, inbox, collector) =
        (Database::new().await, Inbox::open().await, Collector::start(Manner::Takes).await);
    let keys = key_file(&[&new_key()]);
    let keys_path = keys.path().to_str().unwrap();
    let endowed = endow(&database, &keys);
    let directory = tempfile::tempdir().unwrap();
    let seal_key = directory.path().join("seal.key");
    let made = postcall(&["audit", "new-key", "planted", seal_key.to_str().unwrap()]);
    assert!(made.status.success(), "{}", stderr(&made));
    let verifies = stdout(&made).trim().to_owned();
    let sealing = (templates == Templates::Sealed).then(|| Arc::new(Keyring::read(keys.path()).unwrap()));
    let _receivers = publish(&database, &inbox, sealing).await;
    let (console, mut visitors) = visited_console(&database, keys_path).await;
    database.insert_call("a", &call()).await;
    let url = database.login(&["postcall_dispatcher", "postcall_sealer"]).await;
    let arguments = [
        "--key-file",
        keys_path,
        "--log",
        "trace",
        "--hold-unreachable",
        "false",
        "--otlp-endpoint",
        &collector.url(),
        "--keep-responses-days",
        "3",
        "--seal-key-file",
        seal_key.to_str().unwrap(),
        "--checkpoint-dir",
        directory.path().to_str().unwrap(),
    ];
    let (dispatcher, scraper) = scrape::start(&url, &arguments).await;
    database.settled().await;
    let mut seen = Seen::default();
    let publisher = database.login(&["postcall_publisher"]).await;
    let of = |action: &str| {
        format!("SELECT delivery_id::text FROM postcall.delivery_history WHERE action = '{action}' LIMIT 1")
    };
    let (failed, unknown) =
        (database.text(&of("refused")).await.unwrap(), database.text(&of("rubbish")).await.unwrap());
    people_act(&publisher, keys_path, &failed, &unknown, &mut seen);
    database.settled().await;
    for Visitor { role, tail, .. } in &mut visitors {
        for id in [&failed, &unknown].into_iter().filter(|_| *role != "viewer") {
            tail.until(&format!("id: {id}\n")).await;
        }
        seen.add(format!("live tail as {role}"), &tail.seen);
    }
    let states =
        "SELECT string_agg(DISTINCT state || coalesce(' ' || error_kind, ''), ', ') FROM postcall.delivery_history";
    let states = database.text(states).await.unwrap();
    for state in ["delivered", "rejected", "failed connect", "failed blocked", "failed render", "failed"] {
        assert!(states.contains(state), "{states}");
    }
    database.until("SELECT max(size) >= 10 FROM postcall.seal_slice").await;
    seen.add("metrics", scraper.scrape().await.text);
    let everything = inbox.received().iter().map(|received| format!("{received:?}")).collect::<String>();
    dispatcher.signal(Signal::SIGTERM);
    let (well, log) = dispatcher.ended_saying().await;
    assert!(well && log.len() > 20, "{log:#?}");
    seen.add("log of the dispatcher at level trace", log.join("\n"));
    for word in OF_CALLS.iter().chain(&[TYPED]) {
        assert!(everything.contains(word), "the receiver gets {word}");
        assert!(!collector.holds(word), "{word} in a span");
    }
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        seen.add(format!("{}", path.display()), std::fs::read_to_string(&path).unwrap());
    }
    let tables = database.tables().await;
    assert!(tables.len() > 25, "{tables:?}");
    seen.0.extend(tables.into_iter().map(|(name, rows)| (format!("table {name}"), rows)));
    commands(&database, &failed, &mut seen).await;
    for Visitor { role, cookie, .. } in &visitors {
        pages(&console, role, cookie, &mut seen).await;
    }
    proofs(&database, &verifies, &failed, &mut seen).await;
    let logged = database.text(SERVER_LOG).await.unwrap_or_default();
    assert!(!logged.is_empty(), "the server's log cannot be read");
    seen.add("log of the server", logged);
    // Excerpts are kept because the operator wants what receivers write. What was sent as a secret is masked in them all the same.
    let (excerpts, others): (Vec<_>, Vec<_>) =
        seen.0.into_iter().partition(|(place, _)| place == "table response_excerpt");
    let (excerpts, mut seen) = (Seen(excerpts), Seen(others));
    assert!(!excerpts.with(&[PERSON]).is_empty(), "{:?}", excerpts.0);
    assert_eq!(excerpts.with(&[SECRET, TYPED]), Vec::<String>::new());
    let Keys { signs, of_client } = &endowed;
    assert_eq!(seen.with(&[&OF_CALLS[..], &[signs, of_client]].concat()), Vec::<String>::new());
    // The author's own token stands in the template, and is shown to publishers, who wrote it; to nobody else. Sealed, it is shown only to
    // those who have the key file, as this console has.
    seen.0.retain(|(place, _)| match templates {
        Templates::InClear => {
            place != "table action_version"
                && !place.starts_with("publisher: ")
                && !place.starts_with("console as publisher")
        }
        Templates::Sealed => !place.starts_with("console as publisher"),
    });
    assert_eq!(seen.with(&[TYPED]), Vec::<String>::new());
}

/// What history proves, and what a proof holds.
async fn proofs(database: &Database, verifies: &str, id: &str, seen: &mut Seen) {
    let url = database.login(&["postcall_auditor"]).await;
    seen.add_output(&url, "auditor", &["audit", "verify", "--key", verifies]);
    let proof = stdout(&postcall_at(&url, &["audit", "prove", id]));
    let leaf = serde_json::from_str::<Value>(&proof).unwrap_or_else(|_| panic!("{proof}"))["leaf"].clone();
    let leaf = STANDARD.decode(leaf.as_str().unwrap()).unwrap();
    seen.add("the leaf of a proof", String::from_utf8_lossy(&leaf).into_owned());
    let file = file(&proof);
    let checked = postcall(&["audit", "check", file.path().to_str().unwrap(), "--key", verifies]);
    assert!(checked.status.success(), "{}", stderr(&checked));
    seen.add("a proof that was checked", stdout(&checked));
}

/// What a browser gets first when it follows what comes to an end.
const WELCOME: &str = "event: told\n";

/// Somebody who looks at the console.
struct Visitor {
    role: &'static str,
    cookie: String,
    /// What they see of what comes to an end; a viewer sees nothing of it.
    tail: Stream,
}

/// A console, and a visitor of each role who follows the live tail.
async fn visited_console(database: &Database, keys: &str) -> (Console, Vec<Visitor>) {
    let (users, url) = (users(), database.login(&ROLES).await);
    let settings = ["--auth", "basic", "--users", users.path().to_str().unwrap(), "--write", "--key-file", keys];
    let console = Console::start_with(&url, &settings).await;
    let mut visitors = Vec::new();
    for role in ["viewer", "auditor", "operator", "publisher"] {
        let cookie = console.log_in(role, PASSWORD).await;
        let mut tail = console.follow_as(&cookie).await;
        tail.until(if role == "viewer" { "It needs the role auditor" } else { WELCOME }).await;
        visitors.push(Visitor { role, cookie, tail });
    }
    (console, visitors)
}

/// What each role gets to see by commands.
async fn commands(database: &Database, id: &str, seen: &mut Seen) {
    for role in ["auditor", "publisher", "sealer", "platform", "console_viewer", "console_operator"] {
        let url = database.login(&[&format!("postcall_{role}")]).await;
        for arguments in [
            &["show", id][..],
            &["show", "CA1", "--json"],
            &["history", "--format", "csv"],
            &["history", "--format", "json"],
            &["history"],
            &["calls"],
            &["status"],
            &["audit", "--format", "csv"],
            &["secret", "list", "a"],
            &["action", "list"],
            &["action", "show", "a", "--name", "ok"],
            &["action", "tests", "a"],
            &["pause", "list"],
            &["doctor"],
            &["check-invariants"],
        ] {
            seen.add_output(&url, role, arguments);
        }
    }
}

#[tokio::test]
async fn the_debug_text_of_no_value_that_holds_a_call_or_a_template_tells_it() {
    let template = json!({"method": "POST", "url": format!("https://h.example/{TYPED}"), "headers": {"authorization": TYPED},
                          "body": format!("{{\"who\": \"{TYPED} ${{customer.name}}\", \"t\": \"${{secret.TOKEN}}\"}}")});
    let text = template.to_string();
    let file = ActionFile::parse(&text).unwrap();
    let compiled = CompiledAction::compile(&file.spec).unwrap();
    let (call_text, secrets) = (call().to_string(), Secrets::Masked);
    let call_value = Call::new(&call_text).unwrap();
    let request = compiled.render_with(call_value, &secrets).unwrap();
    let mut seen = Seen::default();
    let mut add = |name: &str, value: &dyn std::fmt::Debug| seen.add(name, format!("{value:?} {value:#?}"));
    add("ActionText", &ActionText::from(&text));
    add("Draft", &Draft::read(&text));
    add("ActionFile", &file);
    add("ActionForm", &ActionForm::of(&file.spec, true));
    add("Examination", &look_at(&text, Storage::InClear));
    add("CompiledAction", &compiled);
    add("Call", &call_value);
    add("ChosenCall", &ChosenCall::Text(call_text.clone()));
    add("Request", &request);
    let database = Database::new().await;
    database.publish("a", "default", &template).await;
    database.insert_call("a", &call()).await;
    crate::support::endings::end_all(&database, "failed").await;
    let row = database.store.history(&HistoryFilter::default(), 1).await.unwrap().remove(0);
    let again = render_again(&database.store, &row).await;
    assert!(matches!(again, postcall::service::past_request::PastRequest::Rendered { .. }), "{again:?}");
    add("PastRequest", &again);
    assert_eq!(seen.with(&[&OF_CALLS[..], &[TYPED]].concat()), Vec::<String>::new());
}
