//! The operator's proxy: every request goes through it to the address that was judged, what it does itself is told from what the
//! host does, and while it is away deliveries wait.

use std::future::pending;
use std::time::Duration;

use base64::Engine;
use postcall::domain::delivery::{BodyEnd, Ending, Failure, UnknownReason};
use postcall::domain::host::Origin;
use postcall::domain::request::Request;
use postcall::webhook::{Attempt, NameSources, SendGate, TargetRules, Webhook, WebhookSettings};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::Command;
use uuid::Uuid;

use crate::seal_outlet::private;
use crate::support::attempt::{
    AMPLE_MS, OK, SHORT_MS, assert_answered, assert_failed, assert_one_request, assert_unknown, post,
};
use crate::support::database::Database;
use crate::support::egress::{ClosedPort, EgressProxy, Manner};
use crate::support::inbox::Inbox;
use crate::support::name_server::NameFiles;
use crate::support::process::{Dispatcher, POSTCALL, THIS_MACHINE, postcall_at, stderr, stdout};
use crate::support::receiver::Receiver;
use crate::support::tls::{Authority, acceptor};

fn settings(proxy: &str) -> WebhookSettings {
    let allow_targets = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().unwrap()).to_vec();
    let targets = TargetRules { allow_http: true, allow_targets, ..TargetRules::default() };
    WebhookSettings { targets, egress_proxy: Some(proxy.parse().unwrap()), ..WebhookSettings::default() }
}

async fn send(webhook: &Webhook, request: &Request) -> Attempt {
    webhook.send(request, Uuid::now_v7(), &SendGate::open(), pending()).await
}

/// The ending through this proxy, of a client that holds what it cannot reach, or of one that does not.
async fn ending(proxy: &str, request: &Request, hold_unreachable: bool) -> Attempt {
    send(&Webhook::new(WebhookSettings { hold_unreachable, ..settings(proxy) }).unwrap(), request).await
}

#[tokio::test]
async fn plain_http_goes_through_the_proxy_to_the_judged_address_and_the_tunnel_is_kept() {
    let (proxy, receiver) = (EgressProxy::start(Manner::Forward), Receiver::answering(OK).await);
    let files = NameFiles::at(9, "");
    files.write_hosts("127.0.0.2 two.test\n127.0.0.1 two.test\n");
    let [resolv_conf, hosts] = files.paths();
    let names = Some(NameSources { resolv_conf, hosts, name_server_port: 9 });
    let webhook = Webhook::new(WebhookSettings { names, ..settings(&proxy.url()) }).unwrap();
    let port = receiver.address().port();
    for _ in 0..3 {
        let attempt = send(&webhook, &post(&format!("http://two.test:{port}/hook"), AMPLE_MS)).await;
        assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
    }
    // The name has two addresses, and nobody listens at the first one.
    assert_eq!(proxy.targets(), [format!("127.0.0.2:{port}"), format!("127.0.0.1:{port}")]);
    for head in proxy.heads() {
        assert!(!head.contains("two.test") && !head.contains("hook") && !head.contains("authorization"), "{head}");
    }
    let texts = receiver.texts();
    assert_eq!((texts.len(), texts[0].matches("POST /hook HTTP/1.1").count()), (1, 3), "{texts:?}");
    assert!(texts[0].contains(&format!("\r\nhost: two.test:{port}\r\n")));
}

#[tokio::test]
async fn https_goes_through_the_proxy_end_to_end_with_the_hosts_name() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["localhost"], |_| {});
    let tls = acceptor(certificate, key);
    let receiver = Receiver::start(move |peer| {
        let tls = tls.clone();
        async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = tls.accept(peer.into_stream()).await.unwrap();
            assert_eq!(stream.get_ref().1.server_name(), Some("localhost"));
            while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let proxy = EgressProxy::start(Manner::Forward);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, authority.pem()).unwrap();
    let ca_file = Some(file.path().to_owned());
    let webhook = Webhook::new(WebhookSettings { ca_file, ..settings(&proxy.url()) }).unwrap();
    let url = format!("https://localhost:{}/", receiver.address().port());
    assert_answered(&send(&webhook, &post(&url, AMPLE_MS)).await, 200, b"ok", BodyEnd::Complete);
    assert!(proxy.targets().contains(&receiver.address().to_string()));
    // Without the authority, it is the host that is not trusted, and not the proxy.
    let detail = assert_failed(&ending(&proxy.url(), &post(&url, AMPLE_MS), true).await, Failure::Tls);
    assert!(detail.contains("its issuer is not trusted here"), "{detail}");
}

#[tokio::test]
async fn what_the_guard_refuses_is_never_asked_of_the_proxy() {
    let proxy = EgressProxy::start(Manner::Forward);
    let targets = TargetRules { allow_http: true, ..TargetRules::default() };
    let webhook = Webhook::new(WebhookSettings { targets, ..settings(&proxy.url()) }).unwrap();
    for url in ["http://127.0.0.1:8080/", "http://localhost:8080/", "http://169.254.169.254/", "http://[::1]:8080/"] {
        assert_failed(&send(&webhook, &post(url, AMPLE_MS)).await, Failure::Blocked);
    }
    assert!(proxy.heads().is_empty());
}

#[tokio::test]
async fn what_the_proxy_does_itself_is_said_so_and_nothing_reaches_the_host() {
    let receiver = Receiver::answering(OK).await;
    let request = post(&receiver.url("/"), AMPLE_MS);
    let without_end =
        Manner::Repeat(b"x-filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n");
    for (manner, of_the_proxy, words) in [
        (Manner::Demand("Basic x"), true, "the egress proxy refuses postcall's credentials (407)"),
        (Manner::Answer(b"SSH-2.0-server\r\n"), true, "what the egress proxy answered is not HTTP"),
        (Manner::Answer(b"\x15\x03\x03\x00\x02\x02\x46"), true, "what the egress proxy answered is not HTTP"),
        (without_end, true, "what the egress proxy answered is not HTTP"),
        (Manner::Repeat(b"HTTP/1.1 200 OK\r\n"), true, "the head of the egress proxy's answer is too long"),
        (Manner::Repeat(b"HTTP/1.1 100 Wait\r\n\r\n"), true, "the head of the egress proxy's answer is too long"),
        (Manner::Answer(b"HTTP/1.1 403 No\r\n\r\n"), false, "the egress proxy refused to connect to the host (403)"),
        (Manner::Answer(b"HTTP/1.1 302 No\r\n\r\n"), false, "the egress proxy refused to connect to the host (302)"),
        (Manner::Answer(b"HTTP/1.1 502 No\r\n\r\n"), false, "the egress proxy could not reach the host (502)"),
        (Manner::Answer(b"HTTP/1.1 504 No\r\n\r\n"), false, "the egress proxy could not reach the host (504)"),
        (Manner::Reset, false, "the egress proxy ended the connection before it had answered: connection reset"),
        (Manner::Answer(b"HTTP/1.1 200 OK\r\n\r\n220 mail\r\n"), false, "the host, or the egress proxy, spoke first"),
    ] {
        let proxy = EgressProxy::start(manner);
        let failed = ending(&proxy.url(), &request, false).await;
        let detail = assert_failed(&failed, Failure::Connect);
        assert!(detail.starts_with(words), "{manner:?}: {detail}");
        assert!(!failed.kept_by_proxy && proxy.repeated() < 8 << 20, "{manner:?}: {} bytes", proxy.repeated());
        let held = ending(&proxy.url(), &request, true).await;
        assert_eq!((held.ending == Ending::Unsent, held.kept_by_proxy), (of_the_proxy, of_the_proxy), "{manner:?}");
        assert_eq!(proxy.heads().len(), 2, "{manner:?}");
    }
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn a_proxy_that_hangs_ends_at_the_deadline_and_is_named() {
    let (proxy, receiver) = (EgressProxy::start(Manner::Hang), Receiver::answering(OK).await);
    let attempt = ending(&proxy.url(), &post(&receiver.url("/"), SHORT_MS), true).await;
    let detail = assert_failed(&attempt, Failure::Connect);
    assert!(detail.contains("egress proxy") && detail.contains("deadline"), "{detail}");
    assert!(receiver.received().is_empty());
}

/// The URL of a proxy that accepts no connection and refuses none.
async fn silent() -> (String, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
    }
    (format!("http://{address}"), (listener, queued))
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_holds_the_delivery_or_is_named() {
    let request = post("http://127.0.0.1:8080/", AMPLE_MS);
    let closed = ClosedPort::new();
    // Nobody accepts there, and there is no room for one more: what knocks hears nothing.
    let (silent, _queue) = silent().await;
    let detail =
        assert_failed(&ending(&silent, &post("http://127.0.0.1:8080/", SHORT_MS), false).await, Failure::Connect);
    assert_eq!(detail, "the deadline passed before the egress proxy was reached");
    assert!(ending(&silent, &post("http://127.0.0.1:8080/", SHORT_MS), true).await.kept_by_proxy);
    for (proxy, words) in [
        (closed.url(), "no TCP connection to the egress proxy: connection refused"),
        ("http://nobody.invalid:3128".to_owned(), "the name of the egress proxy was not resolved: "),
    ] {
        let detail = assert_failed(&ending(&proxy, &request, false).await, Failure::Connect);
        assert!(detail.starts_with(words), "{detail}");
        let held = ending(&proxy, &request, true).await;
        assert!(held.ending == Ending::Unsent && held.kept_by_proxy);
    }
}

#[tokio::test]
async fn after_the_tunnel_is_open_a_break_is_judged_as_without_a_proxy() {
    let (proxy, receiver) = (EgressProxy::start(Manner::ResetTunnel), Receiver::answering(OK).await);
    let attempt = ending(&proxy.url(), &post(&receiver.url("/"), AMPLE_MS), true).await;
    assert_unknown(&attempt, UnknownReason::Reset);
    let https = post(&format!("https://{}/", receiver.address()), AMPLE_MS);
    assert_failed(&ending(&proxy.url(), &https, true).await, Failure::Tls);
}

#[tokio::test]
async fn the_proxy_gets_the_credentials_and_the_host_does_not() {
    const SECRET: &str = "Basic bWU6czpjcmV0Lw==";
    assert_eq!(SECRET, format!("Basic {}", base64::prelude::BASE64_STANDARD.encode("me:s:cret/")));
    let (proxy, receiver) = (EgressProxy::start(Manner::Demand(SECRET)), Receiver::answering(OK).await);
    let settings = settings(&proxy.url_with("me:s%3Acret%2F"));
    let told = format!("{settings:?}");
    let webhook = Webhook::new(settings).unwrap();
    let attempt = send(&webhook, &post(&receiver.url("/"), AMPLE_MS)).await;
    assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
    assert_one_request(&receiver);
    assert!(!receiver.texts()[0].contains("proxy-authorization"));
    for told in [told, format!("{webhook:?}")] {
        assert!(!told.contains("cret") && !told.contains("bWU6"), "{told}");
    }
}

#[tokio::test]
async fn a_probe_goes_through_the_proxy_too() {
    let receiver = Receiver::start(|mut peer| async move { peer.hang().await }).await;
    let origin = postcall::domain::host::Origin::of_url(&receiver.url("/")).unwrap();
    let proxy = EgressProxy::start(Manner::Forward);
    let webhook = Webhook::new(settings(&proxy.url())).unwrap();
    assert_eq!(webhook.probe(&origin).await, Some(true));
    assert_eq!(proxy.targets(), [receiver.address().to_string()]);
    proxy.behave(Manner::Answer(b"HTTP/1.1 502 No\r\n\r\n"));
    assert_eq!(webhook.probe(&origin).await, Some(false));
}

/// Nothing fails, nothing is sent twice, and the log says it once.
#[tokio::test]
async fn while_the_proxy_is_away_deliveries_wait_and_when_it_is_back_each_is_sent_once() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    for agent in ["a", "b"] {
        database.publish(agent, "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
        for call in 0..100 {
            database.insert_call(agent, &json!({"callInfo": {"callSid": format!("{agent}{call}")}})).await;
        }
    }
    let port = ClosedPort::new();
    let proxy_url = port.url().replace("http://", "http://me:s3cret-of-the-proxy@");
    let mut dispatcher =
        Dispatcher::started(Dispatcher::command(&database.url).env("POSTCALL_EGRESS_PROXY", &proxy_url)).await;
    let mut log = dispatcher.lines_until("the egress proxy cannot be used").await;
    // A host that is held is reported as unreachable.
    database
        .until(
            "SELECT count(*) > 0 FROM postcall.dispatcher_report, jsonb_array_elements(hosts) AS host
             WHERE host->'condition'->>'state' = 'unreachable'",
        )
        .await;
    database.until("SELECT count(*) = 0 FROM postcall.sending").await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.waiting").await, 200);
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery").await, 0);
    let proxy = port.open(Manner::Forward);
    log.extend(dispatcher.lines_until("a host can be reached again").await);
    database.settled().await;
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery WHERE state = 'delivered'").await, 200);
    let by_message = inbox.counts_by("webhook-id");
    assert!(by_message.len() == 200 && by_message.values().all(|count| *count == 1), "{by_message:?}");
    assert!(!proxy.targets().is_empty());
    dispatcher.signal(nix::sys::signal::Signal::SIGTERM);
    log.extend(dispatcher.ended_saying().await.1);
    let log = log.join("\n");
    assert!(!log.contains("s3cret") && !log.contains("me:"), "{log}");
    assert_eq!(log.matches("the egress proxy cannot be used").count(), 1, "{log}");
    for (table, rows) in database.tables().await {
        assert!(!rows.contains("s3cret"), "{table}: {rows}");
    }
}

#[tokio::test]
async fn a_test_of_an_action_goes_through_the_proxy_and_says_what_it_did() {
    let (database, inbox) = (Database::new().await, Inbox::open().await);
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    let proxy = EgressProxy::start(Manner::Forward);
    let test = |url: String| {
        let mut command = Command::new(POSTCALL);
        command.env("DATABASE_URL", &database.url).env("POSTCALL_EGRESS_PROXY", url);
        command.args(["action", "test", "a", "--by", "Ada", "--reason", "does it work?"]).args(THIS_MACHINE);
        async move { command.output().await.unwrap() }
    };
    let output = test(proxy.url()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!((proxy.heads().len(), inbox.received().len()), (1, 1));
    proxy.behave(Manner::Demand("Basic x"));
    let output = test(proxy.url_with("me:s3cret")).await;
    let told = format!("{}{}", stdout(&output), stderr(&output));
    assert!(
        !output.status.success() && told.contains("the egress proxy refuses postcall's credentials (407)"),
        "{told}"
    );
    assert!(!told.contains("s3cret"), "{told}");
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_ends_the_start_and_its_password_is_not_repeated() {
    let database = Database::new().await;
    for proxy in
        ["https://me:s3cret@proxy:3128", "me:s3cret@proxy:3128", "http://me:s3cret@proxy:port", "http://a/s3cret"]
    {
        let output = postcall_at(&database.url, &["run", "--egress-proxy", proxy]);
        let told = format!("{}{}", stdout(&output), stderr(&output));
        assert!(!output.status.success() && told.contains("--egress-proxy") && !told.contains("s3cret"), "{told}");
    }
    let mut help = Command::new(POSTCALL);
    help.args(["run", "--help"]).env("POSTCALL_EGRESS_PROXY", "http://me:s3cret@p");
    let told = stdout(&help.output().await.unwrap());
    assert!(told.contains("POSTCALL_EGRESS_PROXY") && !told.contains("s3cret"), "{told}");
}

/// What the log of a dispatcher, its arguments and its help say while it sends through a proxy whose URL stands in a file.
#[tokio::test]
async fn a_file_names_the_proxy_and_its_password_is_in_no_argument_no_log_and_no_help() {
    let (database, inbox, directory) = (Database::new().await, Inbox::open().await, tempfile::tempdir().unwrap());
    database.publish("a", "default", &json!({"method": "POST", "url": inbox.url("/")})).await;
    database.insert_call("a", &json!({})).await;
    // me:s3cret
    let proxy = EgressProxy::start(Manner::Demand("Basic bWU6czNjcmV0"));
    let text = format!("# the proxy of this network\n\n  {}  \n", proxy.url_with("me:s3cret"));
    let file = private(&directory.path().join("proxy"), &text);
    for named_by_variable in [false, true] {
        let mut command = Dispatcher::command(&database.url);
        command.args(["--log", "trace"]);
        match named_by_variable {
            true => command.env("POSTCALL_EGRESS_PROXY_FILE", &file),
            // An unset variable in a compose file is empty.
            false => command.args(["--egress-proxy-file", &file]).env("POSTCALL_EGRESS_PROXY", ""),
        };
        let dispatcher = Dispatcher::started(&mut command).await;
        database.insert_call("a", &json!({})).await;
        database.settled().await;
        let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", dispatcher.pid())).unwrap();
        dispatcher.signal(nix::sys::signal::Signal::SIGTERM);
        let (well, log) = dispatcher.ended_saying().await;
        let told = format!("{arguments}{}", log.join("\n"));
        assert!(well && !told.contains("s3cret") && !told.contains("bWU6"), "{told}");
    }
    assert_eq!((inbox.received().len(), proxy.targets().is_empty()), (3, false));
    assert_eq!(database.number("SELECT count(*) FROM postcall.delivery WHERE state = 'delivered'").await, 3);
    let mut help = Command::new(POSTCALL);
    help.args(["run", "--help"]).env("POSTCALL_EGRESS_PROXY_FILE", "http://me:s3cret@p");
    let told = stdout(&help.output().await.unwrap());
    assert!(told.contains("POSTCALL_EGRESS_PROXY_FILE") && !told.contains("s3cret"), "{told}");
}

#[tokio::test]
async fn a_file_that_names_no_proxy_ends_the_start_and_nothing_of_it_is_repeated() {
    let (database, directory) = (Database::new().await, tempfile::tempdir().unwrap());
    let path = |name: &str| directory.path().join(name);
    let url = "http://me:s3cret@proxy:3128";
    let good = private(&path("good"), url);
    let open = private(&path("open"), url);
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let [empty, comment, two, none, large] = [
        ("empty", "\n".to_owned()),
        ("comment", format!("# {url}\n")),
        ("two", format!("{url}\n{url}\n")),
        ("none", "https://me:s3cret@proxy:3128\n".to_owned()),
        ("large", "s3cret".repeat(10_000)),
    ]
    .map(|(name, text)| private(&path(name), &text));
    let missing = path("missing").to_str().unwrap().to_owned();
    let wrong = |output: std::process::Output, code: i32, words: &str| {
        let told = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(
            (output.status.code(), told.contains(words), told.contains("s3cret")),
            (Some(code), true, false),
            "{words}: {told}"
        );
    };
    for (file, words) in [
        (open.as_str(), "others may read the file with the URL of the proxy"),
        (&missing, "missing: No such file"),
        (&empty, "--egress-proxy-file"),
        (&empty, "the file holds no URL"),
        (&comment, "the file holds no URL"),
        (&two, "the file holds more than one line"),
        (&none, "none: it does not begin with http://"),
        (&large, "the file is larger than 16384 bytes"),
        (url, "give the name of a file in which the URL stands"),
        ("me:s3cret@proxy:3128", "give the name of a file in which the URL stands"),
    ] {
        wrong(postcall_at(&database.url, &["run", "--egress-proxy-file", file]), 1, words);
    }
    let both = "give one of --egress-proxy and --egress-proxy-file";
    wrong(postcall_at(&database.url, &["run", "--egress-proxy-file", &good, "--egress-proxy", url]), 2, both);
    let mut variable = Command::new(POSTCALL);
    variable.args(["run", "--egress-proxy-file", &good]);
    variable.env("DATABASE_URL", &database.url).env("POSTCALL_EGRESS_PROXY", url);
    wrong(variable.output().await.unwrap(), 2, both);
    // Of one setting, the argument wins.
    let mut twice = Command::new(POSTCALL);
    twice.args(["run", "--egress-proxy-file", &empty]);
    twice.env("DATABASE_URL", &database.url).env("POSTCALL_EGRESS_PROXY_FILE", &good);
    wrong(twice.output().await.unwrap(), 1, "the file holds no URL");
}

#[tokio::test]
async fn a_probe_connects_to_no_port_and_no_name_that_a_request_may_not_have() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let allowed = || TargetRules {
        allow_http: true,
        allow_targets: vec!["127.0.0.0/8".parse().unwrap()],
        ..TargetRules::default()
    };
    let client = |targets| Webhook::new(WebhookSettings { targets, ..WebhookSettings::default() }).unwrap();
    let other_port = client(TargetRules { only_ports: vec!["443".parse().unwrap()], ..allowed() });
    let denied = client(TargetRules { deny_targets: vec!["localhost".parse().unwrap()], ..allowed() });
    for (webhook, host) in [(&other_port, "127.0.0.1"), (&denied, "localhost")] {
        let origin = Origin::of_url(&format!("http://{host}:{port}/")).unwrap();
        // Its deliveries are attempted, and end as blocked.
        assert_eq!(webhook.probe(&origin).await, Some(true), "{host}");
        assert!(listener.accept().is_err(), "{host}: it connected");
    }
    assert_eq!(
        client(allowed()).probe(&Origin::of_url(&format!("http://127.0.0.1:{port}/")).unwrap()).await,
        Some(true)
    );
    assert!(listener.accept().is_ok());
}
