//! What is shipped for monitoring, in a real Prometheus: it scrapes a dispatcher, loads every alert and evaluates every expression
//! of the dashboard. Names, labels and the rules by themselves are in `monitoring.rs`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::support::database::Database;
use crate::support::inbox::Inbox;
use crate::support::not_tested::uninstalled;
use crate::support::process::Dispatcher;
use crate::support::scrape::{Scraper, start};
use crate::support::sources::root;
use crate::support::tools::of_prometheus;

/// How long anything is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// The calls that are sent while Prometheus looks.
const CALLS: usize = 5;
/// What Grafana puts in the place of its variables.
const VARIABLES: [(&str, &str); 2] = [("$instance", ".*"), ("$__rate_interval", "1m")];
/// Shows something only when statements have failed, which none has.
const WITHOUT_DATA: &str = "postcall_database_errors_total";
/// The alert that has no `for`, and for which a dispatcher must die.
const LOST: &str = "PostcallDispatcherLost";

/// A Prometheus of this test's own. It ends when it is dropped.
struct Prometheus {
    server: Scraper,
    _process: Child,
    /// It would be ended by a log that nobody can read any more.
    _log: Lines<BufReader<ChildStderr>>,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts it if it is there, with the shipped rules, and lets it scrape this dispatcher.
    async fn watching(dispatcher: Scraper) -> Option<Prometheus> {
        let program = of_prometheus("prometheus")?;
        let directory = tempfile::tempdir().unwrap();
        // YAML can be written as JSON.
        let configuration = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [root().join("deploy/prometheus/alerts.yml")],
            "scrape_configs": [{"job_name": "postcall", "static_configs": [{"targets": [dispatcher.0.to_string()]}]}],
        });
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, configuration.to_string()).unwrap();
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let (mut address, mut lines) = (None, Vec::new());
        let ready = async {
            while let Some(line) = log.next_line().await.unwrap() {
                if line.contains("\"Listening on\"") {
                    let (_, rest) = line.split_once("address=").expect("the address");
                    address = rest.split(' ').next().and_then(|address| address.parse().ok());
                }
                let is_ready = line.contains("Server is ready");
                lines.push(line);
                if is_ready {
                    break;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, ready).await;
        let Some(address) = address.filter(|_| waited.is_ok()) else { panic!("{lines:#?}") };
        Some(Prometheus { server: Scraper(address), _process: process, _log: log, _directory: directory })
    }

    /// The data of an answer of its API, which must have no warnings.
    async fn data(&self, path: &str) -> Value {
        // Of HTTP 1.0, so that it ends the connection.
        let reply = self.server.raw(format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n").as_bytes()).await;
        let body = reply.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let mut answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {reply}"));
        let is_well = answer["status"] == "success" && answer.get("warnings").is_none();
        assert!(is_well, "{path}: {answer}");
        answer["data"].take()
    }

    /// The values that an expression has now.
    async fn values(&self, expression: &str) -> Vec<f64> {
        let path = format!("query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC));
        let data = self.data(&path).await;
        let samples = data["result"].as_array().unwrap().iter();
        samples.map(|sample| sample["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }

    /// Each rule by its name, with its health and its state.
    async fn rules(&self) -> BTreeMap<String, (String, String)> {
        let data = self.data("rules").await;
        let groups = data["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rules.map(|rule| (text(&rule["name"]), (text(&rule["health"]), text(&rule["state"])))).collect()
    }

    /// Waits until an expression has a value that is not 0.
    async fn until(&self, expression: &str) {
        let has = async {
            while !self.values(expression).await.iter().any(|value| *value > 0.0) {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, has).await.is_ok(), "waited in vain for {expression}");
    }

    /// Waits until this holds for the rules.
    async fn until_rules(&self, hold: impl Fn(&BTreeMap<String, (String, String)>) -> bool) {
        let mut last = BTreeMap::new();
        let held = async {
            while !hold(&last) {
                tokio::time::sleep(BETWEEN_LOOKS).await;
                last = self.rules().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, held).await;
        assert!(waited.is_ok(), "waited in vain: {last:#?}");
    }
}

/// The expressions of the dashboard's panels, as Grafana sends them.
fn expressions() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deploy/grafana/postcall.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let sent = |expression: &str| {
        VARIABLES.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    targets.map(|target| sent(target["expr"].as_str().unwrap())).collect()
}

/// Sends some calls that are delivered, and one that is blocked.
async fn some_traffic(database: &Database) {
    let inbox = Inbox::open().await;
    for (agent, url) in [("delivered", inbox.url("/200")), ("blocked", "https://10.1.2.3/".to_owned())] {
        database.publish(agent, "default", &json!({"method": "POST", "url": url})).await;
    }
    for _ in 0..CALLS {
        database.insert_call("delivered", &json!({})).await;
    }
    database.insert_call("blocked", &json!({})).await;
    database.settled().await;
}

#[tokio::test]
async fn a_prometheus_loads_every_alert_and_has_data_for_every_panel_of_the_dashboard() {
    let database = Database::new().await;
    let (_dispatcher, scraper) = start(&database.url, &[]).await;
    let Some(prometheus) = Prometheus::watching(scraper).await else {
        uninstalled("alerts and dashboard in a real Prometheus; there is none (scripts/install-promtool)");
        return;
    };
    // The counters at 0 first, so that there is a difference.
    prometheus.until("postcall_build_info").await;
    some_traffic(&database).await;
    prometheus.until("sum(rate(postcall_deliveries_total[1m]))").await;
    prometheus.until("count(postcall_invariant_violations)").await;
    let (all, mut empty) = (expressions(), Vec::new());
    assert!(all.len() > 30, "{all:#?}");
    for expression in all {
        let values = prometheus.values(&expression).await;
        assert!(values.iter().all(|value| value.is_finite()), "{expression}: {values:?}");
        if values.is_empty() {
            empty.push(expression);
        }
    }
    assert!(empty.len() == 1 && empty[0].contains(WITHOUT_DATA), "without data: {empty:#?}");
    let instances = prometheus.data("label/instance/values?match[]=postcall_build_info").await;
    assert_eq!(instances, json!([scraper.0.to_string()]));

    let alerts = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    let mut shipped: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    shipped.sort_unstable();
    prometheus.until_rules(|rules| !rules.is_empty() && rules.values().all(|(health, _)| health != "unknown")).await;
    let rules = prometheus.rules().await;
    assert_eq!(rules.keys().collect::<Vec<_>>(), shipped);
    for (name, (health, state)) in &rules {
        assert!(health == "ok" && state != "firing", "{name}: {health}, {state}");
    }

    let lost = Dispatcher::start_leased(&database.url, 1_000, 1).await;
    lost.signal(Signal::SIGKILL);
    prometheus.until_rules(|rules| rules.get(LOST).is_some_and(|(_, state)| state == "firing")).await;
}
