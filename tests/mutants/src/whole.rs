//! Tries mutants by the whole suite: the unit tests and the integration tests, each mutant by those tests that come to it.
//!
//! First, each test runs alone and without a mutant, which tells the mutants that it comes to. Then a mutant is tried by its tests,
//! first by those that seem to be about its file, and by quick and special ones before the others, until one fails twice. All mutants
//! are tried by some of their tests before one is tried by all of them, so that a run that is stopped has tried as many as possible;
//! until then, a mutant that was not noticed is undecided.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::compile::{self, Programs, What};
use crate::list::Mutant;
use crate::process::{Place, Ran, Tests};
use crate::reach::{self, Test};
use crate::results::{Outcome, Results};

/// Tests may take this many times as long as without a mutant, and never less than `LEAST`.
const PATIENCE: f64 = 5.0;
const LEAST: Duration = Duration::from_secs(20);
/// How long a test may take without a mutant.
const FIRST: Duration = Duration::from_secs(300);
/// Unit tests that take longer run like an integration test, alone.
const QUICK_UNIT: f64 = 0.5;
/// The tests that run alone take at most so many seconds; the others of a mutant run together, when all mutants have been tried.
const ALONE: f64 = 30.0;
/// How many tests run together, in one process, and how many of them at a time.
const TOGETHER: usize = 40;
const THREADS: usize = 4;
/// How often the state is told, and how often is looked whether the pause is over.
const TELL: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(5);
/// Tests of what stands in the sources and documents, not of what the program does; and those that compile other programs.
const LEFT_OUT: [&str; 5] = ["walls::", "documents::", "examples::", "fuzz::", "mutant::sources_"];

/// What the whole suite is asked about.
pub struct Task<'a> {
    /// The copy of the package.
    pub tree: &'a Path,
    /// All mutants that are compiled.
    pub mutants: &'a [Mutant],
    /// The names of those that may be tried.
    pub chosen: HashSet<&'a str>,
    /// The directory of the results.
    pub out: &'a Path,
    /// Identifies the sources.
    pub sources: &'a str,
    /// How many are tried.
    pub sample: usize,
    /// Which ones.
    pub seed: u64,
    /// How many tests or mutants at a time.
    pub at_a_time: usize,
    /// Only tests with one of these in their names run; all, if there are none. Then no mutant counts as survived.
    pub tests: Vec<&'a str>,
}

impl Task<'_> {
    fn runs(&self, test: &str) -> bool {
        self.tests.is_empty() || self.tests.iter().any(|part| test.contains(part))
    }
}

/// What is known before the first mutant is tried.
struct Suite<'a> {
    task: &'a Task<'a>,
    programs: Programs,
    tests: Vec<Test>,
    of_mutant: HashMap<u32, Vec<usize>>,
}

/// What those that try mutants share.
struct Shared<'a> {
    waiting: std::vec::IntoIter<&'a Mutant>,
    sample: &'a [&'a Mutant],
    results: Results,
    told: Instant,
    failure: Option<String>,
}

/// Compiles, finds out what each test comes to, and tries the sample.
pub fn work(task: &Task) -> Result<(), String> {
    let results = task.out.join("results");
    let results = Results::open(&results, task.sources).map_err(|error| format!("results: {error}"))?;
    let (programs, without_run) = compiled(task)?;
    let mut sample: Vec<&Mutant> =
        task.mutants.iter().filter(|mutant| task.chosen.contains(mutant.name.as_str())).collect();
    let counted = |outcome| sample.iter().filter(|mutant| without_run.get(&mutant.number) == Some(&outcome)).count();
    let (not_viable, not_switchable) = (counted(Outcome::NotViable), counted(Outcome::NotSwitchable));
    println!("{} mutants: {not_viable} do not compile, {not_switchable} can have no switch", sample.len());
    sample.retain(|mutant| !without_run.contains_key(&mutant.number));
    reach::shuffle(task.seed, &mut sample, |mutant| mutant.without_place());
    sample.truncate(task.sample);
    println!("{} of the others are tried, seed {}", sample.len(), task.seed);

    let mut tests = traced(task, &programs)?;
    tests.retain(|test| task.runs(&test.name));
    let failed = tests.iter().filter(|test| !test.passed);
    failed.for_each(|test| println!("fails without a mutant, and so tells nothing: {}", test.name));
    let files: HashMap<u32, &str> = task.mutants.iter().map(|mutant| (mutant.number, mutant.file.as_str())).collect();
    let of_mutant = reach::by_mutant(&tests, |number| files.get(&number).copied().unwrap_or_default());
    let suite = Suite { task, programs, of_mutant, tests };
    let results = try_all(&suite, &sample, results)?;
    for (name, outcomes) in [
        ("missed.txt", [Outcome::Survived, Outcome::NotReached]),
        ("undecided.txt", [Outcome::Undecided, Outcome::Undecided]),
    ] {
        let with = sample.iter().filter(|mutant| results.of(mutant).is_some_and(|found| outcomes.contains(&found)));
        let names: String = with.map(|mutant| format!("{}\n", mutant.name)).collect();
        std::fs::write(task.out.join(name), names).map_err(|error| format!("{name}: {error}"))?;
    }
    println!("{}", share(&results, &sample));
    Ok(())
}

/// What the mutants are that nothing can try.
type WithoutRun = HashMap<u32, Outcome>;

/// The programs: those of an earlier run, if they are still there.
fn compiled(task: &Task) -> Result<(Programs, WithoutRun), String> {
    let note = task.out.join("compiled");
    if let Some(known) = std::fs::read_to_string(&note).ok().and_then(|text| read_note(&text, task.sources)) {
        return Ok(known);
    }
    let compiled = compile::compile(task.tree, task.sources, task.mutants, HashSet::new(), What::Whole)?;
    let (units, integration) = (compiled.programs.units, compiled.programs.integration);
    let (it, program) = integration.ok_or("cargo told of no program")?;
    let mut text = format!("{}\n", task.sources);
    for path in [&units, &it, &program] {
        text += &format!("{}\t{}\n", path.display(), state_of(path).unwrap_or_default());
    }
    for numbers in [&compiled.not_viable, &compiled.not_switchable] {
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        text += &format!("{}\n", numbers.join(" "));
    }
    std::fs::write(&note, &text).map_err(|error| format!("{}: {error}", note.display()))?;
    read_note(&text, task.sources).ok_or("the programs are not where cargo said".to_owned())
}

/// What identifies a program.
fn state_of(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    let changed = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{} {}", metadata.len(), changed.as_nanos()))
}

fn read_note(text: &str, sources: &str) -> Option<(Programs, WithoutRun)> {
    let mut lines = text.lines();
    if lines.next() != Some(sources) {
        return None;
    }
    let mut program = || {
        let (path, state) = lines.next()?.split_once('\t')?;
        (state_of(Path::new(path))? == state).then(|| PathBuf::from(path))
    };
    let programs = Programs { units: program()?, integration: Some((program()?, program()?)) };
    let mut without_run = WithoutRun::new();
    for outcome in [Outcome::NotViable, Outcome::NotSwitchable] {
        let numbers = lines.next()?.split_whitespace().filter_map(|number| number.parse().ok());
        without_run.extend(numbers.map(|number: u32| (number, outcome)));
    }
    Some((programs, without_run))
}

impl Programs {
    fn of(&self, unit: bool) -> &Path {
        self.integration.as_ref().filter(|_| !unit).map_or(&self.units, |(it, _)| it)
    }

    fn place(&self, task: &Task, index: usize) -> Result<Place, String> {
        let (_, program) = self.integration.as_ref().ok_or("there is no program")?;
        Place::new(task.tree, program, index)
    }

    /// The names of all tests that can notice a mutant.
    fn names(&self, unit: bool) -> Result<Vec<String>, String> {
        let program = self.of(unit);
        let output = Command::new(program).arg("--list").output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.filter(|name| !LEFT_OUT.iter().any(|start| name.starts_with(start))).map(str::to_owned).collect())
    }
}

/// What each test comes to. A run that was interrupted goes on behind the last test of which this is known.
fn traced(task: &Task, programs: &Programs) -> Result<Vec<Test>, String> {
    let path = task.out.join("tests");
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let same = text.lines().next() == Some(task.sources);
    let known: Vec<Test> = text.lines().skip(1).filter(|_| same).filter_map(Test::of_line).collect();
    if !same {
        std::fs::write(&path, format!("{}\n", task.sources)).map_err(said)?;
    }
    let mut waiting = Vec::new();
    for unit in [true, false] {
        let is_new = |name: &String| !known.iter().any(|test| test.unit == unit && test.name == *name);
        waiting.extend(programs.names(unit)?.into_iter().filter(is_new).map(|name| (unit, name)));
    }
    waiting.retain(|(_, name)| task.runs(name));
    if waiting.is_empty() {
        return Ok(known);
    }
    println!("{} tests run without a mutant; what is known of them is in {}", waiting.len(), path.display());
    let file = OpenOptions::new().append(true).open(&path).map_err(said)?;
    let shared = Mutex::new((waiting.into_iter(), known, file, Ok(())));
    side_by_side(task.at_a_time, |index| {
        let mut place = programs.place(task, index)?;
        loop {
            wait_for_pause(task.out);
            let next = shared.lock().unwrap().0.next();
            let Some((unit, name)) = next else { return Ok(()) };
            let test = trace(&mut place, programs.of(unit), task.out, index, (unit, name))?;
            let (_, known, file, written) = &mut *shared.lock().unwrap();
            if let Err(error) = file.write_all(test.line().as_bytes()) {
                *written = Err(error);
            }
            known.push(test);
        }
    })?;
    let (_, known, _, written) = shared.into_inner().unwrap();
    written.map_err(said)?;
    Ok(known)
}

/// Runs a test without a mutant; once more if it fails, since only a test that always fails tells nothing.
fn trace(place: &mut Place, program: &Path, out: &Path, index: usize, test: (bool, String)) -> Result<Test, String> {
    let (unit, name) = test;
    let reached = out.join(format!("reached.{index}"));
    let said = |error: std::io::Error| format!("{}: {error}", reached.display());
    let mut tries = 0;
    let ran = loop {
        std::fs::write(&reached, "").map_err(said)?;
        open_to_all(&reached).map_err(said)?;
        let names = vec![name.as_str()];
        let tests = Tests { program, names, threads: 1, mutant: 0, limit: FIRST, reached: Some(&reached) };
        let ran = place.run(&tests)?;
        tries += 1;
        if ran.passed || tries == 2 {
            break ran;
        }
    };
    let text = std::fs::read_to_string(&reached).map_err(said)?;
    let numbers: std::collections::BTreeSet<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let (passed, seconds) = (ran.passed, ran.time.as_secs_f64());
    Ok(Test { unit, name, passed, seconds, reached: numbers.into_iter().collect() })
}

/// Processes of other users write there, too.
fn open_to_all(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
}

/// Does the same so many times side by side, and returns the first error.
fn side_by_side(times: usize, one: impl Fn(usize) -> Result<(), String> + Sync) -> Result<(), String> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..times)
            .map(|index| {
                scope.spawn({
                    let one = &one;
                    move || one(index)
                })
            })
            .collect();
        let ended = all.into_iter().map(|thread| thread.join().unwrap_or(Err("a thread panicked".to_owned())));
        ended.fold(Ok(()), Result::and)
    })
}

fn wait_for_pause(out: &Path) {
    while out.with_file_name("pause").exists() {
        std::thread::park_timeout(LOOK);
    }
}

/// Tries all mutants of the sample, first by some of their tests, then by all.
fn try_all(suite: &Suite, sample: &[&Mutant], results: Results) -> Result<Results, String> {
    let mut results = results;
    for all_tests in [false, true] {
        let is_wanted = |outcome| match outcome {
            None => !all_tests,
            Some(Outcome::Undecided) => all_tests || !suite.task.tests.is_empty(),
            _ => false,
        };
        let waiting: Vec<&Mutant> = sample.iter().filter(|mutant| is_wanted(results.of(mutant))).copied().collect();
        if waiting.is_empty() {
            continue;
        }
        println!("{} mutants are tried by {} tests", waiting.len(), if all_tests { "all their" } else { "some" });
        let waiting = waiting.into_iter();
        let shared = Mutex::new(Shared { waiting, sample, results, told: Instant::now(), failure: None });
        side_by_side(suite.task.at_a_time, |index| {
            let ended = suite.try_some(&shared, index, all_tests);
            if let Err(error) = &ended {
                shared.lock().unwrap().failure.get_or_insert(error.clone());
            }
            ended
        })?;
        results = shared.into_inner().unwrap().results;
    }
    Ok(results)
}

/// What the tests have said of a mutant, and the names of those that noticed it.
type Tried = (Outcome, String);

impl Suite<'_> {
    fn try_some(&self, shared: &Mutex<Shared>, index: usize, all_tests: bool) -> Result<(), String> {
        let mut place = self.programs.place(self.task, index)?;
        loop {
            wait_for_pause(self.task.out);
            let next = {
                let mut shared = shared.lock().unwrap();
                if shared.failure.is_some() { None } else { shared.waiting.next() }
            };
            let Some(mutant) = next else { return Ok(()) };
            let start = Instant::now();
            let tests = self.of_mutant.get(&mutant.number).map_or(&[][..], Vec::as_slice);
            let (mut outcome, by) = self.one(&mut place, mutant.number, tests, all_tests)?;
            if !self.task.tests.is_empty() && matches!(outcome, Outcome::Survived | Outcome::NotReached) {
                outcome = Outcome::Undecided;
            }
            let shared = &mut *shared.lock().unwrap();
            let said = |error: std::io::Error| format!("results: {error}");
            shared.results.add_by(mutant, outcome, start.elapsed().as_secs_f64(), &by).map_err(said)?;
            if matches!(outcome, Outcome::Survived | Outcome::NotReached) {
                println!("{}: {}", outcome.name(), mutant.name);
            }
            if shared.told.elapsed() >= TELL {
                shared.told = Instant::now();
                println!("{}", share(&shared.results, shared.sample));
            }
        }
    }

    /// Tries a mutant by its tests: by those that run alone, or by the others.
    fn one(&self, place: &mut Place, mutant: u32, tests: &[usize], all_tests: bool) -> Result<Tried, String> {
        if tests.is_empty() {
            return Ok((Outcome::NotReached, String::new()));
        }
        let (units, others): (Vec<usize>, Vec<usize>) =
            tests.iter().partition(|test| self.tests[**test].unit && self.tests[**test].seconds <= QUICK_UNIT);
        let mut spent = 0.0;
        let (alone, together): (Vec<usize>, Vec<usize>) = others.into_iter().partition(|test| {
            spent += self.tests[*test].seconds;
            spent <= ALONE
        });
        let steps: Vec<Vec<usize>> = if all_tests {
            together.chunks(TOGETHER).map(<[usize]>::to_vec).collect()
        } else {
            std::iter::once(units).chain(alone.into_iter().map(|test| vec![test])).collect()
        };
        for step in steps.iter().filter(|step| !step.is_empty()) {
            if let Some(tried) = self.noticed(place, mutant, step)? {
                return Ok(tried);
            }
        }
        let outcome = if all_tests || together.is_empty() { Outcome::Survived } else { Outcome::Undecided };
        Ok((outcome, String::new()))
    }

    /// Whether these tests notice a mutant. What failed in company must fail alone, too, and twice; and each test must then pass
    /// without the mutant: otherwise, it was something else that failed it.
    fn noticed(&self, place: &mut Place, mutant: u32, tests: &[usize]) -> Result<Option<Tried>, String> {
        let ran = self.run(place, mutant, tests)?;
        if ran.passed {
            return Ok(None);
        }
        let is_ok = |name: &str| ran.said.lines().any(|line| line == format!("test {name} ... ok"));
        for test in tests {
            let name = &self.tests[*test].name;
            let found = match tests {
                [_] if ran.too_long => Some(Outcome::Timeout),
                [_] => self.fails(place, mutant, *test, 1)?,
                _ if is_ok(name) => continue,
                _ => self.fails(place, mutant, *test, 2)?,
            };
            match found {
                Some(_) if !self.run(place, 0, &[*test])?.passed => {
                    println!("not believed: without a mutant, too, it fails or does not end: {name}");
                }
                Some(outcome) => return Ok(Some((outcome, name.clone()))),
                None => println!("not believed: with mutant {mutant} it did not fail twice: {name}"),
            }
        }
        Ok(None)
    }

    /// How a test fails with a mutant, if it does so as often as it is run.
    fn fails(&self, place: &mut Place, mutant: u32, test: usize, times: u32) -> Result<Option<Outcome>, String> {
        for _ in 0..times {
            let ran = self.run(place, mutant, &[test])?;
            if ran.passed || ran.too_long {
                return Ok(ran.too_long.then_some(Outcome::Timeout));
            }
        }
        Ok(Some(Outcome::Noticed))
    }

    fn run(&self, place: &mut Place, mutant: u32, tests: &[usize]) -> Result<Ran, String> {
        let first = &self.tests[tests[0]];
        let seconds: f64 = tests.iter().map(|test| self.tests[*test].seconds).sum();
        let limit = LEAST.max(Duration::from_secs_f64(seconds * PATIENCE)).min(FIRST);
        let names = tests.iter().map(|test| self.tests[*test].name.as_str()).collect();
        let threads = if tests.len() > 1 { THREADS } else { 1 };
        place.run(&Tests { program: self.programs.of(first.unit), names, threads, mutant, limit, reached: None })
    }
}

/// How many of the sample were tried and noticed.
fn share(results: &Results, sample: &[&Mutant]) -> String {
    let with = |wanted: &[Outcome]| {
        sample.iter().filter(|mutant| results.of(mutant).is_some_and(|outcome| wanted.contains(&outcome))).count()
    };
    let noticed = with(&[Outcome::Noticed, Outcome::Timeout]);
    let tried = noticed + with(&[Outcome::Survived, Outcome::NotReached, Outcome::Undecided]);
    let percent = 100.0 * noticed as f64 / tried.max(1) as f64;
    format!("{tried} of {} tried, {noticed} noticed ({percent:.1} %); {}", sample.len(), results.counts(sample))
}
