//! Measures whether databases in trouble hold up another one that the same process serves: the rate of a database that works, beside
//! three that were stopped, frozen and failed over a moment before, and beside the same three while they are well and have nothing to do.

use std::time::{Duration, Instant};

use crate::calls::{self, AGENTS};
use crate::database::Database;
use crate::lanes::{Body, Lane};
use crate::print::{chapter, measured, note, ratios};
use crate::process::{Dispatcher, Program, Shares};
use crate::receiver::{Behaviour, Receiver};
use crate::servers::Shards;
use crate::throughput::order;

/// Calls of the database that works, for each call of the usual figures: they have to outlast the time of a statement without an answer.
const TIMES_THE_CALLS: usize = 4;
/// Calls that each of the others has when the trouble begins.
const CALLS_OF_OTHERS: usize = 500;
/// How long to wait for the calls.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait until a dispatcher has registered in a database.
const BEGINNING: Duration = Duration::from_secs(30);

/// Measures and prints the rates and their ratio.
pub async fn measure(calls: usize, concurrency: usize, rounds: usize) {
    let calls = calls * TIMES_THE_CALLS;
    chapter(&format!("Several: {calls} calls in one of four databases, {concurrency} in flight"));
    note(
        "The three others: well and idle; then stopped, frozen and failed over just before the calls come, with calls of their own. In\n\
           the same seconds the database that fails over delivers these.",
    );
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for in_trouble in order(2, round) {
            rates[in_trouble].push(play(in_trouble == 1, calls, concurrency).await);
        }
    }
    let [well, trouble] = rates;
    measured("the others are well", &well, "/s");
    measured("the others are in trouble", &trouble, "/s");
    measured("in trouble against well", &ratios(&trouble, &well), "");
}

/// Deliveries a second of the database that works.
async fn play(in_trouble: bool, calls: usize, concurrency: usize) -> f64 {
    let receiver = Receiver::start();
    let database = Database::new("bench_several").await;
    database.publish_lanes(&lanes(&receiver, 0)).await;
    let mut shards = Shards::start().await;
    let mut others = Vec::new();
    for (number, url) in shards.urls().iter().enumerate() {
        Program::candidate().migrate(url).await;
        let other = Database::at(url).await;
        other.publish_lanes(&lanes(&receiver, number + 1)).await;
        others.push(other);
    }
    let urls = shards.urls();
    let more: Vec<&str> = urls.iter().flat_map(|url| ["--database-url", url]).collect();
    let told = [&["--database-url", &database.url], &more[..]].concat();
    let program = Program::candidate().told("several", &told);
    let dispatcher = Dispatcher::of(&program, &database.url, concurrency, Shares::All).await;
    for one in others.iter().chain([&database]) {
        has_begun(one).await;
    }
    let arriving = database.inserted_calls(calls).await;
    if in_trouble {
        for other in others {
            other.fill(CALLS_OF_OTHERS).await;
            other.close().await;
        }
        shards.break_down().await;
    }
    let began = Instant::now();
    arriving.commit().await.unwrap();
    let count = receiver.waits_for(&(0..AGENTS), calls, PATIENCE).await;
    assert!(count.total >= calls, "LOST: {} of {calls} in {} s", count.total, began.elapsed().as_secs());
    database.has_recorded(calls).await;
    dispatcher.kill().await;
    database.assert_all_delivered(calls).await;
    database.close().await;
    receiver.all();
    calls as f64 / (count.last - count.first).as_secs_f64()
}

/// The lanes of the usual agents in the database of this number.
fn lanes(receiver: &Receiver, database: usize) -> Vec<Lane> {
    let lane = |number| Lane {
        agent: calls::agent_of(number),
        url: receiver.url_of(Behaviour::Answer, std::net::Ipv4Addr::LOCALHOST, database * AGENTS + number),
        body: Body::Rendered,
    };
    (0..AGENTS).map(lane).collect()
}

async fn has_begun(database: &Database) {
    let began = Instant::now();
    while database.number("SELECT count(*) FROM postcall.dispatcher").await == 0.0 {
        assert!(began.elapsed() < BEGINNING, "no dispatcher has registered in {}", database.url);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
