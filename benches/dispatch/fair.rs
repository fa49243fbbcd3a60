//! Measures whether receivers in trouble hold up others: honest agents beside receivers that hang, are slow or are
//! down. Each scene is played with the trouble and without it, in turns. A ratio compares two neighbours in time.

use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::calls::{self, Size};
use crate::database::Database;
use crate::lanes::{Body, Group, Lane};
use crate::print::{Figure, chapter, figure, measured, note, percentile, ratios, rounded};
use crate::process::{Dispatcher, Program, Shares};
use crate::receiver::{self, Behaviour, Receiver, hostile};
use crate::stream::{self, Pace, waits};
use crate::throughput::{self, Arrival, Setup, order};

/// The time until receivers that hang have taken all the places that they get.
const SETTLING: Duration = Duration::from_secs(2);
/// How long to wait for the rest of a backlog after its host can be reached again.
const REST_PATIENCE: Duration = Duration::from_secs(180);
/// How often to ask how much was delivered. The receiver itself notes the moments of receipt.
const ASKING: Duration = Duration::from_millis(500);
/// The numbers of the calls of a backlog begin here, above the numbers of honest calls.
const BACKLOG_FROM: usize = 10_000_000;
/// How long the slow host takes for an answer.
const SLOW: Duration = Duration::from_secs(2);
/// The address of the host that goes down.
const DOWN_HOST: &str = "127.200.1.1:0";
/// How many agents have calls for the host that goes down.
const DOWN_AGENTS: usize = 20;

/// A scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// One agent with a backlog whose receiver hangs, beside 20 honest agents.
    HangingAgent,
    /// 1,000 agents. The receivers of 50 of them hang, each on a host of its own; the others share 20 hosts.
    HangingAgents,
    /// 1,000 hosts, of which 300 hang.
    HangingHosts,
    /// 80 hosts, beside 24 that play a trick each: heads and bodies without end, drips, resets, handshakes that stall.
    HostileHosts,
    /// One slow host, which 200 agents share, with five times the backlog, beside 20 honest agents.
    SlowHost,
    /// A host that is down for a while under a backlog.
    HostDown,
    /// Throughput with few and with many lanes.
    Lanes,
}

/// The sizes of the scenes.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// How many calls wait for receivers in trouble.
    pub backlog: usize,
    /// How many honest calls come a second.
    pub rate: f64,
    /// How many seconds they come.
    pub seconds: u64,
    /// How many honest calls arrive at once at the end.
    pub burst: usize,
    /// How long to wait for honest calls after the last one was written.
    pub patience: Duration,
    /// How long the host is down.
    pub down: Duration,
    /// The large number of lanes.
    pub lanes: usize,
    /// How many calls each throughput figure has.
    pub calls: usize,
    /// How many requests may be in flight.
    pub concurrency: usize,
    /// How often each scene is repeated.
    pub rounds: usize,
}

/// Measures and prints these scenes, or all scenes if `cases` is empty.
pub async fn measure(programs: &[&Program], cases: &[Case], sizes: Sizes) {
    let wanted = |case: &Case| cases.is_empty() || cases.contains(case);
    for case in Case::value_variants().iter().filter(|case| wanted(case)) {
        match case {
            Case::HostDown => host_down(programs, sizes).await,
            Case::Lanes => many_lanes(programs, sizes).await,
            _ => beside_trouble(programs, *case, sizes).await,
        }
    }
}

/// A scene: the honest lanes, the lanes in trouble, and how many calls wait for the latter.
struct Scene {
    honest: Group,
    trouble: Group,
    backlog: usize,
}

impl Scene {
    fn of(case: Case, sizes: Sizes) -> Scene {
        let (honest, honest_hosts, troubled, trouble_hosts, behaviour, backlog) = match case {
            Case::HangingAgents => (950, 20, 50, 50, Behaviour::Hang, sizes.backlog),
            Case::HangingHosts => (700, 700, 300, 300, Behaviour::Hang, sizes.backlog),
            Case::HostileHosts => (80, 80, hostile::ALL.len(), hostile::ALL.len(), Behaviour::Hostile, sizes.backlog),
            Case::SlowHost => (20, 20, 200, 1, Behaviour::AnswerAfter(SLOW), sizes.backlog * 5),
            _ => (20, 20, 1, 1, Behaviour::Hang, sizes.backlog),
        };
        let group = |name, first, count, hosts, behaviour| Group { name, first, count, behaviour, hosts };
        Scene {
            honest: group("honest", 0, honest, honest_hosts, Behaviour::Answer),
            trouble: group("trouble", honest, troubled, trouble_hosts, behaviour),
            backlog,
        }
    }
}

/// What was seen of the honest lanes in one round, and what the lanes in trouble got.
struct Seen {
    waits: Vec<f64>,
    missing: usize,
    burst_per_second: f64,
    /// How many requests each lane in trouble got.
    troubled: Vec<f64>,
}

async fn beside_trouble(programs: &[&Program], case: Case, sizes: Sizes) {
    let scene = Scene::of(case, sizes);
    let Scene { honest, trouble, backlog } = &scene;
    chapter(&format!(
        "Fair: {} honest agents ({} hosts) beside {} that {:?} ({} hosts), {backlog} calls waiting",
        honest.count, honest.hosts, trouble.count, trouble.behaviour, trouble.hosts
    ));
    note(
        "Honest calls come at a steady rate, one transaction each, then a burst in one; the same without the others. Whoever is\n\
           not delivered some time after the last counts with the time waited until then.",
    );
    for program in programs {
        let mut seen: [Vec<Seen>; 2] = [Vec::new(), Vec::new()];
        for round in 0..sizes.rounds {
            for with_trouble in order(2, round) {
                seen[with_trouble].push(play(program, &scene, with_trouble == 1, sizes).await);
            }
        }
        let [without, with] = &seen;
        tell(program, without, with);
    }
}

async fn play(program: &Program, scene: &Scene, with_trouble: bool, sizes: Sizes) -> Seen {
    let receiver = Receiver::start();
    let others = Receiver::start();
    let database = Database::of(program, "bench_fair").await;
    let names = |lanes: &[Lane]| -> Vec<String> { lanes.iter().map(|lane| lane.agent.clone()).collect() };
    let honest = scene.honest.lanes(&receiver);
    database.publish_lanes(&honest).await;
    let honest = names(&honest);
    let mut committed = 0;
    if with_trouble {
        let troubled =
            scene.trouble.lanes(if scene.trouble.behaviour == Behaviour::Hostile { &others } else { &receiver });
        database.publish_lanes(&troubled).await;
        let numbers = BACKLOG_FROM..BACKLOG_FROM + scene.backlog;
        database.fill_with(numbers, &names(&troubled), &calls::all()).await;
        committed += scene.backlog;
    }
    database.execute("CHECKPOINT").await;
    let dispatcher = Dispatcher::of(program, &database.url, sizes.concurrency, Shares::Default).await;
    tokio::time::sleep(SETTLING).await;

    let lanes = scene.honest.numbers();
    let count = (sizes.rate * sizes.seconds as f64) as usize;
    let pace = Pace::Even(Duration::from_secs_f64(1.0 / sizes.rate));
    let written = stream::write(&database, &honest, 0, count, pace).await;
    let streamed = receiver.waits_for(&lanes, count, sizes.patience).await.total;
    let until = Instant::now();
    let (waits, missing) = waits(&written, &receiver.all(), until);

    database.fill_with(count..count + sizes.burst, &honest, &calls::all()).await;
    let began = Instant::now();
    let burst = receiver.waits_for(&lanes, count + sizes.burst, sizes.patience).await;
    let received = burst.total - streamed;
    let took = if burst.total < count + sizes.burst { began.elapsed() } else { burst.last - began };
    dispatcher.kill().await;
    database.assert_accounted_for(committed + count + sizes.burst).await;
    database.close().await;

    let mut troubled = vec![0.0; scene.trouble.count];
    for arrival in receiver.all().iter().filter(|one| scene.trouble.numbers().contains(&one.lane)) {
        troubled[arrival.lane - scene.trouble.first] += 1.0;
    }
    Seen { waits, missing, burst_per_second: received as f64 / took.as_secs_f64(), troubled }
}

fn tell(program: &Program, without: &[Seen], with: &[Seen]) {
    let label = program.label;
    let figures: [Figure<Seen>; 5] = [
        ("COMMIT to receipt, p50", |seen| percentile(&mut seen.waits.clone(), 0.5), "ms"),
        ("COMMIT to receipt, p99", |seen| percentile(&mut seen.waits.clone(), 0.99), "ms"),
        ("COMMIT to receipt, longest", |seen| percentile(&mut seen.waits.clone(), 1.0), "ms"),
        ("of the stream, not delivered in time", |seen| seen.missing as f64, "calls"),
        ("throughput of the burst", |seen| seen.burst_per_second, "/s"),
    ];
    for (what, value, unit) in figures {
        let values = |rounds: &[Seen]| rounds.iter().map(value).collect::<Vec<f64>>();
        let (alone, beside) = (values(without), values(with));
        measured(&format!("{label}: honest alone: {what}"), &alone, unit);
        measured(&format!("{label}: honest beside the others: {what}"), &beside, unit);
        if unit != "calls" {
            measured(&format!("{label}: beside against alone: {what}"), &ratios(&beside, &alone), "");
        }
    }
    let least_and_most =
        |share: f64| -> Vec<f64> { with.iter().map(|seen| percentile(&mut seen.troubled.clone(), share)).collect() };
    // What arrives at a hostile host is not counted.
    if with.iter().all(|seen| seen.troubled.iter().all(|requests| *requests == 0.0)) {
        return;
    }
    let [least, most] = [0.0, 1.0].map(least_and_most);
    measured(&format!("{label}: requests to the lane in trouble that got least"), &least, "");
    measured(&format!("{label}: requests to the lane in trouble that got most"), &most, "");
}

/// Measures a host that refuses every connection for a while: how many deliveries fail, and how soon the rest is
/// delivered when the host can be reached again.
async fn host_down(programs: &[&Program], sizes: Sizes) {
    let Sizes { backlog, down, concurrency, .. } = sizes;
    chapter(&format!("Fair: a host is down for {} s under {backlog} calls", down.as_secs()));
    for program in programs {
        let receiver = Receiver::start();
        let address = receiver.open(DOWN_HOST.parse().unwrap());
        receiver.close(address);
        let database = Database::of(program, "bench_fair").await;
        let lane = |number| Lane {
            agent: calls::agent_of(number),
            url: receiver::url(Behaviour::Answer, address, number),
            body: Body::Rendered,
        };
        let lanes: Vec<Lane> = (0..DOWN_AGENTS).map(lane).collect();
        database.publish_lanes(&lanes).await;
        database.fill(backlog).await;
        let dispatcher = Dispatcher::of(program, &database.url, concurrency, Shares::Default).await;
        tokio::time::sleep(down).await;

        let failed = "SELECT count(*) FROM postcall.delivery_history WHERE state = 'failed'";
        let failed_while_down = database.number(failed).await;
        receiver.open(address);
        let back = Instant::now();
        let mut failed_in_all = failed_while_down;
        let mut counted = receiver.counted();
        while counted.total + (failed_in_all as usize) < backlog && back.elapsed() < REST_PATIENCE {
            tokio::time::sleep(ASKING).await;
            (counted, failed_in_all) = (receiver.counted(), database.number(failed).await);
        }
        let rest = backlog - counted.total - failed_in_all as usize;
        dispatcher.kill().await;
        let label = program.label;
        figure(&format!("{label}: failed while it was down"), failed_while_down, "of all");
        figure(&format!("{label}: failed in all"), failed_in_all, "of all");
        figure(&format!("{label}: delivered after it was back"), counted.total, "");
        figure(&format!("{label}: not delivered in {} s", REST_PATIENCE.as_secs()), rest, "");
        if counted.total > 0 {
            let seconds = |moment: Instant| rounded(moment.saturating_duration_since(back).as_secs_f64());
            figure(&format!("{label}: until the first was received"), seconds(counted.first), "s");
            figure(&format!("{label}: until the last was received"), seconds(counted.last), "s");
        }
        receiver.all();
        database.assert_accounted_for(backlog).await;
        database.close().await;
    }
}

/// Measures what fairness costs: throughput with few and with many lanes, against a reference that takes the oldest
/// call first.
async fn many_lanes(programs: &[&Program], sizes: Sizes) {
    let Sizes { calls, concurrency, rounds, .. } = sizes;
    chapter(&format!(
        "Fair: throughput with {} and with {} lanes, {concurrency} in flight",
        calls::AGENTS,
        sizes.lanes
    ));
    let receiver = Receiver::start();
    let (body, size, arrival) = (Body::Rendered, Size::Small, Arrival::BeforeTheDispatcher);
    let counts = [calls::AGENTS, sizes.lanes];
    let players = programs.len();
    // The rates by program, and then by the number of lanes.
    let mut rates = vec![[Vec::new(), Vec::new()]; players];
    for round in 0..rounds {
        for turn in order(players * counts.len(), round) {
            let (which, index) = (turn / players, turn % players);
            let setup = Setup { calls, concurrency, body, size, lanes: counts[which], dispatchers: 1, arrival };
            rates[index][which].push(throughput::once(programs[index], setup, &receiver).await.per_second);
        }
    }
    for (program, [few, many]) in programs.iter().zip(&rates) {
        measured(&format!("{}: {} lanes", program.label, counts[0]), few, "/s");
        measured(&format!("{}: {} lanes", program.label, counts[1]), many, "/s");
        measured(&format!("{}: many lanes against few", program.label), &ratios(many, few), "");
    }
    if let [candidate, reference] = &rates[..] {
        for (which, lanes) in counts.iter().enumerate() {
            let against = ratios(&candidate[which], &reference[which]);
            measured(&format!("this build against the reference, {lanes} lanes"), &against, "");
        }
    }
}
