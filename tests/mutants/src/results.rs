//! What is known about the mutants, in a file with a line for each, so that a run that was interrupted goes on where it was.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::Path;

use crate::list::Mutant;

/// What has become of a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A test failed.
    Noticed,
    /// The tests did not end.
    Timeout,
    /// All tests passed.
    Survived,
    /// No test comes to it.
    NotReached,
    /// The tests that were tried passed, but there are others.
    Undecided,
    /// It does not compile.
    NotViable,
    /// No switch can be around it.
    NotSwitchable,
}

impl Outcome {
    const ALL: [(Outcome, &'static str); 7] = [
        (Outcome::Noticed, "noticed"),
        (Outcome::Timeout, "timeout"),
        (Outcome::Survived, "survived"),
        (Outcome::NotReached, "not reached"),
        (Outcome::Undecided, "undecided"),
        (Outcome::NotViable, "not viable"),
        (Outcome::NotSwitchable, "not switchable"),
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, name)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(outcome, _)| *outcome)
    }
}

/// The results of a room.
pub struct Results {
    file: File,
    /// How long the file was when the tests last passed without a mutant.
    trusted: u64,
    known: HashMap<String, (Outcome, f64)>,
}

impl Results {
    /// Reads what is known for these sources. Results for other sources are forgotten.
    pub fn open(path: &Path, sources: &str) -> io::Result<Self> {
        let mut known = HashMap::new();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        let same = lines.next() == Some(sources);
        if !same {
            std::fs::write(path, format!("{sources}\n"))?;
        }
        for line in lines.filter(|_| same) {
            let mut parts = line.split('\t');
            let (outcome, seconds, name) = (parts.next(), parts.next(), parts.next());
            let outcome = outcome.and_then(Outcome::from_name);
            let seconds = seconds.and_then(|seconds| seconds.parse().ok());
            if let (Some(outcome), Some(seconds), Some(name)) = (outcome, seconds, name) {
                known.insert(name.to_owned(), (outcome, seconds));
            }
        }
        let file = OpenOptions::new().append(true).open(path)?;
        let trusted = file.metadata()?.len();
        Ok(Self { file, trusted, known })
    }

    /// The tests pass without a mutant, so what was added is kept.
    pub fn trust(&mut self) -> io::Result<()> {
        self.trusted = self.file.metadata()?.len();
        Ok(())
    }

    /// Forgets what was added since the tests last passed without a mutant; the next run finds it out again.
    pub fn forget_untrusted(&mut self) -> io::Result<()> {
        self.file.set_len(self.trusted)
    }

    /// What is known about a mutant.
    pub fn of(&self, mutant: &Mutant) -> Option<Outcome> {
        self.known.get(&mutant.name).map(|(outcome, _)| *outcome)
    }

    /// Writes down what has become of a mutant.
    pub fn add(&mut self, mutant: &Mutant, outcome: Outcome, seconds: f64) -> io::Result<()> {
        self.add_by(mutant, outcome, seconds, "")
    }

    /// The same, with the name of the test that noticed it.
    pub fn add_by(&mut self, mutant: &Mutant, outcome: Outcome, seconds: f64, by: &str) -> io::Result<()> {
        let line = format!("{}\t{seconds:.2}\t{}\t{by}", outcome.name(), mutant.name);
        writeln!(self.file, "{}", line.trim_end())?;
        self.known.insert(mutant.name.clone(), (outcome, seconds));
        Ok(())
    }

    /// How many there are of each outcome among these, and how long their tests have run, one after the other.
    pub fn counts(&self, mutants: &[&Mutant]) -> String {
        let with = |wanted| mutants.iter().filter(|mutant| self.of(mutant) == Some(wanted)).count();
        let counts = Outcome::ALL.map(|(outcome, name)| (with(outcome), name)).into_iter();
        let counts: Vec<String> =
            counts.filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
        let times = mutants.iter().filter_map(|mutant| self.known.get(&mutant.name)).map(|(_, seconds)| seconds);
        let seconds = times.fold(0.0, |sum, time| sum + time);
        format!("{} mutants: {}; tests ran {seconds:.0} s", mutants.len(), counts.join(", "))
    }
}

/// Identifies the sources of a copy and the list of their mutants.
pub fn fingerprint(tree: &Path, list: &str) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    list.hash(&mut hasher);
    let mut waiting = vec![tree.join("src"), tree.join("Cargo.toml"), tree.join("Cargo.lock")];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let mut entries =
                std::fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            entries.sort();
            waiting.extend(entries);
        } else {
            path.strip_prefix(tree).unwrap_or(&path).hash(&mut hasher);
            std::fs::read(&path)?.hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}
