//! The mutants that cargo-mutants lists.

use serde_json::Value;

/// One mistake that can be made in the sources.
pub struct Mutant {
    /// What `POSTCALL_MUTANT` says to switch it on. Numbers begin with 1.
    pub number: u32,
    /// Its name, as cargo-mutants prints it.
    pub name: String,
    /// The file that it is in, as the compiler names it, too.
    pub file: String,
    /// Which kind of mistake it is.
    pub genre: String,
    /// What stands there instead.
    pub replacement: String,
    /// The line and the column, both from 1, where what is replaced begins.
    pub start: (usize, usize),
    /// Whether its function returns a type that only its body tells, so that no other value can be returned beside it.
    pub hidden_type: bool,
}

impl Mutant {
    /// Its name without its place in the file, which moves when something above it changes.
    pub fn without_place(&self) -> String {
        let mut parts = self.name.splitn(4, ':');
        match (parts.next(), parts.nth(2)) {
            (Some(file), Some(what)) => format!("{file}:{what}"),
            _ => self.name.clone(),
        }
    }
}

/// Reads the list that `cargo mutants --list --json` prints.
pub fn read(json: &str) -> Result<Vec<Mutant>, String> {
    let list: Vec<Value> = serde_json::from_str(json).map_err(|error| format!("the list of mutants: {error}"))?;
    (1..).zip(&list).map(|(number, entry)| one(number, entry).ok_or(format!("not a mutant: {entry}"))).collect()
}

fn one(number: u32, entry: &Value) -> Option<Mutant> {
    let text = |name: &str| entry[name].as_str().map(str::to_owned);
    let place = |name: &str| usize::try_from(entry["span"]["start"][name].as_u64()?).ok();
    Some(Mutant {
        number,
        name: text("name")?,
        file: text("file")?,
        genre: text("genre")?,
        replacement: text("replacement")?,
        start: (place("line")?, place("column")?),
        hidden_type: entry["function"]["return_type"].as_str().is_some_and(|written| written.contains("impl ")),
    })
}
