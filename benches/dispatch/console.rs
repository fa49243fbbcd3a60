//! Measures what the console costs a dispatcher under full load: nobody looks; ten people have a page open, each with
//! the live tail; the same ten reload their pages every second. The three take turns beside one dispatcher that always
//! has work, so that history and the machine are the same for all.

use std::ops::ControlFlow;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::calls;
use crate::database::Database;
use crate::lanes::{Body, Lane};
use crate::print::{Figure, chapter, measured, note, ratios};
use crate::process::{self, Dispatcher, Program, Shares};
use crate::receiver::Receiver;
use crate::soak;
use crate::throughput::order;

/// The pages, each opened by one viewer. `{delivery}` stands for the oldest delivery in history.
const PAGES: [&str; 10] = [
    "/",
    "/agents",
    "/agents/agent_00001",
    "/deliveries",
    "/deliveries?state=failed",
    "/deliveries/{delivery}",
    "/calls",
    "/audit",
    "/versions?agent=agent_00001&name=default",
    "/change/action?agent=agent_00001&name=default",
];
/// How often a page is reloaded.
const RELOADED: Duration = Duration::from_secs(1);
/// A change of viewers has its full effect after this time, in which nothing is counted.
const SETTLING: Duration = Duration::from_secs(2);
/// How often the state of the load is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Who looks at the console in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Viewers {
    None,
    Open,
    Reloading,
}

const TURNS: [(Viewers, &str); 3] = [
    (Viewers::None, "nobody looks"),
    (Viewers::Open, "ten pages are open with the live tail"),
    (Viewers::Reloading, "the same, each page reloaded every second"),
];

/// What was measured in one turn.
struct Turn {
    per_second: f64,
    dispatcher_us: f64,
    server_us: f64,
    /// CPU milliseconds of the console in a second.
    console_ms: f64,
    /// How many pages were answered in a second.
    pages: f64,
    /// Milliseconds until a page was there, on average.
    page_ms: f64,
}

impl Turn {
    /// CPU microseconds of a delivery, and with it the console's part. Where the processor is what limits the rate, the ratio of two of
    /// these is what the console costs, and it is less noisy than the rate.
    fn all_us(&self) -> f64 {
        self.dispatcher_us + self.server_us + self.console_ms * 1e3 / self.per_second
    }
}

/// Measures and prints all figures of this subject: `rounds` turns of `length` of each kind.
pub async fn measure(length: Duration, concurrency: usize, backlog: usize, rounds: usize) {
    chapter(&format!("Console: {concurrency} in flight, turns of {} s", length.as_secs()));
    let receiver = Receiver::start();
    receiver.count_only();
    let database = Database::new("bench_console").await;
    database.publish_lanes(&Lane::on_one_host(&receiver, calls::AGENTS, Body::Default)).await;
    let dispatcher = Dispatcher::of(Program::candidate(), &database.url, concurrency, Shares::All).await;
    let console = Console::start(&database.url).await;
    let is_over = AtomicBool::new(false);
    let go_on = |_: &soak::Sample| {
        if is_over.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let load = soak::run(&database, &receiver, (calls::AGENTS, backlog), LOOK, go_on);
    let turns = async {
        receiver.has(1).await;
        let mut turns = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..rounds {
            for index in order(TURNS.len(), round) {
                let viewers = TURNS[index].0;
                turns[index].push(turn(&database, &receiver, &dispatcher, &console, (viewers, length)).await);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        turns
    };
    let ((inserted, samples), turns) = tokio::join!(load, turns);
    tell(&turns, &samples);
    console.stop().await;
    database.has_recorded(inserted).await;
    dispatcher.stop().await;
    database.assert_all_delivered(inserted).await;
    assert_eq!(receiver.count(), inserted, "DOUBLED: as many requests as calls");
    database.close().await;
}

fn tell(turns: &[Vec<Turn>; 3], samples: &[soak::Sample]) {
    let open: Vec<f64> = samples.iter().map(|sample| sample.open as f64).collect();
    measured("calls waiting or in flight meanwhile; near 0 it was the writer who was slow", &open, "");
    let figures: [Figure<Turn>; 7] = [
        ("deliveries", |turn| turn.per_second, "/s"),
        ("CPU of a delivery, all together", Turn::all_us, "µs"),
        ("CPU of a delivery, dispatcher", |turn| turn.dispatcher_us, "µs"),
        ("CPU of a delivery, Postgres, all its processes", |turn| turn.server_us, "µs"),
        ("CPU of the console, of a second", |turn| turn.console_ms, "ms"),
        ("pages", |turn| turn.pages, "/s"),
        ("a page, on average", |turn| turn.page_ms, "ms"),
    ];
    for (index, (_, title)) in TURNS.iter().enumerate() {
        note(&format!("{title}:"));
        for (what, value, unit) in figures {
            let values: Vec<f64> = turns[index].iter().map(value).collect();
            measured(&format!("  {what}"), &values, unit);
            if index > 0 && !what.contains("onsole") && !what.contains("page") {
                let alone: Vec<f64> = turns[0].iter().map(value).collect();
                measured("    against nobody", &ratios(&values, &alone), "");
            }
        }
    }
}

async fn turn(
    database: &Database,
    receiver: &Receiver,
    dispatcher: &Dispatcher,
    console: &Console,
    (viewers, length): (Viewers, Duration),
) -> Turn {
    let oldest = "SELECT delivery_id::text FROM postcall.delivery ORDER BY delivery_id LIMIT 1";
    let delivery: Option<String> = sqlx::query_scalar(oldest).fetch_optional(&database.pool).await.unwrap();
    let mut looking = JoinSet::new();
    for path in PAGES.iter().filter(|_| viewers != Viewers::None) {
        let path = path.replace("{delivery}", delivery.as_deref().unwrap_or_default());
        looking.spawn(follow(console.address.clone()));
        looking.spawn(look(console.address.clone(), path, viewers == Viewers::Reloading));
    }
    tokio::time::sleep(SETTLING).await;
    let now = async || {
        let server = database.cpu_seconds().await;
        (receiver.count(), Instant::now(), dispatcher.cpu_seconds(), server, console.cpu_seconds())
    };
    let (answered, waited) = (ANSWERED.load(Ordering::Relaxed), WAITED_US.load(Ordering::Relaxed));
    let before = now().await;
    tokio::time::sleep(length).await;
    let after = now().await;
    let pages = (ANSWERED.load(Ordering::Relaxed) - answered) as f64;
    let waited = (WAITED_US.load(Ordering::Relaxed) - waited) as f64;
    looking.shutdown().await;
    let (count, seconds) = ((after.0 - before.0) as f64, (after.1 - before.1).as_secs_f64());
    Turn {
        per_second: count / seconds,
        dispatcher_us: (after.2 - before.2) * 1e6 / count,
        server_us: (after.3 - before.3) * 1e6 / count,
        console_ms: (after.4 - before.4) * 1e3 / seconds,
        pages: pages / seconds,
        page_ms: if pages > 0.0 { waited / pages / 1e3 } else { 0.0 },
    }
}

/// How many pages were answered in all, and how long that took.
static ANSWERED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
static WAITED_US: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Opens a page, once or every second.
async fn look(address: String, path: String, again: bool) {
    let mut due = tokio::time::interval(RELOADED);
    loop {
        due.tick().await;
        let began = Instant::now();
        let mut stream = ask(&address, &path, "close").await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&answer));
        ANSWERED.fetch_add(1, Ordering::Relaxed);
        WAITED_US.fetch_add(u64::try_from(began.elapsed().as_micros()).unwrap(), Ordering::Relaxed);
        if !again {
            return;
        }
    }
}

/// Follows the live tail.
async fn follow(address: String) {
    let mut stream = ask(&address, "/live", "keep-alive").await;
    let mut told = vec![0; 64 * 1024];
    while stream.read(&mut told).await.unwrap() > 0 {}
}

async fn ask(address: &str, path: &str, connection: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// A console that only reads, killed when it is dropped.
struct Console {
    child: Child,
    address: String,
}

impl Console {
    /// Starts it as somebody does who may see everything, and waits until it listens.
    async fn start(database_url: &str) -> Console {
        let mut command = Program::candidate().command(database_url);
        command.args(["console", "--listen", "127.0.0.1:0", "--write", "--as", "bench"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("the console did not start");
        let (_, address) = line.split_once("http://").expect("the console says where it is");
        Console { address: address.trim_end_matches('/').to_owned(), child }
    }

    fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(self.child.id().unwrap())
    }

    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}
