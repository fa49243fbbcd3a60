//! Runs tests with each of some mutants, compiled once with all of them.
//!
//! `postcall-mutants TREE LIST CHOSEN OUT FILTER`: the copy of the sources, which is changed; the list of its mutants as cargo-mutants
//! prints it in JSON; a file with the names of those to run; the directory of the results; which unit tests to run.
//!
//! `postcall-mutants whole TREE LIST CHOSEN OUT SOURCES SAMPLE SEED N TEST …` runs the whole suite instead: what identifies the sources; how many
//! of the chosen mutants are tried; what decides which ones; how many at a time; which tests, if not all.

mod compile;
mod list;
mod plant;
mod process;
mod reach;
mod results;
mod run;
mod server;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;

use list::Mutant;
use results::{Outcome, Results};

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["whole", rest @ ..] => whole(rest),
        [tree, list, chosen, out, filter] => room(Path::new(tree), list, chosen, Path::new(out), filter),
        _ => Err("it takes TREE LIST CHOSEN OUT FILTER".to_owned()),
    }
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn whole(arguments: &[&str]) -> Result<(), String> {
    let [tree, list, chosen, out, sources, sample, seed, at_a_time, tests @ ..] = arguments else {
        return Err("it takes whole TREE LIST CHOSEN OUT SOURCES SAMPLE SEED N TEST …".to_owned());
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("not a number: {text}"));
    let (mutants, chosen) = (list::read(&read(list)?)?, read(chosen)?);
    whole::work(&whole::Task {
        tree: Path::new(tree),
        mutants: &mutants,
        chosen: chosen.lines().collect(),
        out: Path::new(out),
        sources,
        sample: usize::try_from(number(sample)?).unwrap_or(usize::MAX),
        seed: number(seed)?,
        at_a_time: usize::try_from(number(at_a_time)?).unwrap_or(1).max(1),
        tests: tests.to_vec(),
    })
}

fn room(tree: &Path, list: &str, chosen: &str, out: &Path, filter: &str) -> Result<(), String> {
    let json = read(list)?;
    let mutants = list::read(&json)?;
    let chosen = read(chosen)?;
    let chosen: HashSet<&str> = chosen.lines().collect();
    let sources = results::fingerprint(tree, &json).map_err(|error| format!("{}: {error}", tree.display()))?;
    let mut results = Results::open(&out.join("results"), &sources).map_err(|error| format!("results: {error}"))?;

    let not_viable = mutants.iter().filter(|mutant| results.of(mutant) == Some(Outcome::NotViable));
    let not_viable = not_viable.map(|mutant| mutant.number).collect();
    let compiled = compile::compile(tree, &sources, &mutants, not_viable, compile::What::Units)?;
    // The next room has the same place for its program.
    let program = out.join("program");
    std::fs::copy(&compiled.programs.units, &program).map_err(|error| format!("{}: {error}", program.display()))?;
    for mutant in &mutants {
        let without_run = if compiled.not_viable.contains(&mutant.number) {
            Outcome::NotViable
        } else if compiled.not_switchable.contains(&mutant.number) {
            Outcome::NotSwitchable
        } else {
            continue;
        };
        if results.of(mutant).is_none() {
            results.add(mutant, without_run, 0.0).map_err(|error| format!("results: {error}"))?;
        }
    }
    let mine: Vec<&Mutant> = mutants.iter().filter(|mutant| chosen.contains(mutant.name.as_str())).collect();
    let pause = out.with_file_name("pause");
    run::run(&run::Place { program: &program, tree, pause: &pause }, filter, &mine, &mut results)?;
    for (name, outcome) in [("missed.txt", Outcome::Survived), ("not-switchable.txt", Outcome::NotSwitchable)] {
        let with = mine.iter().filter(|mutant| results.of(mutant) == Some(outcome));
        let names: String = with.map(|mutant| format!("{}\n", mutant.name)).collect();
        if outcome == Outcome::NotSwitchable && !names.is_empty() {
            print!("No switch can be around these, so nothing tries them:\n{names}");
        }
        std::fs::write(out.join(name), names).map_err(|error| format!("{name}: {error}"))?;
    }
    println!("{}", results.counts(&mine));
    Ok(())
}
