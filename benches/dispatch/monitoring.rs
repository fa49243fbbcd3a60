//! Measures what watching a dispatcher costs: metrics that are scraped once a second, and spans that are exported to a collector,
//! each against the same dispatcher without. They take turns in one run. The CPU time of a delivery is less noisy than the rate.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::calls::{self, Size};
use crate::lanes::Body;
use crate::print::{chapter, measured, note, ratios};
use crate::process::Program;
use crate::receiver::Receiver;
use crate::throughput::{self, Arrival, Run, Setup, order};

/// How often a scraper asks.
const BETWEEN_SCRAPES: Duration = Duration::from_secs(1);

/// Measures and prints the cost.
pub async fn measure(calls: usize, concurrency: usize, rounds: usize) {
    chapter(&format!("Monitoring: {concurrency} in flight, metrics scraped once a second, and spans exported"));
    note(
        "Ratios are of neighbours in time, against the same dispatcher without; in brackets least and most of all rounds.",
    );
    let metrics = free_address();
    let scraping = tokio::spawn(scrape(metrics));
    let collector = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let otlp = format!("http://{}", collector.local_addr().unwrap());
    let collecting = tokio::spawn(collect(collector));
    let metrics = metrics.to_string();
    let programs = [
        Program::candidate().told("without", &[]),
        Program::candidate().told("metrics", &["--metrics-listen", &metrics]),
        Program::candidate().told("spans", &["--otlp-endpoint", &otlp]),
        Program::candidate().told("metrics and spans", &["--metrics-listen", &metrics, "--otlp-endpoint", &otlp]),
    ];
    let receiver = Receiver::start();
    let (body, size, arrival) = (Body::Rendered, Size::Small, Arrival::BeforeTheDispatcher);
    let setup = Setup { calls, concurrency, body, size, lanes: calls::AGENTS, dispatchers: 1, arrival };
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); programs.len()];
    for round in 0..rounds {
        for index in order(programs.len(), round) {
            runs[index].push(throughput::once(&programs[index], setup, &receiver).await);
        }
    }
    let rates = |runs: &[Run]| -> Vec<f64> { runs.iter().map(|run| run.per_second).collect() };
    let cpu = |runs: &[Run]| -> Vec<f64> { runs.iter().map(|run| run.dispatcher_us).collect() };
    for (program, of_program) in programs.iter().zip(&runs) {
        measured(
            &format!("{}: deliveries from the first claim to the last record", program.label),
            &rates(of_program),
            "/s",
        );
        measured(&format!("{}: CPU of a delivery, dispatcher", program.label), &cpu(of_program), "µs");
    }
    for (program, of_program) in programs.iter().zip(&runs).skip(1) {
        measured(
            &format!("{}: rate against without", program.label),
            &ratios(&rates(of_program), &rates(&runs[0])),
            "",
        );
        measured(&format!("{}: CPU against without", program.label), &ratios(&cpu(of_program), &cpu(&runs[0])), "");
    }
    scraping.abort();
    collecting.abort();
}

/// An address that is free now. Each dispatcher of the run listens there in turn.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// Asks for the metrics once a second, whether somebody listens or not.
async fn scrape(address: SocketAddr) {
    loop {
        tokio::time::sleep(BETWEEN_SCRAPES).await;
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        stream.write_all(format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.ok();
        stream.read_to_end(&mut Vec::new()).await.ok();
    }
}

/// Takes batches of spans, and looks at none.
async fn collect(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(take_batch(stream));
    }
}

async fn take_batch(mut stream: TcpStream) {
    let mut bytes = Vec::with_capacity(1 << 20);
    while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok();
            return;
        }
    }
}
