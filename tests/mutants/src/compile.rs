//! Compiles the sources with all mutants in them, without those that do not compile.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::list::Mutant;
use crate::plant::{self, Region};

/// How often it is compiled before it gives up. The compiler looks for one sort of errors after the other: names, types, lifetimes.
const ROUNDS: u32 = 30;

/// What is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The unit tests of a room.
    Units,
    /// The unit tests and the integration tests of the whole package, and the program.
    Whole,
}

/// The test programs.
pub struct Programs {
    /// The unit tests.
    pub units: PathBuf,
    /// The integration tests, where they are compiled, and the program that they start.
    pub integration: Option<(PathBuf, PathBuf)>,
}

/// What has become of the mutants when everything compiles.
pub struct Compiled {
    /// The programs with all the others.
    pub programs: Programs,
    /// Those that do not compile.
    pub not_viable: HashSet<u32>,
    /// Those that no switch can be around.
    pub not_switchable: HashSet<u32>,
}

/// A part of a file of which the compiler speaks.
struct Place {
    file: String,
    bytes: Range<usize>,
}

/// Puts the mutants into the sources below `tree`, and compiles its tests. What is known not to be viable is left away at once.
/// The program gets the fingerprint of the sources into its list of tests, so that no other one is taken for it.
pub fn compile(
    tree: &Path,
    sources: &str,
    mutants: &[Mutant],
    mut not_viable: HashSet<u32>,
    what: What,
) -> Result<Compiled, String> {
    let files = by_file(tree, mutants)?;
    let mark = format!("sources_{sources}");
    write(&tree.join("src/mutant.rs"), &format!("{}\n#[test]\nfn {mark}() {{}}\n", plant::MODULE))?;
    let library = tree.join("src/lib.rs");
    let modules = std::fs::read_to_string(&library).map_err(|error| error.to_string())?;
    write(&library, &format!("#![allow(warnings)]\n{modules}\n/// Switches.\npub mod mutant;\n"))?;

    let mut out_of_reach: HashSet<u32> = HashSet::new();
    for round in 1..=ROUNDS {
        let mut regions = HashMap::new();
        let mut planted_numbers = HashSet::new();
        for (name, (source, all)) in &files {
            let live =
                |mutant: &&&Mutant| !not_viable.contains(&mutant.number) && !out_of_reach.contains(&mutant.number);
            let live: Vec<&Mutant> = all.iter().filter(live).copied().collect();
            let planted = plant::plant(source, &live).map_err(|error| format!("{name}: {error}"))?;
            write(&tree.join(name), &planted.text)?;
            regions.insert((*name).to_owned(), planted.regions);
            planted_numbers.extend(planted.numbers);
            not_viable.extend(planted.not_viable);
        }
        let errors = match build(tree, what)? {
            Ok(programs) => {
                check(&programs.units, &mark)?;
                let here = |number: &u32| planted_numbers.contains(number) || not_viable.contains(number);
                let not_switchable =
                    mutants.iter().map(|mutant| mutant.number).filter(|number| !here(number)).collect();
                return Ok(Compiled { programs, not_viable, not_switchable });
            }
            Err(errors) => errors,
        };
        let before = not_viable.len() + out_of_reach.len();
        let mut lost = Vec::new();
        for (text, places) in &errors {
            match blamed(&regions, places) {
                Some(region) if region.replacement => not_viable.extend(&region.numbers),
                Some(region) => {
                    eprintln!("no switch can be around this: {text}");
                    out_of_reach.extend(&region.numbers);
                }
                None => lost.push(text.as_str()),
            }
        }
        eprintln!(
            "round {round}: {} errors, {} not viable, {} out of reach",
            errors.len(),
            not_viable.len(),
            out_of_reach.len()
        );
        if not_viable.len() + out_of_reach.len() == before {
            return Err(format!("errors of the compiler that belong to no mutant:\n{}", lost.join("\n")));
        }
    }
    Err(format!("it does not compile after {ROUNDS} rounds"))
}

/// Each file that has mutants, as it is without them.
fn by_file<'a>(tree: &Path, mutants: &'a [Mutant]) -> Result<HashMap<&'a str, (String, Vec<&'a Mutant>)>, String> {
    let mut files: HashMap<&str, (String, Vec<&Mutant>)> = HashMap::new();
    for mutant in mutants {
        if !files.contains_key(mutant.file.as_str()) {
            let path = tree.join(&mutant.file);
            let source = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.insert(&mutant.file, (source, Vec::new()));
        }
        files.entry(&mutant.file).and_modify(|file| file.1.push(mutant));
    }
    Ok(files)
}

/// Whether a test program is the one that was just compiled.
fn check(program: &Path, mark: &str) -> Result<(), String> {
    let output =
        Command::new(program).arg("--list").output().map_err(|error| format!("{}: {error}", program.display()))?;
    let wanted = format!("mutant::{mark}: test");
    let has = String::from_utf8_lossy(&output.stdout).lines().any(|line| line == wanted);
    if has { Ok(()) } else { Err(format!("{} was compiled from other sources", program.display())) }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The smallest part that is there because of mutants and has the error in it. The first place at which a replacement is to be
/// blamed counts; only if there is none, all that has the switch around it.
fn blamed<'a>(regions: &'a HashMap<String, Vec<Region>>, places: &[Place]) -> Option<&'a Region> {
    let around = |place: &Place| {
        let has = |region: &&Region| region.bytes.start <= place.bytes.start && place.bytes.end <= region.bytes.end;
        regions.get(&place.file)?.iter().filter(has).min_by_key(|region| region.bytes.len())
    };
    let found: Vec<&Region> = places.iter().filter_map(around).collect();
    found.iter().find(|region| region.replacement).or(found.first()).copied()
}

/// The errors of a compilation: for each its text and the places of which it speaks, the first ones first.
type Errors = Vec<(String, Vec<Place>)>;

/// Compiles the tests. Of the whole package, the library comes first and alone: most rounds end there.
fn build(tree: &Path, what: What) -> Result<Result<Programs, Errors>, String> {
    if what == What::Whole
        && let Err(errors) = cargo(tree, &["build", "--lib"])?
    {
        return Ok(Err(errors));
    }
    let tests: &[&str] = match what {
        What::Units => &["test", "--no-run", "--lib"],
        What::Whole => &["test", "--no-run", "--lib", "--test", "it"],
    };
    let mut made = match cargo(tree, tests)? {
        Ok(made) => made,
        Err(errors) => return Ok(Err(errors)),
    };
    let units = made.remove("lib").ok_or("cargo told of no test program")?;
    Ok(Ok(Programs { units, integration: made.remove("test").zip(made.remove("bin")) }))
}

/// What cargo has made: programs by the kind of what they were made from.
type Made = HashMap<String, PathBuf>;

fn cargo(tree: &Path, arguments: &[&str]) -> Result<Result<Made, Errors>, String> {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).args(["--locked", "--quiet", "--message-format=json"]);
    let output =
        cargo.current_dir(tree).stderr(Stdio::inherit()).output().map_err(|error| format!("cargo: {error}"))?;
    let mut errors = Vec::new();
    let mut made = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let said = &message["message"];
        if said["level"].as_str().is_some_and(|level| level.starts_with("error")) {
            let text = said["rendered"].as_str().unwrap_or_default().to_owned();
            let places = places(&said["spans"]);
            if !places.is_empty() {
                errors.push((text, places));
            }
        }
        if let (Some(path), Some(kind)) = (message["executable"].as_str(), message["target"]["kind"][0].as_str()) {
            made.insert(kind.to_owned(), PathBuf::from(path));
        }
    }
    match (output.status.success(), errors.is_empty()) {
        (true, _) => Ok(Ok(made)),
        (false, false) => Ok(Err(errors)),
        (false, true) => Err(format!("cargo {} failed without an error in the sources", arguments.join(" "))),
    }
}

/// The places of an error. One in a macro is also that of the macro's call.
fn places(spans: &Value) -> Vec<Place> {
    let mut spans: Vec<&Value> = spans.as_array().into_iter().flatten().collect();
    spans.sort_by_key(|span| span["is_primary"] != Value::Bool(true));
    let mut places = Vec::new();
    for span in spans {
        let mut next = span;
        while let Some(file) = next["file_name"].as_str() {
            let byte = |name: &str| next[name].as_u64().and_then(|byte| usize::try_from(byte).ok()).unwrap_or_default();
            places.push(Place { file: file.to_owned(), bytes: byte("byte_start")..byte("byte_end") });
            next = &next["expansion"]["span"];
        }
    }
    places
}
