//! A scraper: it asks a dispatcher's metrics server over a plain socket, and reads the text format strictly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::process::Dispatcher;

/// How long anything is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Labels of a sample, by name.
pub type Labels = BTreeMap<String, String>;

/// The metrics server of a dispatcher.
#[derive(Clone, Copy, Debug)]
pub struct Scraper(pub SocketAddr);

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A family of metrics.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub labels: BTreeSet<String>,
}

/// One scrape.
#[derive(Debug, Default)]
pub struct Scrape {
    pub text: String,
    pub families: BTreeMap<String, Family>,
    /// The name of each sample, with its labels and its value.
    pub samples: Vec<(String, Labels, f64)>,
}

/// Starts a dispatcher that may call this machine and serves metrics, and waits until it dispatches.
pub async fn start(url: &str, arguments: &[&str]) -> (Dispatcher, Scraper) {
    let mut command = Dispatcher::command(url);
    let mut dispatcher = Dispatcher::spawned(command.args(["--metrics-listen", "127.0.0.1:0"]).args(arguments));
    let line = dispatcher.says("serving metrics").await;
    let address = line.split_once("address=").and_then(|(_, rest)| rest.split(' ').next()).unwrap();
    dispatcher.says("dispatching").await;
    (dispatcher, Scraper(address.parse().unwrap()))
}

impl Scraper {
    /// Sends these bytes, and reads to the end of the connection.
    pub async fn raw(self, request: &[u8]) -> String {
        let answered = async {
            let mut stream = TcpStream::connect(self.0).await.unwrap();
            // The server may refuse before it has read everything.
            stream.write_all(request).await.ok();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.ok();
            String::from_utf8(bytes).unwrap()
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("an answer")
    }

    pub async fn request(self, method: &str, path: &str) -> Reply {
        let text = self.raw(format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.0).as_bytes()).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// Status and line of `/readyz`.
    pub async fn readiness(self) -> (u16, String) {
        let Reply { status, body, .. } = self.request("GET", "/readyz").await;
        (status, body.trim_end().to_owned())
    }

    /// Waits until `/readyz` says so.
    pub async fn until_readiness_is(self, status: u16, words: &str) {
        let mut last = (0, String::new());
        let said = async {
            while last.0 != status || !last.1.contains(words) {
                last = self.readiness().await;
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, said).await;
        assert!(waited.is_ok(), "waited in vain for {status} {words}: {last:?}");
    }

    pub async fn scrape(self) -> Scrape {
        let reply = self.request("GET", "/metrics").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        Scrape::read(&reply.body).unwrap_or_else(|wrong| panic!("{wrong}\n{}", reply.body))
    }

    /// Scrapes until a condition holds. There is no event for it outside of the process.
    pub async fn until(self, condition: impl Fn(&Scrape) -> bool) -> Scrape {
        let mut last = self.scrape().await;
        let held = async {
            while !condition(&last) {
                tokio::time::sleep(BETWEEN_LOOKS).await;
                last = self.scrape().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, held).await;
        assert!(waited.is_ok(), "waited in vain:\n{}", last.text);
        last
    }
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

impl Scrape {
    /// Reads the text format, version 0.0.4, and refuses whatever is not exactly right.
    pub fn read(text: &str) -> Result<Scrape, String> {
        let mut scrape = Scrape { text: text.to_owned(), ..Scrape::default() };
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        let mut current = String::new();
        for line in text.lines() {
            let wrong = |what: &str| format!("{what}: {line}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
                let family = Family { help: help.to_owned(), ..Family::default() };
                if !is_name(name) || scrape.families.insert(name.to_owned(), family).is_some() {
                    return Err(wrong("a name that is none, or a second family of it"));
                }
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let family = scrape.families.get_mut(&current).ok_or_else(|| wrong("no help before"))?;
                let kind = rest.strip_prefix(&format!("{current} ")).ok_or_else(|| wrong("of another family"))?;
                if !["counter", "gauge", "histogram"].contains(&kind) || !family.kind.is_empty() {
                    return Err(wrong("a type that is none, or a second one"));
                }
                family.kind = kind.to_owned();
            } else {
                let (name, labels, value) = sample(line).ok_or_else(|| wrong("no sample"))?;
                let family = scrape.families.get_mut(&current).ok_or_else(|| wrong("no family before"))?;
                let fits = match name.strip_prefix(current.as_str()) {
                    Some("") => family.kind == "gauge" || family.kind == "counter" && name.ends_with("_total"),
                    Some("_bucket" | "_sum" | "_count") => family.kind == "histogram",
                    _ => false,
                };
                if !fits || scrape.samples.iter().any(|(other, of, _)| (other, of) == (&name, &labels)) {
                    return Err(wrong("of another family, or a second time"));
                }
                family.labels.extend(labels.keys().filter(|label| *label != "le").cloned());
                scrape.samples.push((name, labels, value));
            }
        }
        scrape.histograms_are_right().map(|()| scrape)
    }

    fn histograms_are_right(&self) -> Result<(), String> {
        for (name, _) in self.families.iter().filter(|(_, family)| family.kind == "histogram") {
            // One histogram for each database.
            let of_name = |end: &str| {
                let wanted = format!("{name}{end}");
                self.samples.iter().filter(move |(of, _, _)| *of == wanted)
            };
            for (_, of_all, count) in of_name("_count") {
                let buckets: Vec<(f64, f64)> = of_name("_bucket")
                    .filter(|(_, labels, _)| labels.get("database") == of_all.get("database"))
                    .map(|(_, labels, value)| (labels["le"].replace("+Inf", "inf").parse().unwrap(), *value))
                    .collect();
                if !buckets.is_sorted() || buckets.last().copied() != Some((f64::INFINITY, *count)) {
                    return Err(format!("{name}: {buckets:?}"));
                }
            }
        }
        Ok(())
    }

    /// The value of the only sample with this name and these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("there is no {name} {labels:?} in\n{}", self.text))
    }

    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        self.samples.iter().find(|(of, have, _)| of == name && *have == wanted).map(|(_, _, value)| *value)
    }

    /// The samples of a family with one label that are not 0, by the value of the label.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let of_name = self.samples.iter().filter(|(of, _, value)| of == name && *value != 0.0);
        of_name.map(|(_, labels, value)| (labels[label].clone(), *value)).collect()
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// `name{label="value",…} number`; values without escapes, which none of ours needs.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        None => (series, Labels::new()),
        Some((name, rest)) => {
            let mut labels = Labels::new();
            for pair in rest.strip_suffix('}')?.split(',') {
                let (label, value) = pair.split_once('=')?;
                let value = value.strip_prefix('"')?.strip_suffix('"')?;
                let is_right = is_name(label) && !value.contains(['"', '\\']);
                if !is_right || labels.insert(label.to_owned(), value.to_owned()).is_some() {
                    return None;
                }
            }
            (name, labels)
        }
    };
    let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite())?;
    is_name(name).then(|| (name.to_owned(), labels, value))
}
