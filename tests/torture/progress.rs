//! One line every ten seconds, and what stays flat.

use std::time::Duration;

use crate::run::Run;

/// The size of one table with its indexes, and its rows.
#[derive(Clone, Copy, Debug, Default, sqlx::FromRow)]
pub struct Sizes {
    waiting_bytes: i64,
    sending_bytes: i64,
    waiting: i64,
    sending: i64,
    unknown: i64,
}

const SIZES: &str = "SELECT pg_total_relation_size('postcall.waiting') AS waiting_bytes,
                            pg_total_relation_size('postcall.sending') AS sending_bytes,
                            (SELECT count(*) FROM postcall.waiting) AS waiting,
                            (SELECT count(*) FROM postcall.sending) AS sending,
                            (SELECT count(*) FROM postcall.delivery WHERE state = 'unknown') AS unknown";

/// What was measured at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    done: f64,
    /// Of the dispatcher that is never killed; 0 if it was not there.
    memory: u64,
    sizes: Sizes,
}

/// Between two looks at what waits. A line is printed at each fifth.
const BETWEEN: Duration = Duration::from_secs(2);

/// Looks until the stream of calls is over, and returns what was measured.
pub async fn watch(run: &Run) -> Vec<Sample> {
    let (mut samples, mut looks) = (Vec::new(), 0);
    let mut interval = tokio::time::interval(BETWEEN);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !run.is_over() {
        interval.tick().await;
        looks += 1;
        let sizes = tokio::time::timeout(Duration::from_secs(20), sizes(run)).await.ok().flatten();
        if let Some(sizes) = sizes {
            run.counts.waiting.set(sizes.waiting.try_into().unwrap());
            samples.push(Sample { done: run.done(), memory: run.counts.steady_memory.get(), sizes });
        }
        if looks % 5 == 0 {
            line(run, sizes);
        }
    }
    samples
}

async fn sizes(run: &Run) -> Option<Sizes> {
    let mut connection = run.ways.connect().await.ok()?;
    sqlx::query_as(SIZES).fetch_one(&mut connection).await.ok()
}

/// Prints how far the run is.
pub fn line(run: &Run, sizes: Option<Sizes>) {
    let counts = &run.counts;
    let base = match sizes {
        Some(sizes) => format!(
            "{} waiting, {} sending, {} unknown, tables {} and {} KiB",
            sizes.waiting,
            sizes.sending,
            sizes.unknown,
            sizes.waiting_bytes >> 10,
            sizes.sending_bytes >> 10
        ),
        None => "no database".to_owned(),
    };
    println!(
        "{:>5} s {:>3.0} %: {} calls, {} requests, {base}; {} kills, {} pauses, {} cuts, {} silences, {} restarts, \
         {} crashes, {} failovers, {} replays, {} findings; {} and {} MiB",
        run.began.elapsed().as_secs(),
        100.0 * run.done(),
        counts.calls.get(),
        run.record.requests(),
        counts.kills.get(),
        counts.pauses.get(),
        counts.cuts.get(),
        counts.silences.get(),
        counts.restarts.get(),
        counts.crashes.get(),
        counts.failovers.get(),
        counts.replays.get(),
        counts.findings.get(),
        counts.steady_memory.get() >> 20,
        counts.other_memory.get() >> 20,
    );
}

/// Of what is flat, the last third may have so much more than the first one had: half as much again, and this.
const SLACK: u64 = 16 << 20;
/// Fewer samples tell nothing.
const FEWEST_SAMPLES: usize = 30;

/// One figure of a sample.
type Figure = fn(&Sample) -> u64;

/// Whether memory and tables were flat: the median of each third, and what is wrong with it.
pub fn flatness(samples: &[Sample]) -> Vec<String> {
    let figures: [(&str, Figure); 3] = [
        ("memory of the dispatcher that is never killed", |sample| sample.memory),
        ("postcall.waiting with its indexes", |sample| sample.sizes.waiting_bytes.unsigned_abs()),
        ("postcall.sending with its indexes", |sample| sample.sizes.sending_bytes.unsigned_abs()),
    ];
    let mut wrongs = Vec::new();
    for (what, figure) in figures {
        let of_third = |third: u8| {
            let within = |sample: &&Sample| (sample.done * 3.0).ceil() as u8 == third;
            let mut values: Vec<u64> = samples.iter().filter(within).map(figure).filter(|value| *value > 0).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or(0)
        };
        let [first, second, last] = [of_third(1), of_third(2), of_third(3)];
        let most = first + first / 2 + SLACK;
        println!("{what}: {} KiB, {} KiB, {} KiB (median of each third)", first >> 10, second >> 10, last >> 10);
        if samples.len() >= FEWEST_SAMPLES && last > most {
            wrongs.push(format!("{what} is not flat: {} KiB in the last third, {} at most", last >> 10, most >> 10));
        }
    }
    if samples.len() < FEWEST_SAMPLES {
        println!("the run was too short to tell whether that is flat");
    }
    wrongs
}
