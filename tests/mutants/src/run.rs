//! Runs the tests, two mutants at a time.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::list::Mutant;
use crate::results::{Outcome, Results};

/// How many mutants are tried at a time.
const AT_A_TIME: usize = 2;
/// The tests of a mutant may take this many times as long as those without one, and never less than `LEAST`.
const PATIENCE: u32 = 5;
const LEAST: Duration = Duration::from_secs(20);
/// A mutant that allocates without an end must not take the machine's memory: KiB of address space.
const MEMORY: u32 = 4 << 20;
/// Tests that take longer run only if the others have not noticed the mutant.
const SLOW: Duration = Duration::from_millis(500);
/// After this many mutants, the tests run once more without one: if they fail now, it was not the mutants that failed them.
const CONTROL: usize = 50;
/// How long they may take the first time.
const FIRST: Duration = Duration::from_secs(600);
/// How often the state is told.
const TELL: Duration = Duration::from_secs(30);
/// How often is looked whether the pause is over.
const LOOK: Duration = Duration::from_secs(5);

/// Where and when tests run.
pub struct Place<'a> {
    /// The test program.
    pub program: &'a Path,
    /// The directory.
    pub tree: &'a Path,
    /// While this file is there, no mutant begins.
    pub pause: &'a Path,
}

/// The tests of a room, by name: the quick ones, then the slow ones.
struct Tests<'a> {
    place: &'a Place<'a>,
    stages: [Vec<String>; 2],
    limit: Duration,
}

/// What is shared by those that run tests.
struct Shared<'a, 'b> {
    waiting: std::iter::Enumerate<std::slice::Iter<'b, &'a Mutant>>,
    results: &'b mut Results,
    told: Instant,
    failure: Option<String>,
}

/// Runs the tests whose names have `filter` in them without a mutant, and then with each of those of which nothing is known.
pub fn run(place: &Place, filter: &str, mutants: &[&Mutant], results: &mut Results) -> Result<(), String> {
    let unknown: Vec<&Mutant> = mutants.iter().filter(|mutant| results.of(mutant).is_none()).copied().collect();
    if unknown.is_empty() {
        return Ok(());
    }
    place.wait_for_pause();
    let (passed, baseline, said) = place.run(0, &[filter.to_owned(), "--report-time".to_owned()], FIRST)?;
    if !passed {
        return Err(format!("the tests of {filter} do not pass without a mutant"));
    }
    let limit = Duration::from_secs(LEAST.max(baseline * PATIENCE).as_secs());
    let (slow, quick): (Vec<_>, Vec<_>) = times(&said).partition(|(_, time)| *time > SLOW);
    let stages = [quick, slow].map(|stage| stage.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    if stages.iter().all(Vec::is_empty) {
        return Err(format!("there are no tests of {filter}"));
    }
    let (quick, slow, seconds) = (stages[0].len(), stages[1].len(), baseline.as_secs_f64());
    println!(
        "{} mutants to try; {quick} quick tests and {slow} slow ones take {seconds:.2} s without one",
        unknown.len()
    );
    let tests = &Tests { place, stages, limit };
    let shared =
        Mutex::new(Shared { waiting: unknown.iter().enumerate(), results, told: Instant::now(), failure: None });
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((index, mutant)) = next(&shared) {
                    place.wait_for_pause();
                    let tried = tests.with(mutant.number);
                    tell(&mut shared.lock().unwrap(), mutants, mutant, tried);
                    if index % CONTROL == CONTROL - 1 {
                        control(tests, &shared);
                    }
                }
            });
        }
    });
    control(tests, &shared);
    shared.into_inner().unwrap().failure.map_or(Ok(()), Err)
}

fn next<'a>(shared: &Mutex<Shared<'a, '_>>) -> Option<(usize, &'a Mutant)> {
    let mut shared = shared.lock().unwrap();
    if shared.failure.is_some() { None } else { shared.waiting.next().map(|(index, mutant)| (index, *mutant)) }
}

/// Runs the tests without a mutant. If they fail, what was found since they last passed is worth nothing.
fn control(tests: &Tests, shared: &Mutex<Shared>) {
    let tried = tests.with(0);
    let mut shared = shared.lock().unwrap();
    let passed = matches!(tried, Ok((Outcome::Survived, _)));
    let kept = if passed { shared.results.trust() } else { shared.results.forget_untrusted() };
    if !passed || kept.is_err() {
        shared.failure =
            Some("the tests do not always pass without a mutant; the newest results are forgotten".to_owned());
    }
}

fn tell(shared: &mut Shared, all: &[&Mutant], mutant: &Mutant, tried: Result<(Outcome, Duration), String>) {
    let added = tried.and_then(|(outcome, time)| {
        if outcome == Outcome::Survived {
            println!("survived: {}", mutant.name);
        }
        shared.results.add(mutant, outcome, time.as_secs_f64()).map_err(|error| format!("results: {error}"))
    });
    if let Err(error) = added {
        shared.failure = Some(error);
    }
    if shared.told.elapsed() >= TELL {
        shared.told = Instant::now();
        println!("{}", shared.results.counts(all));
    }
}

/// The tests that passed, and how long each took: `test NAME ... ok <0.123s>`.
fn times(said: &str) -> impl Iterator<Item = (String, Duration)> {
    said.lines().filter_map(|line| {
        let (name, time) = line.strip_prefix("test ")?.split_once(" ... ok <")?;
        Some((name.to_owned(), Duration::from_secs_f64(time.strip_suffix("s>")?.parse().ok()?)))
    })
}

impl Tests<'_> {
    /// Runs the tests with a mutant. It is one that survived if they pass.
    fn with(&self, number: u32) -> Result<(Outcome, Duration), String> {
        let mut all = Duration::ZERO;
        for names in self.stages.iter().filter(|names| !names.is_empty()) {
            let mut arguments = vec!["--exact".to_owned(), "--fail-fast".to_owned()];
            arguments.extend_from_slice(names);
            let (passed, time, _) = self.place.run(number, &arguments, self.limit)?;
            all += time;
            if !passed {
                return Ok((if time >= self.limit { Outcome::Timeout } else { Outcome::Noticed }, all));
            }
        }
        Ok((Outcome::Survived, all))
    }
}

impl Place<'_> {
    /// Runs the test program with a mutant: whether it passed, how long it took, what it said.
    fn run(&self, number: u32, arguments: &[String], limit: Duration) -> Result<(bool, Duration, String), String> {
        let script = format!("ulimit -v {MEMORY}; exec timeout -s KILL {} \"$0\" \"$@\"", limit.as_secs());
        let start = Instant::now();
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(self.program)
            .arg("-Zunstable-options")
            .args(arguments)
            // These options are still unstable. Only the test program may know: for the compiler, crates would be other ones.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("POSTCALL_MUTANT", number.to_string())
            .current_dir(self.tree)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("sh: {error}"))?;
        Ok((output.status.success(), start.elapsed(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    fn wait_for_pause(&self) {
        while self.pause.exists() {
            std::thread::park_timeout(LOOK);
        }
    }
}
