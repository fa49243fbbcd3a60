//! Measures the HTTP client alone: the same client and the same receiver, with requests that were rendered beforehand,
//! and without a database. It runs in a process of its own, because the dispatcher does so, too.

use std::future::pending;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use postcall::domain::call::Call;
use postcall::domain::delivery::{Ending, Outcome};
use postcall::domain::request::Request;
use postcall::render::CompiledAction;
use postcall::webhook::{SendGate, TargetRules, Webhook, WebhookSettings};
use uuid::Uuid;

use crate::calls::{self, Size};
use crate::lanes::Body;

/// Measures requests a second in another process of this program.
pub async fn requests_per_second(url: &str, requests: usize, concurrency: usize, body: Body, size: Size) -> f64 {
    let name = |value: Option<PossibleValue>| value.unwrap().get_name().to_owned();
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--bench", "--baseline", url, "--calls", &requests.to_string()])
        .args(["--concurrency", &concurrency.to_string()])
        .args(["--body", &name(body.to_possible_value()), "--size", &name(size.to_possible_value())])
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "the baseline failed");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// The work of that process: sends the requests, and prints requests a second.
pub fn run(url: &str, requests: usize, concurrency: usize, body: Body, size: Size) {
    // `postcall run` uses the same kind of runtime.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("{}", runtime.block_on(send_all(requests, concurrency, rendered(url, body, size))));
}

async fn send_all(count: usize, concurrency: usize, requests: Vec<Request>) -> f64 {
    let allow_targets = vec!["127.0.0.0/8".parse().unwrap()];
    let webhook = Arc::new(
        Webhook::new(WebhookSettings {
            targets: TargetRules { allow_http: true, allow_targets, ..TargetRules::default() },
            ..WebhookSettings::default()
        })
        .unwrap(),
    );
    let requests = Arc::new(requests);
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
                    let attempt = webhook.send(request, Uuid::now_v7(), &SendGate::open(), pending()).await;
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

fn rendered(url: &str, body: Body, size: Size) -> Vec<Request> {
    let mut spec = calls::action(url).spec;
    if body == Body::Default {
        spec.body = None;
    }
    let action = CompiledAction::compile(&spec).unwrap();
    calls::all_of(size).iter().map(|text| action.render(Call::new(text).unwrap()).unwrap()).collect()
}
