//! What `replay` and `resolve` have in common when criteria name the deliveries: the limit, the dry run and the progress.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use indicatif::{ProgressBar, ProgressStyle};

use super::{CliError, Format, history, print_line};
use crate::store::history::{HistoryRow, StateCount};

/// The default of `--limit`: how many deliveries the criteria may match.
pub(super) const DEFAULT_LIMIT: usize = 10_000;
/// The range of `--limit`.
pub(super) const LIMITS: RangeInclusive<u64> = 1..=1_000_000;

/// That the criteria match too much. `done` is what is not done.
pub(super) fn too_many(done: &str, limit: usize) -> CliError {
    CliError::Problem(format!(
        "nothing is {done}: more than {limit} deliveries match. Use narrower criteria, or raise --limit"
    ))
}

/// Says how many deliveries are left out because of their state, and what includes them. Counting stops above the limit.
pub(super) fn say_left_out(left: &StateCount, limit: usize, cure: &str) {
    let count = usize::try_from(left.count).unwrap_or(usize::MAX);
    let count = if count > limit { format!("more than {limit}") } else { count.to_string() };
    eprintln!("left out: {count} {} ({cure})", left.state);
}

/// The dry run: prints with which deliveries it would be done, and how many they are by state.
pub(super) fn announce(verb: &str, rows: &[HistoryRow]) -> Result<(), CliError> {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *states.entry(row.state.as_str()).or_default() += 1;
    }
    let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    if !rows.is_empty() {
        history::print(rows, Format::Table)?;
    }
    let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
    print_line(&format!("would {verb} {}{states}", rows.len()))
}

/// A bar on stderr, if that is a terminal; otherwise lines.
pub(super) struct Progress {
    bar: ProgressBar,
    all: usize,
}

impl Progress {
    pub(super) fn of(all: usize) -> Progress {
        let bar = ProgressBar::new(all as u64);
        bar.set_style(ProgressStyle::default_bar());
        Progress { bar, all }
    }

    pub(super) fn is_at(&self, done: usize) {
        self.bar.set_position(done as u64);
        if self.bar.is_hidden() {
            eprintln!("{done} of {}", self.all);
        }
    }

    pub(super) fn ends(&self) {
        self.bar.finish();
    }

    /// It was interrupted after so many.
    pub(super) fn breaks(&self, made: usize, done: &str) {
        self.bar.abandon();
        eprintln!("{made} were {done} before this; repeat the command for the rest");
    }
}
