//! A time-stamping authority on a real socket, whose answers openssl makes and signs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

/// What openssl needs to know of the authority.
const SETTINGS: &str = "[ tsa ]
serial = $dir/serial
signer_cert = $dir/tsa.pem
certs = $dir/tsa.pem
signer_key = $dir/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
tsa_name = yes
";
/// Where a request has its digest and its nonce.
const DIGEST: usize = 24;
const NONCE: usize = 58;

/// What the authority does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Grants,
    /// It grants a timestamp of something else.
    OfAnother,
    /// It answers another request for the same.
    NotOurs,
    /// It says by its protocol that it grants nothing.
    Rejects,
    /// It answers 503.
    Refuses,
    /// It answers a page.
    Babbles,
}

pub struct Authority {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    directory: tempfile::TempDir,
    manner: Mutex<Manner>,
    asked: Mutex<usize>,
}

impl Authority {
    /// `None` if there is no openssl.
    pub async fn start(manner: Manner) -> Option<Authority> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let [key, certificate] = [at("tsa.key"), at("tsa.pem")];
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &certificate]);
        command.args(["-days", "2", "-subj", "/CN=an authority of these tests"]);
        command.args([
            "-addext",
            "extendedKeyUsage=critical,timeStamping",
            "-addext",
            "keyUsage=critical,digitalSignature",
        ]);
        let made = command.output().ok()?;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(at("serial"), "01\n").unwrap();
        std::fs::write(at("settings"), SETTINGS.replace("$dir", directory.path().to_str().unwrap())).unwrap();
        let shared = Arc::new(Shared { directory, manner: Mutex::new(manner), asked: Mutex::default() });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(reply).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Some(Authority { address, shared })
    }

    pub fn behaves(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        *self.shared.asked.lock().unwrap()
    }

    /// What `openssl ts -verify` says of an answer about this text, with the certificate of this authority.
    pub fn verifies(&self, text: &Path, reply: &Path) -> bool {
        let mut command = Command::new("openssl");
        command.args(["ts", "-verify", "-CAfile"]).arg(self.shared.file("tsa.pem"));
        command.arg("-data").arg(text).arg("-in").arg(reply);
        command.output().unwrap().status.success()
    }
}

impl Shared {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

async fn reply(State(shared): State<Arc<Shared>>, headers: HeaderMap, query: Bytes) -> (StatusCode, Vec<u8>) {
    let manner = *shared.manner.lock().unwrap();
    let number = {
        let mut asked = shared.asked.lock().unwrap();
        *asked += 1;
        *asked
    };
    assert_eq!(headers["content-type"], "application/timestamp-query");
    let mut query = query.to_vec();
    match manner {
        Manner::Grants => {}
        Manner::OfAnother => query[DIGEST] ^= 1,
        Manner::NotOurs => query[NONCE] ^= 1,
        Manner::Rejects => query.truncate(5),
        Manner::Refuses => return (StatusCode::SERVICE_UNAVAILABLE, query),
        Manner::Babbles => return (StatusCode::OK, b"<html>planted</html>".to_vec()),
    }
    if manner == Manner::Rejects {
        // A request without anything to be timestamped.
        query[1] = 3;
    }
    let [asked, answer] = ["query", "reply"].map(|name| shared.file(&format!("{name}-{number}")));
    std::fs::write(&asked, &query).unwrap();
    let mut command = tokio::process::Command::new("openssl");
    command.args(["ts", "-reply", "-section", "tsa", "-config"]).arg(shared.file("settings"));
    let made = command.arg("-queryfile").arg(&asked).arg("-out").arg(&answer).output().await.unwrap();
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    (StatusCode::OK, std::fs::read(answer).unwrap_or_else(|_| panic!("{said}")))
}
