//! Name servers on the loopback, over UDP and TCP, that answer as a test wants, and the files that send a client to
//! them.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use postcall::domain::delivery::BodyEnd;
use postcall::webhook::{Attempt, NameSources, SendGate, TargetRules, Webhook, WebhookSettings};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::attempt::{assert_answered, post};
use crate::support::receiver::Receiver;

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pace for looking again.
const PACE: Duration = Duration::from_millis(10);

/// One question, as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The name, in lower case, with a dot at its end.
    pub name: String,
    /// What is wanted of it.
    pub kind: RecordType,
    /// Whether it came over TCP.
    pub over_tcp: bool,
    message: Message,
}

/// Messages to send back, in this order. None is silence.
pub type Replies = Vec<Vec<u8>>;

impl Asked {
    /// Reads a question.
    pub fn read(bytes: &[u8], over_tcp: bool) -> Asked {
        let message = Message::from_vec(bytes).unwrap();
        let (name, kind) = (message.queries[0].name.to_ascii().to_lowercase(), message.queries[0].query_type);
        Asked { name, kind, over_tcp, message }
    }

    /// Whether the name is in this domain.
    pub fn is_in(&self, domain: &str) -> bool {
        self.name == format!("{domain}.") || self.name.ends_with(&format!(".{domain}."))
    }

    /// An answer without records, changed as a test wants.
    pub fn changed(&self, change: impl FnOnce(&mut Message)) -> Replies {
        let mut message = self.message.clone();
        message.metadata.message_type = MessageType::Response;
        change(&mut message);
        vec![message.to_vec().unwrap()]
    }

    /// Those of these addresses that are of the wanted family.
    pub fn addresses(&self, addresses: &[&str], ttl: u32) -> Replies {
        let wanted = addresses.iter().map(|text| address(&self.name, text, ttl));
        self.changed(|message| message.insert_answers(wanted.filter(|a| a.record_type() == self.kind).collect()))
    }

    /// An answer that is only a code.
    pub fn code(&self, code: ResponseCode) -> Replies {
        self.changed(|message| message.metadata.response_code = code)
    }

    /// The answer does not fit.
    pub fn truncated(&self) -> Replies {
        self.changed(|message| message.metadata.truncation = true)
    }
}

/// A record of an address.
pub fn address(owner: &str, address: &str, ttl: u32) -> Record {
    let data = match address.parse().unwrap() {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(Name::from_ascii(owner).unwrap(), ttl, data)
}

/// A record of an alias.
pub fn alias(owner: &str, target: &str) -> Record {
    let target = RData::CNAME(CNAME(Name::from_ascii(target).unwrap()));
    Record::from_rdata(Name::from_ascii(owner).unwrap(), 60, target)
}

type Script = Arc<dyn Fn(&Asked) -> Replies + Send + Sync>;

/// A listening name server. It ends when it is dropped.
pub struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    tasks: [JoinHandle<()>; 2],
}

impl NameServer {
    /// Answers by `script`, at a free port of the loopback.
    pub async fn start(script: impl Fn(&Asked) -> Replies + Send + Sync + 'static) -> NameServer {
        let script: Script = Arc::new(script);
        loop {
            let (udp, tcp) = sockets((Ipv4Addr::LOCALHOST, 0).into()).await;
            if let Some(tcp) = tcp {
                return NameServer::on(udp, tcp, script);
            }
        }
    }

    /// Answers by `script` at this address.
    pub async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Asked) -> Replies + Send + Sync + 'static,
    ) -> NameServer {
        let (udp, tcp) = sockets(address).await;
        NameServer::on(udp, tcp.expect("the address is free"), Arc::new(script))
    }

    fn on(udp: UdpSocket, tcp: TcpListener, script: Script) -> NameServer {
        let (address, asked) = (udp.local_addr().unwrap(), Arc::default());
        let over_udp = tokio::spawn(serve_udp(udp, Arc::clone(&script), Arc::clone(&asked)));
        let over_tcp = tokio::spawn(serve_tcp(tcp, script, Arc::clone(&asked)));
        NameServer { address, asked, tasks: [over_udp, over_tcp] }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All questions so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The names that were asked for in a domain, one for each question for IPv4 addresses; those that are sent again
    /// because no answer came count once.
    pub fn names_in(&self, domain: &str) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let asked = self.asked().into_iter().filter(|asked| asked.kind == RecordType::A && asked.is_in(domain));
        let new = asked.filter(|asked| seen.insert((asked.name.clone(), asked.message.metadata.id)));
        new.map(|asked| asked.name).collect()
    }

    /// Waits until something was asked that is `wanted`.
    pub async fn was_asked(&self, what: &str, wanted: impl Fn(&Asked) -> bool) {
        until(what, || self.asked().iter().any(&wanted)).await;
    }

    /// The UDP sockets of this machine that are connected to it now (Linux).
    pub fn open_sockets(&self) -> usize {
        let SocketAddr::V4(address) = self.address else { panic!("an IPv4 address") };
        let ip = u32::from_ne_bytes(address.ip().octets());
        let remote = format!("{ip:08X}:{:04X}", address.port());
        // The system's table comes in pieces, and shows a socket twice or not at all when others move in between.
        let mut last = local_ports_of(&remote);
        loop {
            let again = local_ports_of(&remote);
            if again == last {
                return again.len();
            }
            last = again;
        }
    }
}

/// The local ends of the UDP sockets that are connected to `remote`, in the spelling of the system's table.
fn local_ports_of(remote: &str) -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields.get(2) == Some(&remote)).map(|fields| fields[1].to_owned()).collect()
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Waits until `holds`.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(PACE).await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// Sockets at the same port, if the port of the first is free for the second.
async fn sockets(address: SocketAddr) -> (UdpSocket, Option<TcpListener>) {
    let udp = UdpSocket::bind(address).await.unwrap();
    let tcp = TcpListener::bind(udp.local_addr().unwrap()).await.ok();
    (udp, tcp)
}

async fn serve_udp(socket: UdpSocket, script: Script, log: Arc<Mutex<Vec<Asked>>>) {
    let mut buffer = vec![0; 4096];
    loop {
        // Who has closed its socket meanwhile is told of by an error, and is no reason to end.
        let Ok((count, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let asked = Asked::read(&buffer[..count], false);
        log.lock().unwrap().push(asked.clone());
        for reply in script(&asked) {
            let _ = socket.send_to(&reply, peer).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, script: Script, log: Arc<Mutex<Vec<Asked>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve_connection(stream, Arc::clone(&script), Arc::clone(&log)));
    }
}

async fn serve_connection(mut stream: TcpStream, script: Script, log: Arc<Mutex<Vec<Asked>>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        stream.read_exact(&mut question).await.unwrap();
        let asked = Asked::read(&question, true);
        log.lock().unwrap().push(asked.clone());
        for reply in script(&asked) {
            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&length, reply.as_slice()].concat()).await;
        }
    }
}

/// The files that say how names are resolved, for as long as the value lives.
pub struct NameFiles {
    directory: TempDir,
    port: u16,
}

impl NameFiles {
    /// Names `server`, with these further lines of resolv.conf, and an empty hosts file.
    pub fn naming(server: &NameServer, lines: &str) -> NameFiles {
        NameFiles::at(server.address.port(), &format!("nameserver {}\n{lines}\n", server.address.ip()))
    }

    /// This text of resolv.conf, for name servers at `port`, and an empty hosts file.
    pub fn at(port: u16, resolv_conf: &str) -> NameFiles {
        let files = NameFiles { directory: tempfile::tempdir().unwrap(), port };
        files.write_resolv_conf(resolv_conf);
        files.write_hosts("");
        files
    }

    /// Replaces resolv.conf, as DHCP clients do: by another file that takes its name.
    pub fn write_resolv_conf(&self, text: &str) {
        self.replace("resolv.conf", text);
    }

    /// Replaces the hosts file.
    pub fn write_hosts(&self, text: &str) {
        self.replace("hosts", text);
    }

    fn replace(&self, name: &str, text: &str) {
        let (new, old) = (self.directory.path().join("new"), self.directory.path().join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, old).unwrap();
    }

    /// Where resolv.conf and the hosts file are.
    pub fn paths(&self) -> [PathBuf; 2] {
        ["resolv.conf", "hosts"].map(|name| self.directory.path().join(name))
    }

    /// A client that heeds these files and may call the receivers of these tests.
    pub fn webhook(&self) -> Webhook {
        let [resolv_conf, hosts] = self.paths();
        let names = NameSources { resolv_conf, hosts, name_server_port: self.port };
        let allow_targets = vec!["127.0.0.0/8".parse().unwrap()];
        let targets = TargetRules { allow_http: true, allow_targets, ..TargetRules::default() };
        Webhook::new(WebhookSettings { targets, names: Some(names), ..WebhookSettings::default() }).unwrap()
    }
}

/// Where the receivers of these tests are.
pub const HERE: &[&str] = &["127.0.0.1"];

/// Silent about what is in `dead.test` or `dead-*.test`; everything else is here.
pub fn silent_about_the_dead(asked: &Asked) -> Replies {
    let is_dead = asked.name.split('.').any(|label| label.starts_with("dead"));
    if is_dead { Vec::new() } else { asked.addresses(HERE, 60) }
}

/// Sends to a receiver under this name.
pub async fn send_to(webhook: &Webhook, host: &str, receiver: &Receiver, timeout_ms: u32) -> Attempt {
    let url = format!("http://{host}:{}/", receiver.address().port());
    webhook.send(&post(&url, timeout_ms), Uuid::now_v7(), &SendGate::open(), pending()).await
}

/// It was delivered.
#[track_caller]
pub fn assert_delivered(attempt: &Attempt) {
    assert_answered(attempt, 200, b"ok", BodyEnd::Complete);
}

/// Two name servers at different addresses and the same port.
pub async fn two_servers(
    first: impl Fn(&Asked) -> Replies + Send + Sync + 'static,
    second: impl Fn(&Asked) -> Replies + Send + Sync + 'static,
) -> (NameServer, NameServer) {
    let first = NameServer::start(first).await;
    let beside = SocketAddr::new("127.0.0.2".parse().unwrap(), first.address().port());
    let second = NameServer::start_at(beside, second).await;
    (first, second)
}

/// Longer than any of these tests takes.
const ENDLESS_MS: u32 = 600_000;

/// Attempts to reach these hosts, which go on beside the test; aborted when the value is dropped.
pub struct Crowd(Vec<JoinHandle<Attempt>>);

impl Crowd {
    /// One attempt for each of `hosts`.
    pub fn of(webhook: &Arc<Webhook>, hosts: impl Iterator<Item = String>) -> Crowd {
        let attempt = |host: String| {
            let webhook = Arc::clone(webhook);
            let request = post(&format!("http://{host}/"), ENDLESS_MS);
            tokio::spawn(async move { webhook.send(&request, Uuid::now_v7(), &SendGate::open(), pending()).await })
        };
        Crowd(hosts.map(attempt).collect())
    }

    /// How many have ended.
    pub fn finished(&self) -> usize {
        self.0.iter().filter(|attempt| attempt.is_finished()).count()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
