//! What the HTTP client reaches by itself: the same client, the same requests rendered beforehand, the same receiver, and
//! no database. In a process of its own, because the dispatcher is one too.

use std::future::pending;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use postcall::domain::call::Call;
use postcall::domain::delivery::{Ending, Outcome};
use postcall::domain::request::Request;
use postcall::render::CompiledAction;
use postcall::webhook::{Fence, Settings, Webhook};
use uuid::Uuid;

use crate::calls;

/// Requests a second, measured by another process of this program.
pub async fn requests_per_second(url: &str, requests: usize, concurrency: usize) -> f64 {
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--bench", "--baseline", url, "--calls"])
        .arg(requests.to_string())
        .arg("--concurrency")
        .arg(concurrency.to_string())
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "the baseline failed");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// That other process: sends, and prints requests a second.
pub fn run(url: &str, requests: usize, concurrency: usize) {
    // As `postcall run` has it.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("{}", runtime.block_on(send_all(url, requests, concurrency)));
}

async fn send_all(url: &str, count: usize, concurrency: usize) -> f64 {
    let allow_targets = vec!["127.0.0.0/8".parse().unwrap()];
    let webhook = Arc::new(Webhook::new(Settings { allow_http: true, allow_targets, ..Settings::default() }).unwrap());
    let requests = Arc::new(rendered(url));
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let senders: Vec<_> = (0..concurrency)
        .map(|_| {
            let (webhook, requests, next) = (webhook.clone(), requests.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= count {
                        return;
                    }
                    let request = &requests[turn % requests.len()];
                    let attempt = webhook.send(request, Uuid::now_v7(), &Fence::open(), pending()).await;
                    assert!(matches!(attempt.ending, Ending::Final(Outcome::Answered(_))), "{:?}", attempt.ending);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    count as f64 / started.elapsed().as_secs_f64()
}

fn rendered(url: &str) -> Vec<Request> {
    let action = CompiledAction::compile(&calls::action(url).spec).unwrap();
    calls::all().iter().map(|text| action.render(Call::new(text).unwrap()).unwrap()).collect()
}
