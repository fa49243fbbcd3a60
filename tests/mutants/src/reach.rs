//! Which test comes to which mutants, and in which order the tests of a mutant run.

use std::collections::HashMap;

/// How much sooner a test is tried with the mutants of a file that it seems to be about.
const CLOSENESS: f64 = 0.1;

/// A test, as it ran without a mutant.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// Whether it is one of the unit tests.
    pub unit: bool,
    /// Its name.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// How long it took.
    pub seconds: f64,
    /// The mutants to whose switches it came.
    pub reached: Vec<u32>,
}

impl Test {
    /// A line of the table.
    pub fn line(&self) -> String {
        let reached: Vec<String> = self.reached.iter().map(u32::to_string).collect();
        let (sort, how) = (if self.unit { "unit" } else { "it" }, if self.passed { "passed" } else { "failed" });
        format!("{sort}\t{}\t{how}\t{:.3}\t{}\n", self.name, self.seconds, reached.join(","))
    }

    /// Reads a line of the table.
    pub fn of_line(line: &str) -> Option<Test> {
        let [sort, name, how, seconds, reached] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let reached = reached.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok());
        Some(Test {
            unit: sort == "unit",
            name: name.to_owned(),
            passed: how == "passed",
            seconds: seconds.parse().ok()?,
            reached: reached.collect::<Option<_>>()?,
        })
    }

    /// The quicker a test is, and the fewer mutants it comes to, the sooner it is tried; one that seems to be about the mutant's file first.
    fn cost(&self, file: &str) -> f64 {
        let closeness = if self.seems_to_be_about(file) { CLOSENESS } else { 1.0 };
        (self.seconds + 0.2) * (self.reached.len() as f64).sqrt() * closeness
    }

    /// Whether the test's module has the name of the file, or one name is the beginning of the other: `secrets_rekeyed::a_test` and
    /// `src/store/secrets.rs`.
    fn seems_to_be_about(&self, file: &str) -> bool {
        let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let stem = path.rsplit('/').next().unwrap_or(path);
        let Some((modules, _)) = self.name.rsplit_once("::") else { return false };
        modules.split("::").any(|module| module.starts_with(stem) || stem.starts_with(module))
    }
}

/// For each mutant, of which `file` tells the file, the tests that come to it, in the order in which they are tried. Tests that fail
/// without a mutant tell nothing.
pub fn by_mutant<'a>(tests: &[Test], file: impl Fn(u32) -> &'a str) -> HashMap<u32, Vec<usize>> {
    let mut all: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, test) in tests.iter().enumerate().filter(|(_, test)| test.passed) {
        for number in &test.reached {
            all.entry(*number).or_default().push(index);
        }
    }
    for (number, indexes) in &mut all {
        let file = file(*number);
        indexes.sort_by(|a, b| tests[*a].cost(file).total_cmp(&tests[*b].cost(file)));
    }
    all
}

/// Puts items with these names into an order that chance decides: the seed, the name of each, and how many have had the same name
/// before it. So most of them are in the same order if the list has changed a little.
pub fn shuffle<T>(seed: u64, items: &mut Vec<T>, name: impl Fn(&T) -> String) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut keyed: Vec<(u64, T)> = Vec::new();
    for item in items.drain(..) {
        let name = name(&item);
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        // FNV-1a, and the last steps of splitmix64, which make all bits depend on all.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let bytes = seed.to_le_bytes().into_iter().chain(count.to_le_bytes()).chain(name.bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, step);
        let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        keyed.push((mixed ^ (mixed >> 31), item));
    }
    keyed.sort_by_key(|(hash, _)| *hash);
    items.extend(keyed.into_iter().map(|(_, item)| item));
}
