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
/// After this many mutants, the tests run once more without one: if they fail now, it was not the mutants that failed them.
const CONTROL: usize = 50;
/// How often the state is told.
const TELL: Duration = Duration::from_secs(30);
/// How often is looked whether the pause is over.
const LOOK: Duration = Duration::from_secs(5);

/// The tests to run.
pub struct Tests<'a> {
    /// The test program.
    pub program: &'a Path,
    /// Where it runs.
    pub tree: &'a Path,
    /// Which of its tests.
    pub filter: &'a str,
    /// While this file is there, no mutant begins.
    pub pause: &'a Path,
}

/// What is shared by those that run tests.
struct Shared<'a, 'b> {
    waiting: std::iter::Enumerate<std::slice::Iter<'b, &'a Mutant>>,
    results: &'b mut Results,
    told: Instant,
    failure: Option<String>,
}

/// Runs the tests without a mutant, and then with each of those of which nothing is known.
pub fn run(tests: &Tests, mutants: &[&Mutant], results: &mut Results) -> Result<(), String> {
    let unknown: Vec<&Mutant> = mutants.iter().filter(|mutant| results.of(mutant).is_none()).copied().collect();
    if unknown.is_empty() {
        return Ok(());
    }
    tests.wait_for_pause();
    let (outcome, baseline) = tests.with(0, Duration::from_secs(600))?;
    if outcome != Outcome::Survived {
        return Err(format!("the tests of {} do not pass without a mutant", tests.filter));
    }
    let limit = Duration::from_secs(LEAST.max(baseline * PATIENCE).as_secs());
    println!(
        "{}: {} to try; without a mutant, the tests take {:.2} s",
        tests.filter,
        unknown.len(),
        baseline.as_secs_f64()
    );
    let shared =
        Mutex::new(Shared { waiting: unknown.iter().enumerate(), results, told: Instant::now(), failure: None });
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((index, mutant)) = next(&shared) {
                    tests.wait_for_pause();
                    let tried = tests.with(mutant.number, limit);
                    tell(&mut shared.lock().unwrap(), mutants, mutant, tried);
                    if index % CONTROL == CONTROL - 1 {
                        control(tests, limit, &shared);
                    }
                }
            });
        }
    });
    control(tests, limit, &shared);
    shared.into_inner().unwrap().failure.map_or(Ok(()), Err)
}

fn next<'a>(shared: &Mutex<Shared<'a, '_>>) -> Option<(usize, &'a Mutant)> {
    let mut shared = shared.lock().unwrap();
    if shared.failure.is_some() { None } else { shared.waiting.next().map(|(index, mutant)| (index, *mutant)) }
}

/// Runs the tests without a mutant. If they fail, what was found since they last passed is worth nothing.
fn control(tests: &Tests, limit: Duration, shared: &Mutex<Shared>) {
    let tried = tests.with(0, limit);
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

impl Tests<'_> {
    /// Runs the tests with a mutant. It is one that survived if they pass.
    fn with(&self, number: u32, limit: Duration) -> Result<(Outcome, Duration), String> {
        let script = format!("ulimit -v {MEMORY}; exec timeout -s KILL {} \"$0\" \"$@\"", limit.as_secs());
        let start = Instant::now();
        let status = Command::new("sh")
            .args(["-c", &script])
            .arg(self.program)
            .args([self.filter, "-Zunstable-options", "--fail-fast"])
            // The option is still unstable. Only the test program may know: for the compiler, crates would be other ones.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("POSTCALL_MUTANT", number.to_string())
            .current_dir(self.tree)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| format!("sh: {error}"))?;
        let time = start.elapsed();
        let outcome = match status.success() {
            true => Outcome::Survived,
            false if time >= limit => Outcome::Timeout,
            false => Outcome::Noticed,
        };
        Ok((outcome, time))
    }

    fn wait_for_pause(&self) {
        while self.pause.exists() {
            std::thread::park_timeout(LOOK);
        }
    }
}
