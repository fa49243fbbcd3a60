//! Certificates that an action shows to its receiver, as a part of TLS.

use std::future::pending;
use std::sync::{Arc, Mutex};

use postcall::domain::client_certificate::ClientCertificate;
use postcall::domain::delivery::{BodyEnd, Failure};
use postcall::domain::host::Origin;
use postcall::domain::request::Request;
use postcall::webhook::{Attempt, SendGate, TargetRules, Webhook, WebhookSettings};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use crate::support::attempt::{AMPLE_MS, OK, assert_answered, assert_failed, post};
use crate::support::database::Database;
use crate::support::keys::{key_file, new_key, secret, set};
use crate::support::process::{Dispatcher, postcall_on, stderr, stdout};
use crate::support::receiver::Receiver;
use crate::support::tls::{Authority, acceptor_with, client_pem, server_config};

/// The certificate that was shown on each connection, and the requests that came on it.
type Seen = Arc<Mutex<Vec<(Vec<u8>, usize)>>>;

/// A receiver that only speaks with clients of its authority, and counts the requests of each connection with the client's
/// certificate.
struct Strict {
    authority: Authority,
    receiver: Receiver,
    seen: Seen,
}

impl Strict {
    async fn speaking(version: &'static rustls::SupportedProtocolVersion) -> Strict {
        let authority = Authority::new();
        let (certificate, key) = authority.issue(&["localhost"], |_| {});
        let acceptor = acceptor_with(server_config(&[version], Some(&authority), certificate, key));
        let seen = Seen::default();
        let log = seen.clone();
        let receiver = Receiver::start(move |peer| {
            let (acceptor, log) = (acceptor.clone(), log.clone());
            async move {
                let Ok(mut stream) = acceptor.accept(peer.into_stream()).await else { return };
                let client = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                let connection = {
                    let mut log = log.lock().unwrap();
                    log.push((client, 0));
                    log.len() - 1
                };
                while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {
                    log.lock().unwrap()[connection].1 += 1;
                    stream.write_all(OK).await.unwrap();
                }
            }
        })
        .await;
        Strict { authority, receiver, seen }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/", self.receiver.address().port())
    }

    /// How many requests came on each connection.
    fn requests(&self) -> Vec<usize> {
        self.seen.lock().unwrap().iter().map(|(_, count)| *count).collect()
    }

    fn webhook(&self) -> (Webhook, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, self.authority.pem()).unwrap();
        let targets = TargetRules { allow_targets: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRules::default() };
        let ca_file = Some(file.path().to_owned());
        (Webhook::new(WebhookSettings { targets, ca_file, ..WebhookSettings::default() }).unwrap(), file)
    }

    fn request(&self, pem: &str) -> Request {
        let client_certificate = Some(ClientCertificate::new("crm-tls", pem.into()));
        Request { client_certificate, ..post(&self.url(), AMPLE_MS) }
    }
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

async fn send(webhook: &Webhook, request: &Request) -> Attempt {
    webhook.send(request, Uuid::now_v7(), &SendGate::open(), pending()).await
}

#[tokio::test]
async fn a_certificate_is_shown_and_its_connection_serves_no_request_of_another() {
    for version in VERSIONS {
        let receiver = Strict::speaking(version).await;
        let (webhook, _file) = receiver.webhook();
        let [mine, other] = [(); 2].map(|()| client_pem(&receiver.authority));
        for pem in [&mine, &mine, &other, &mine] {
            let attempt = send(&webhook, &receiver.request(pem)).await;
            assert_answered(&attempt, 200, b"ok", BodyEnd::Complete);
        }
        assert_eq!(receiver.requests(), [3, 1], "{version:?}");
        let clients: Vec<Vec<u8>> = receiver.seen.lock().unwrap().iter().map(|(client, _)| client.clone()).collect();
        assert_ne!(clients[0], clients[1]);
        // Nor one that shows none: no connection, and no session of TLS, is another's.
        let without = send(&webhook, &post(&receiver.url(), AMPLE_MS)).await;
        assert!(without.timing.head.is_none(), "{:?}", without.ending);
        assert_eq!(receiver.requests(), [3, 1], "{version:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_fails_before_any_connection_and_is_not_repeated() {
    let receiver = Strict::speaking(&rustls::version::TLS13).await;
    let (webhook, _file) = receiver.webhook();
    let [mine, other] = [(); 2].map(|()| client_pem(&receiver.authority));
    let begin = "-----BEGIN PRIVATE KEY-----";
    let (certificate, _) = mine.split_at(mine.find(begin).unwrap());
    let (_, key) = other.split_at(other.find(begin).unwrap());
    for (pem, why) in [
        ("s3cret".to_owned(), "it has no certificate in PEM"),
        (key.to_owned(), "it has no certificate in PEM"),
        (certificate.to_owned(), "it has no unencrypted private key in PEM"),
        (format!("{certificate}{key}"), "the key is not that of its first certificate"),
    ] {
        let detail = assert_failed(&send(&webhook, &receiver.request(&pem)).await, Failure::Render);
        assert_eq!(detail, format!("the client certificate (secret `crm-tls`) cannot be used: {why}"));
    }
    assert!(receiver.receiver.received().is_empty());
    assert!(!format!("{:?}", receiver.request(&mine)).contains("BEGIN"));
}

#[tokio::test]
async fn a_host_that_wants_a_certificate_is_reached_by_a_probe_that_shows_none() {
    let receiver = Strict::speaking(&rustls::version::TLS12).await;
    let (webhook, _file) = receiver.webhook();
    let origin = Origin::of_url(&receiver.url()).unwrap();
    assert_eq!(webhook.probe(&origin).await, Some(false), "nothing is known of a certificate");
    let refused = send(&webhook, &receiver.request(&client_pem(&Authority::new()))).await;
    let detail = assert_failed(&refused, Failure::Tls);
    assert!(refused.certificate_failed && detail.contains("does not accept the client's certificate"), "{detail}");
    assert_eq!(webhook.probe(&origin).await, Some(true));
}

/// A dispatcher that trusts this receiver.
async fn dispatcher(database: &Database, keys: &tempfile::NamedTempFile, receiver: &Strict) -> Dispatcher {
    let file = crate::support::process::file(&receiver.authority.pem());
    let arguments = ["--key-file", keys.path().to_str().unwrap(), "--ca-file", file.path().to_str().unwrap()];
    Dispatcher::start(database, &arguments).await
}

#[tokio::test]
async fn a_certificate_from_the_agents_secrets_is_shown_and_a_wrong_one_holds_up_nobody_else() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let receiver = Strict::speaking(&rustls::version::TLS12).await;
    set(&database, &keys, "well", "crm-tls", &client_pem(&receiver.authority));
    set(&database, &keys, "wrong", "crm-tls", &client_pem(&Authority::new()));
    for agent in ["well", "wrong"] {
        let action = json!({"method": "POST", "url": receiver.url(), "client_certificate": "crm-tls"});
        database.publish(agent, "default", &action).await;
    }
    for _ in 0..20 {
        database.insert_call("wrong", &json!({})).await;
    }
    let dispatcher = dispatcher(&database, &keys, &receiver).await;
    database.settled().await;
    let failed =
        "SELECT count(*) FROM postcall.delivery WHERE agent = 'wrong' AND state = 'failed' AND error_kind = 'tls'";
    assert_eq!(database.number(failed).await, 20);
    for _ in 0..20 {
        database.insert_call("well", &json!({})).await;
    }
    database.settled().await;
    let delivered = "SELECT count(*) FROM postcall.delivery WHERE agent = 'well' AND state = 'delivered'";
    assert_eq!(database.number(delivered).await, 20);
    dispatcher.signal(nix::sys::signal::Signal::SIGTERM);
    let (_, log) = dispatcher.ended_saying().await;
    let log = log.join("\n");
    assert!(!log.contains("a host can be reached again"), "the host was held:\n{log}");
}

#[tokio::test]
async fn a_certificate_may_be_longer_than_other_secrets_and_no_template_takes_a_long_one() {
    let (database, keys) = (Database::new().await, key_file(&[&new_key()]));
    let receiver = Strict::speaking(&rustls::version::TLS13).await;
    let short = client_pem(&receiver.authority);
    // What is between the blocks of PEM is passed over.
    let padded = |bytes: usize| format!("{short}{}", "#".repeat(bytes - short.len()));
    set(&database, &keys, "a", "crm-tls", &padded(16_384));
    let refused = secret(&database.url, &keys, &["set", "a", "other", "--by", "Ada"], &padded(16_385));
    assert!(!refused.status.success() && stderr(&refused).contains("more than 16384 bytes"), "{}", stderr(&refused));
    let (url, certificate) = (receiver.url(), "crm-tls");
    let action = json!({"method": "POST", "url": url, "client_certificate": certificate});
    database.publish("a", "shown", &action).await;
    let action =
        json!({"method": "POST", "url": url, "body": "\"${secret.crm-tls}\"", "client_certificate": certificate});
    database.publish("a", "text", &action).await;
    database.insert_call("a", &json!({})).await;
    let _dispatcher = dispatcher(&database, &keys, &receiver).await;
    database.settled().await;
    let ended = "SELECT string_agg(concat_ws(' ', name, state, error_kind, error_detail), '; ' ORDER BY name)
                 FROM postcall.delivery JOIN postcall.action USING (action_id)";
    let ended = database.text(ended).await.unwrap();
    assert!(
        ended.starts_with("shown delivered; text failed render") && ended.contains("more than 4096 bytes"),
        "{ended}"
    );
}

#[tokio::test]
async fn a_version_names_its_certificate_and_the_digest_of_what_names_none_stays() {
    let database = Database::new().await;
    let digest = "SELECT string_agg(encode(postcall.version_digest(action_id, version), 'hex'), ' ' ORDER BY version)
                  FROM postcall.action_version";
    let action = json!({"method": "POST", "url": "https://a.test/"});
    database.publish("a", "default", &action).await;
    let before = database.text(digest).await.unwrap();
    // As it was sealed before there were certificates: the URL with its length, and -1 for what is null.
    let parts =
        [&15_i32.to_be_bytes()[..], b"https://a.test/", &(-1_i32).to_be_bytes(), &(-1_i32).to_be_bytes()].concat();
    assert_eq!(before, hex::encode(<sha2::Sha256 as sha2::Digest>::digest(parts)));
    let mut certified = action.clone();
    certified["client_certificate"] = json!("crm-tls");
    database.publish("a", "default", &certified).await;
    let digests = database.text(digest).await.unwrap();
    assert!(digests.starts_with(&before) && digests.split(' ').nth(1).unwrap() != before, "{digests}");
    let shown = stdout(&postcall_on(&database, &["action", "show", "a"]));
    assert!(shown.contains("\"client_certificate\": \"crm-tls\""), "{shown}");
    let told = stdout(&postcall_on(&database, &["action", "diff", "a"]));
    assert!(told.contains("+client_certificate: crm-tls"), "{told}");
    let versions = stdout(&postcall_on(&database, &["action", "versions", "a"]));
    assert!(versions.contains("client_certificate"), "{versions}");
}

#[tokio::test]
async fn a_certificate_needs_tls_and_an_earlier_dispatcher_would_show_none() {
    let database = Database::new().await;
    let file = |url: &str| {
        let action = json!({"method": "POST", "url": url, "client_certificate": "crm-tls"});
        crate::support::process::file(&action.to_string())
    };
    let keys = key_file(&[&new_key()]);
    let key = keys.path().to_str().unwrap();
    let publish = |file: &tempfile::NamedTempFile| {
        let file = file.path().to_str().unwrap();
        postcall_on(&database, &["action", "publish", "a", file, "--by", "Ada", "--key-file", key])
    };
    let refused = publish(&file("http://a.test/"));
    assert!(!refused.status.success() && stderr(&refused).contains("https://"), "{}", stderr(&refused));
    let mut session = database.session();
    let id = Database::register(&mut session).await;
    database.execute(&format!("UPDATE postcall.dispatcher SET knows_secrets = false WHERE dispatcher_id = {id}")).await;
    let refused = publish(&file("https://a.test/"));
    assert!(!refused.status.success() && stderr(&refused).contains("0.3.0 or earlier"), "{}", stderr(&refused));
    database.execute("UPDATE postcall.dispatcher SET knows_secrets = true").await;
    let published = publish(&file("https://a.test/"));
    assert!(published.status.success(), "{}", stderr(&published));
    let warned = stderr(&published);
    assert!(warned.contains("crm-tls"), "the agent has no such secret yet: {warned}");
}
