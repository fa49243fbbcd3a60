//! The console and those who mean harm, are slow or come too often; and a database that goes away.

use std::time::Duration;

use nix::sys::signal::Signal;
use postcall::console::PATIENCE;
use postcall::domain::action::{ActionSpec, Method};
use postcall::domain::chain::chain;
use postcall::store::Store;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::console::{Console, Response};
use crate::support::database::Database;
use crate::support::process::{POSTCALL, postcall_on, stderr};
use crate::support::proxy::{End, Proxy};

/// The headers that every answer has.
const HEADERS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// What a browser may do with every answer.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A policy without what a page may do besides: run the scripts that have its nonce, and ask the console for more.
fn without_scripts(policy: &str, response: &Response) -> String {
    let Some((_, rest)) = policy.split_once("script-src 'nonce-") else { return policy.to_owned() };
    let nonce = rest.split('\'').next().unwrap();
    assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{policy}");
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"), "only pages run scripts");
    for script in response.body.split("<script").skip(1) {
        assert!(
            script.starts_with(" src=\"/") && script.contains(&format!("nonce=\"{nonce}\" defer></script>")),
            "{script}"
        );
    }
    policy.replace(&format!("script-src 'nonce-{nonce}'; "), "").replace("connect-src 'self'; ", "")
}

/// An answer with a status and the headers of every answer.
fn is_guarded(response: &Response, status: u16, what: &str) {
    assert_eq!(response.status, status, "{what}: {}", response.words());
    for (name, value) in HEADERS {
        assert_eq!(response.header(name), Some(value), "{what}: {name}");
    }
    let policy = response.header("content-security-policy").unwrap_or_default();
    assert_eq!(without_scripts(policy, response), POLICY, "{what}");
    let cache = response.header("cache-control");
    assert!(cache == Some("no-store") || what.starts_with("/style-") || what.ends_with(".js"), "{what}: {cache:?}");
    assert!(response.header("server").is_none() && response.header("set-cookie").is_none(), "{what}");
}

async fn console() -> (Database, Console) {
    let database = Database::new().await;
    database.publish("a", "default", &json!({"method": "POST", "url": "https://receiver.example/"})).await;
    let console = Console::start(&database.url).await;
    (database, console)
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_others_out_whatever_was_asked() {
    let (_database, console) = console().await;
    let home = console.page("/").await;
    let style = home.body.split("href=\"").find(|rest| rest.starts_with("/style-")).unwrap().split('"').next().unwrap();
    let long = format!("/{}", "x".repeat(5_000));
    for (path, status) in [
        ("/", 200),
        ("/deliveries", 200),
        ("/deliveries?agent=a&state=failed", 200),
        ("/agents", 200),
        ("/agents/a", 200),
        ("/health", 200),
        ("/icon.svg", 200),
        ("/favicon.ico", 200),
        (style, 200),
        ("/deliveries?q=0192f0c1-0000-7000-8000-000000000001", 200),
        ("/deliveries/0192f0c1-0000-7000-8000-000000000001", 404),
        ("/deliveries/..%2f", 404),
        ("/deliveries/../../etc/passwd", 404),
        ("/deliveries/%00", 404),
        ("/agents/%00", 404),
        ("/agents/%ff%fe", 404),
        ("/agents/..%2f..%2fetc%2fpasswd", 404),
        ("/.git/config", 404),
        ("//evil.example/", 404),
        ("/style.css", 404),
        ("/deliveries?agent=%00", 400),
        ("/deliveries?unheard=of", 400),
        ("/?unheard=of", 400),
        ("/agents?after=a&before=b", 400),
        (long.as_str(), 414),
    ] {
        is_guarded(&console.get(path).await, status, path);
        let head = console.ask("HEAD", path, &[("host", &console.address().to_string())]).await;
        is_guarded(&head, status, path);
        assert_eq!(head.body, "", "{path}");
    }
    let style = console.get(style).await;
    assert_eq!(style.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(style.header("content-type"), Some("text/css; charset=utf-8"));
}

#[tokio::test]
async fn a_page_runs_only_the_console_s_own_scripts_and_each_page_by_a_nonce_of_its_own() {
    let (_database, console) = console().await;
    let (first, second) = (console.page("/").await, console.page("/").await);
    assert_ne!(first.header("content-security-policy"), second.header("content-security-policy"));
    let scripts: Vec<&str> =
        first.body.split("<script src=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(scripts.len(), 2, "{scripts:?}");
    let agents = console.page("/agents").await;
    assert_eq!(agents.body.matches("<script").count(), 1);
    assert!(!agents.header("content-security-policy").unwrap().contains("connect-src"));
    for script in scripts {
        let plain = console.page(script).await;
        is_guarded(&plain, 200, script);
        assert_eq!(plain.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
        let host = console.address().to_string();
        let packed = console.ask("HEAD", script, &[("host", &host), ("accept-encoding", "br, gzip")]).await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(packed.header("cache-control"), Some("public, max-age=31536000, immutable"));
        let lengths = [&plain, &packed].map(|one| one.header("content-length").unwrap().parse::<usize>().unwrap());
        assert!(lengths[1] * 2 < lengths[0], "{lengths:?}");
    }
}

#[tokio::test]
async fn only_reading_is_answered() {
    let (_database, console) = console().await;
    let host = console.address().to_string();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"] {
        for path in ["/", "/deliveries", "/health", "/nothing"] {
            let response = console.ask(method, path, &[("host", &host)]).await;
            is_guarded(&response, 405, method);
            assert_eq!(response.header("allow"), Some("GET, HEAD"));
        }
    }
}

#[tokio::test]
async fn not_even_the_owner_s_session_of_the_console_can_change_anything() {
    let database = Database::new().await;
    let store = Store::connect_to_read(&database.url, 1, PATIENCE).await.unwrap();
    let spec = ActionSpec {
        method: Method::Get,
        url: "https://x.example/".to_owned(),
        timeout_ms: 1_000,
        headers: None,
        body: None,
        client_certificate: None,
    };
    let refused = store.publish_action("a", "default", &spec, true, "me").await.unwrap_err();
    assert!(chain(&refused).to_string().contains("read-only transaction"), "{refused:?}");
}

#[tokio::test]
async fn a_name_that_is_not_this_machine_s_is_not_answered_even_if_it_leads_here() {
    let (_database, console) = console().await;
    let port = console.address().port();
    for host in [
        format!("evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.:{port}"),
        "localhost".to_owned(),
        "127.0.0.1:1".to_owned(),
        format!("10.0.0.1:{port}"),
        format!("x@127.0.0.1:{port}"),
    ] {
        for path in ["/", "/health", "/icon.svg"] {
            is_guarded(&console.ask("GET", path, &[("host", &host)]).await, 421, &host);
        }
    }
    is_guarded(&console.ask("GET", "/", &[]).await, 421, "no host");
    let own = format!("127.0.0.1:{port}");
    is_guarded(&console.ask("GET", "/", &[("host", &own), ("host", "evil.example")]).await, 421, "two hosts");
    let absolute = console.ask("GET", &format!("http://evil.example:{port}/"), &[("host", &own)]).await;
    is_guarded(&absolute, 421, "an address with another host");
    for host in [format!("localhost:{port}"), format!("[::1]:{port}"), format!("127.9.9.9:{port}")] {
        is_guarded(&console.ask("GET", "/", &[("host", &host)]).await, 200, &host);
    }
}

#[tokio::test]
async fn a_part_of_somebody_else_s_page_is_not_served_and_a_link_is_followed() {
    let (_database, console) = console().await;
    let host = console.address().to_string();
    let asked = async |site, mode, dest| {
        let headers =
            [("host", host.as_str()), ("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
        console.ask("GET", "/icon.svg", &headers).await
    };
    for site in ["cross-site", "same-site"] {
        is_guarded(&asked(site, "navigate", "document").await, 200, "a link");
        for (mode, dest) in [("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe"), ("no-cors", "script")] {
            is_guarded(&asked(site, mode, dest).await, 403, dest);
        }
    }
    is_guarded(&asked("same-origin", "no-cors", "style").await, 200, "its own style sheet");
}

#[tokio::test]
async fn what_is_no_request_ends_its_connection_and_nothing_else() {
    let (_database, console) = console().await;
    for request in ["\u{0}\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /\u{0} HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(console.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
        assert!(answer.split_once("\r\n\r\n").is_none_or(|(_, body)| body.is_empty()), "{answer}");
    }
    let headers = "x-a: b\r\n".repeat(100);
    let many = console.send(&format!("GET / HTTP/1.1\r\n{headers}\r\n")).await;
    assert_eq!(many.status, 431);
    console.page("/").await;
}

#[tokio::test]
async fn whoever_is_slow_keeps_nobody_waiting_and_loses_the_connection() {
    let (_database, console) = console().await;
    let mut slow = Vec::new();
    for number in 0..60 {
        let mut stream = TcpStream::connect(console.address()).await.unwrap();
        // Some say nothing, some begin, and some never read what they asked for.
        let said = ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\nx-a:"][number % 3];
        stream.write_all(said.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    console.page("/").await;
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{}", String::from_utf8_lossy(&rest));
    }
    console.page("/").await;
}

#[tokio::test]
async fn whoever_holds_all_connections_and_says_nothing_loses_one_to_who_asks_for_something() {
    let (_database, console) = console().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(console.address()).await.unwrap();
        // A form that never ends: of all that is sent too slowly, it has the most time.
        let form = format!(
            "POST /change/pause HTTP/1.1\r\nhost: {}\r\nsec-fetch-site: same-origin\r\ncontent-length: 100\r\n\
             content-type: application/x-www-form-urlencoded\r\n\r\na",
            console.address()
        );
        stream.write_all(form.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    console.page("/").await;
    // The last ones have their connections still: nobody waited for the end of their time.
    let alive = silent.into_iter().map(|stream| {
        let nothing = std::io::Read::read(&mut stream.into_std().unwrap(), &mut [0]);
        matches!(nothing, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    });
    let alive = alive.filter(|is_alive| *is_alive).count();
    assert!(alive >= 60, "{alive}");
}

#[tokio::test]
async fn a_database_that_goes_away_is_said_to_be_away_and_the_console_goes_on_when_it_is_back() {
    let database = Database::new().await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let console = Console::start(&proxy.url_of(&database.url)).await;
    console.page("/").await;
    assert_eq!(console.page("/health").await.body, "the database answers\n");
    let server = database.url.split(['/', '@']).nth(3).unwrap();
    proxy.switch_to("127.0.0.1:1");
    proxy.cut_all(End::Reset);
    for path in ["/", "/deliveries", "/agents/a"] {
        let away = console.get(path).await;
        is_guarded(&away, 503, path);
        assert!(away.words().contains("The database does not answer"), "{}", away.words());
        assert!(away.words().contains("need not be restarted") && away.header("retry-after") == Some("5"));
    }
    is_guarded(&console.get("/health").await, 503, "/health");
    is_guarded(&console.get("/icon.svg").await, 200, "/icon.svg");
    proxy.switch_to(server);
    console.page("/").await;
    console.page("/health").await;
}

#[tokio::test]
async fn a_database_that_is_silent_makes_a_page_say_so_and_health_too() {
    let database = Database::new().await;
    let proxy = Proxy::to_server_of(&database.url).await;
    let console = Console::start(&proxy.url_of(&database.url)).await;
    proxy.hold_back(true);
    let (page, health) = tokio::join!(console.get("/"), console.get("/health"));
    is_guarded(&page, 503, "/");
    is_guarded(&health, 503, "/health");
    proxy.hold_back(false);
    console.page("/").await;
}

#[tokio::test]
async fn pages_that_wait_for_the_database_leave_others_in_time_and_say_that_it_is_too_slow_or_busy() {
    let database = Database::new().await;
    let console = Console::start(&database.url).await;
    // A lock that nobody takes in practice: every page that reads history waits for it.
    let mut lock = database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE postcall.delivery IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let ask = || console.get("/deliveries/0192f0c1-0000-7000-8000-000000000001");
    let (first, second, third, fourth, fifth) = tokio::join!(ask(), ask(), ask(), ask(), ask());
    let mut said: Vec<String> = Vec::new();
    for response in [first, second, third, fourth, fifth] {
        is_guarded(&response, 503, "a delivery");
        said.push(response.words());
    }
    let slow =
        said.iter().filter(|words| words.contains("did not finish within 5 seconds") && words.contains("Narrow"));
    assert!(slow.count() >= 4, "{said:#?}");
    // The part that cannot be read says so, and the rest is there; health has a session of its own.
    let (home, health) = tokio::join!(console.get("/"), console.get("/health"));
    assert_eq!((home.status, health.status), (200, 200), "{}", home.words());
    let words = home.words();
    assert!(
        words.contains("did not finish this part within 5 seconds") && words.contains("There are partitions"),
        "{words}"
    );
    lock.rollback().await.unwrap();
    assert_eq!(ask().await.status, 404);
}

#[tokio::test]
async fn it_ends_in_order_by_the_signals_of_a_dispatcher() {
    let database = Database::new().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let console = Console::start(&database.url).await;
        // A connection that is open keeps nothing from ending.
        let _idle = TcpStream::connect(console.address()).await.unwrap();
        console.page("/health").await;
        assert!(console.ended_by(signal).await, "{signal}");
    }
}

#[tokio::test]
async fn only_this_machine_is_listened_to_and_a_wrong_address_or_an_old_schema_is_said() {
    let database = Database::new().await;
    for (address, said) in [
        ("0.0.0.0:0", "not a loopback address: nobody can log in"),
        ("[::]:0", "not a loopback address"),
        ("10.0.0.1:8088", "ssh -L 8088:127.0.0.1:8088"),
        ("8088", "expected an IP address with a port"),
    ] {
        let mut command = tokio::process::Command::new(POSTCALL);
        command.args(["console", "--listen", address]).env("DATABASE_URL", &database.url).kill_on_drop(true);
        // If it listened, it would not end.
        let ended = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        let output = ended.unwrap_or_else(|_| panic!("it listens on {address}")).unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}");
        assert!(stderr(&output).contains(said), "{address}: {}", stderr(&output));
    }
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let output = postcall_on(&database, &["console", "--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot listen for browsers"), "{}", stderr(&output));
    let empty = Database::empty().await;
    let output = postcall_on(&empty, &["console", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("postcall migrate"), "{}", stderr(&output));
}
