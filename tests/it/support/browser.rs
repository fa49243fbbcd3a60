//! A real browser without a screen: Debian's chromium, by the WebDriver protocol of its chromedriver.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::console::exchange;
use super::not_tested::uninstalled;

/// How long the browser may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether a page is there.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Checks pages for people who cannot see, or see otherwise (MPL-2.0; tests/it/data/axe.LICENSE).
const AXE: &str = include_str!("../data/axe.min.js");

/// The browser, killed when it is dropped.
pub struct Browser {
    _driver: Child,
    _profile: tempfile::TempDir,
    address: SocketAddr,
    session: String,
    /// The process of the browser itself.
    process: Pid,
}

impl Browser {
    /// Starts it. `None` where there is none, which is said.
    pub async fn start() -> Option<Browser> {
        let spawned = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let (Ok(mut driver), Some(chromium)) = (spawned, chromium()) else {
            uninstalled("pages in a browser; see scripts/with-browser");
            return None;
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return port.trim_end_matches('.').parse::<u16>().unwrap();
                }
            }
            panic!("chromedriver does not start");
        };
        let port = tokio::time::timeout(PATIENCE, port).await.expect("chromedriver says its port");
        // Whatever it says later is read, and nobody looks at it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let created = call(address, "POST", "/session", &capabilities(&chromium, profile.path())).await;
        let session = created["sessionId"].as_str().expect("a session").to_owned();
        let process = created["capabilities"]["goog:processID"].as_i64().expect("a process");
        let process = Pid::from_raw(process.try_into().unwrap());
        Some(Browser { _driver: driver, _profile: profile, address, session, process })
    }

    async fn command(&self, name: &str, body: &Value) -> Value {
        call(self.address, "POST", &format!("/session/{}/{name}", self.session), body).await
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    /// The screen from now on.
    pub async fn looks(&self, scheme: &str, width: u32, height: u32) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Types a text where the focus is, as a keyboard does.
    pub async fn types(&self, text: &str) {
        self.devtools("Input.insertText", json!({ "text": text })).await;
    }

    /// Forgets all cookies, and with them every session.
    pub async fn forgets_cookies(&self) {
        self.devtools("Network.clearBrowserCookies", json!({})).await;
    }

    /// Has a cookie (`name=value`) for the site of a page from now on.
    pub async fn has_cookie(&self, page: &str, cookie: &str) {
        let (name, value) = cookie.split_once('=').expect("a name and a value");
        self.devtools("Network.setCookie", json!({ "name": name, "value": value, "url": page })).await;
    }

    /// The time zone from now on.
    pub async fn runs_in(&self, zone: &str) {
        self.devtools("Emulation.setTimezoneOverride", json!({ "timezoneId": zone })).await;
    }

    /// Goes to a page, and waits until it is there and laid out: the driver sometimes answers before that.
    pub async fn goes_to(&self, url: &str) {
        self.command("url", &json!({ "url": url })).await;
        let is_there =
            "location.href !== 'data:,' && document.readyState === 'complete' && document.body?.offsetWidth > 0";
        let mut look = tokio::time::interval(BETWEEN_LOOKS);
        let arrived = async {
            while self.value(is_there).await != true {
                look.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.unwrap_or_else(|_| panic!("waited a minute for {url}"));
    }

    /// The value of an expression; a promise is waited for. It runs outside of the page's Content-Security-Policy.
    pub async fn value(&self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.devtools("Runtime.evaluate", parameters).await;
        assert!(result["exceptionDetails"].is_null(), "{result}");
        result["result"]["value"].clone()
    }

    /// Presses a key: `Tab`, `Enter`, `Delete`.
    pub async fn presses(&self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                "Delete" => 46,
                _ => 13,
            };
            let parameters = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.devtools("Input.dispatchKeyEvent", parameters).await;
        }
    }

    /// What the browser complains about since it was asked last: errors, and violations of a page's policy.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({ "type": "browser" })).await;
        log.as_array().unwrap().iter().map(ToString::to_string).collect()
    }

    /// What axe finds on the page that is serious or critical.
    pub async fn obstacles(&self) -> Vec<String> {
        self.value(&format!("{AXE}; 0")).await;
        let found = self
            .value(
                "axe.run(document).then(found => found.violations
                     .filter(one => ['serious', 'critical'].includes(one.impact))
                     .map(one => one.id + ': ' + one.nodes.map(node => node.html + ' ' + node.failureSummary).join(' | ')))",
            )
            .await;
        found.as_array().unwrap().iter().map(ToString::to_string).collect()
    }

    /// A picture of the whole page.
    pub async fn picture(&self, path: &Path) {
        self.pictured(path, true).await;
    }

    /// A picture of what is seen of the page without scrolling.
    pub async fn picture_of_the_top(&self, path: &Path) {
        self.pictured(path, false).await;
    }

    async fn pictured(&self, path: &Path, is_whole: bool) {
        let parameters = json!({ "format": "png", "captureBeyondViewport": is_whole });
        let picture = self.devtools("Page.captureScreenshot", parameters).await;
        std::fs::write(path, base64(picture["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    /// Ends the session, and the browser with it: a driver that is killed leaves its browser behind.
    fn drop(&mut self) {
        let Ok(mut stream) = std::net::TcpStream::connect(self.address) else { return };
        let request = format!("DELETE /session/{} HTTP/1.1\r\nhost: {}\r\n\r\n", self.session, self.address);
        let patience = Some(Duration::from_secs(10));
        let asked = stream.set_read_timeout(patience).and_then(|()| stream.write_all(request.as_bytes()));
        // It answers when the browser has ended.
        let answered = asked.and_then(|()| stream.read(&mut [0; 1024]));
        if answered.is_err() {
            let _ended = kill(self.process, Signal::SIGKILL);
        }
    }
}

/// The program of the browser.
fn chromium() -> Option<String> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var("PATH").unwrap_or_default();
    let places = names.iter().flat_map(|name| path.split(':').map(move |place| format!("{place}/{name}")));
    places.into_iter().find(|place| Path::new(place).exists())
}

fn capabilities(chromium: &str, profile: &Path) -> Value {
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        &format!("--user-data-dir={}", profile.display()),
    ];
    let options = json!({ "binary": chromium, "args": arguments });
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome", "goog:loggingPrefs": { "browser": "ALL" }, "goog:chromeOptions": options,
    } } })
}

/// A call of the WebDriver protocol; its value.
async fn call(address: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let response = exchange(address, (head + &body).as_bytes()).await;
    let answer: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(response.status, 200, "{method} {path}: {answer}");
    answer["value"].clone()
}

/// The bytes of a text in base64.
fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|of| *of == letter).expect("a letter of base64");
        (bits, count) = (bits << 6 | u32::try_from(value).unwrap(), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}
