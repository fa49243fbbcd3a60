//! The console as a person runs it, and a plain HTTP client that sends what a test says, byte by byte.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::process::POSTCALL;

/// How long any event is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `postcall console`, killed when it is dropped.
pub struct Console {
    child: Child,
    address: SocketAddr,
    _stdout: Lines<BufReader<ChildStdout>>,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The value of a header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(of, _)| of == name).map(|(_, value)| value.as_str());
        values.next().filter(|_| values.next().is_none())
    }

    /// The body, as a reader sees its words: without tags, with single blanks.
    pub fn words(&self) -> String {
        let mut words = String::new();
        for part in self.body.split('<') {
            words.push(' ');
            words.push_str(part.split_once('>').map_or(part, |(_, text)| text));
        }
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let escaped = [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")];
        escaped.into_iter().fold(words, |words, (escape, character)| words.replace(escape, character))
    }
}

impl Console {
    /// Starts the console on any port, for this user of a database.
    pub async fn start(url: &str) -> Console {
        Console::start_with(url, &[]).await
    }

    /// As [`Console::start`], with these settings in addition.
    pub async fn start_with(url: &str, settings: &[&str]) -> Console {
        Console::started(url, settings, Stdio::null()).await
    }

    /// As [`Console::start_with`], with what it says on stderr.
    pub async fn start_saying(url: &str, settings: &[&str]) -> (Console, Lines<BufReader<ChildStderr>>) {
        let mut console = Console::started(url, settings, Stdio::piped()).await;
        let stderr = console.child.stderr.take().unwrap();
        (console, BufReader::new(stderr).lines())
    }

    async fn started(url: &str, settings: &[&str], stderr: Stdio) -> Console {
        let mut command = Command::new(POSTCALL);
        command.args(["console", "--listen", "127.0.0.1:0"]).args(settings).env("DATABASE_URL", url);
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let line =
            tokio::time::timeout(PATIENCE, stdout.next_line()).await.expect("it says where it is").unwrap().unwrap();
        let loopback = || line.split_once("http://").and_then(|(_, rest)| rest.strip_suffix('/'));
        let address = line.split_once("listens on ").map(|(_, rest)| rest).or_else(loopback).expect("an address");
        Console { child, address: address.parse().unwrap(), _stdout: stdout }
    }

    /// The console of `postcall demo --keep` on this database, once everything is there.
    pub async fn of_demo(url: &str) -> Console {
        let mut command = Command::new(POSTCALL);
        command.args(["--log", "warn", "demo", "--keep"]).env("DATABASE_URL", url).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = tokio::time::timeout(PATIENCE, async {
            loop {
                let line = stdout.next_line().await.unwrap().expect("it says where its console is");
                let rest = line.strip_prefix("the console").and_then(|rest| rest.trim().strip_prefix("http://"));
                if let Some((address, _)) = rest.and_then(|rest| rest.split_once('/')) {
                    return address.parse().unwrap();
                }
            }
        });
        Console { child, address: address.await.expect("it is there within a minute"), _stdout: stdout }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks for a page as a browser does.
    pub async fn get(&self, target: &str) -> Response {
        self.ask("GET", target, &[("host", &self.address.to_string())]).await
    }

    /// Asks for a page, which must be there.
    pub async fn page(&self, target: &str) -> Response {
        let response = self.get(target).await;
        assert_eq!(response.status, 200, "{target}: {}", response.words());
        response
    }

    /// Sends a request with these headers and no others.
    pub async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.send(&format!("{method} {target} HTTP/1.1\r\n{headers}connection: close\r\n\r\n")).await
    }

    /// Asks for a page with a cookie.
    pub async fn get_as(&self, cookie: &str, target: &str) -> Response {
        self.ask("GET", target, &[("host", &self.address.to_string()), ("cookie", cookie)]).await
    }

    /// Sends a form as a browser that shows a page of the console, with a cookie.
    pub async fn sends(&self, cookie: &str, target: &str, fields: &[(&str, &str)]) -> Response {
        let host = self.address.to_string();
        self.sends_with(&[("host", &host), ("sec-fetch-site", "same-origin"), ("cookie", cookie)], target, fields).await
    }

    /// Sends a form with these headers.
    pub async fn sends_with(&self, headers: &[(&str, &str)], target: &str, fields: &[(&str, &str)]) -> Response {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.send(&format!(
            "POST {target} HTTP/1.1\r\n{headers}content-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    /// Logs in, and returns the cookie.
    pub async fn log_in(&self, name: &str, password: &str) -> String {
        let response = self.sends("", "/log-in", &[("name", name), ("password", password), ("to", "/")]).await;
        assert_eq!(response.status, 303, "{}", response.words());
        response.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }

    /// Sends a form, and follows the redirect behind it to the page that says what was done.
    pub async fn done(&self, cookie: &str, target: &str, fields: &[(&str, &str)]) -> Response {
        let response = self.sends(cookie, target, fields).await;
        assert_eq!(response.status, 303, "{target}: {}", response.words());
        let page = self.get_as(cookie, response.header("location").unwrap()).await;
        assert_eq!(page.status, 200, "{}", page.words());
        page
    }

    /// Sends these bytes.
    pub async fn send(&self, request: &str) -> Response {
        exchange(self.address, request.as_bytes()).await
    }

    /// Follows the live tail; `last` is the id of the last event that was seen.
    pub async fn follow(&self, last: Option<&str>) -> Stream {
        self.follow_at("/live", last).await
    }

    /// As [`Console::follow`], at this path.
    pub async fn follow_at(&self, path: &str, last: Option<&str>) -> Stream {
        self.follow_with(path, &last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default()).await
    }

    /// As [`Console::follow`], with a cookie, from now on.
    pub async fn follow_as(&self, cookie: &str) -> Stream {
        self.follow_with("/live", &format!("cookie: {cookie}\r\n")).await
    }

    async fn follow_with(&self, path: &str, header: &str) -> Stream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{header}\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        Stream { stream, seen: String::new() }
    }

    /// Sends it a signal, and waits for its end. Whether it ended well.
    pub async fn ended_by(mut self, signal: Signal) -> bool {
        kill(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()), signal).unwrap();
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap().success()
    }
}

/// An answer that comes in pieces.
pub struct Stream {
    stream: TcpStream,
    /// All that has come, head and all.
    pub seen: String,
}

impl Stream {
    /// Reads until `text` has come.
    pub async fn until(&mut self, text: &str) {
        let reading = async {
            while !self.seen.contains(text) {
                let mut bytes = vec![0; 64 * 1024];
                let count = self.stream.read(&mut bytes).await.unwrap();
                assert!(count > 0, "it ends without {text:?}: {}", self.seen);
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        assert!(read.is_ok(), "waited for {text:?}: {}", self.seen);
    }

    /// Reads to its end; whether that came in order, as the last piece of an answer.
    pub async fn ends_in_order(mut self) -> bool {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE * 2, self.stream.read_to_end(&mut rest)).await.expect("it ends");
        self.seen.push_str(&String::from_utf8_lossy(&rest));
        read.is_ok() && self.seen.ends_with("\r\n0\r\n\r\n")
    }
}

/// Sends a request on a connection of its own, and reads the answer.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let is_head = request.starts_with(b"HEAD ");
    tokio::time::timeout(PATIENCE, read(&mut stream, is_head)).await.expect("an answer")
}

/// Reads one answer.
async fn read(stream: &mut TcpStream, is_head: bool) -> Response {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "it ends: {}", String::from_utf8_lossy(&bytes));
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').expect("a header"))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let wanted = end + 4 + if is_head { 0 } else { length };
    while bytes.len() < wanted {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the body ends early");
    }
    Response { status, headers, body: String::from_utf8(bytes.split_off(end + 4)).unwrap() }
}

/// The roles of the console's own database user.
pub const ROLES: [&str; 4] =
    ["postcall_console_viewer", "postcall_auditor", "postcall_console_operator", "postcall_publisher"];

/// The password of everybody in [`users`].
pub const PASSWORD: &str = "correct horse battery staple";

/// A file of users: one for each role, named as it is.
pub fn users() -> tempfile::NamedTempFile {
    // The least cost: it is not what is tested.
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let line = |role: &str| format!("{role}:{role}:{hash}\n");
    super::process::file(&["viewer", "auditor", "operator", "publisher"].map(line).concat())
}
