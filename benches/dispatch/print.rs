//! Prints figures to standard output: the name, the value and the unit. The same is kept for `--json`. A run has one
//! report, so the process has one, too.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

/// A figure of a `T`: its name, how it is computed, and its unit.
pub type Figure<T> = (&'static str, fn(&T) -> f64, &'static str);

/// The figures so far, and their circumstances.
struct Report {
    /// The subject that is being measured.
    subject: String,
    /// The group of figures that is being printed.
    chapter: String,
    /// The circumstances: the machine, versions and settings.
    circumstances: Map<String, Value>,
    figures: Vec<Value>,
}

static REPORT: Mutex<Option<Report>> = Mutex::new(None);

/// Calls `work` with the report.
fn with_report<T>(work: impl FnOnce(&mut Report) -> T) -> T {
    let mut report: MutexGuard<Option<Report>> = REPORT.lock().unwrap_or_else(PoisonError::into_inner);
    work(report.get_or_insert_with(|| Report {
        subject: String::new(),
        chapter: String::new(),
        circumstances: Map::new(),
        figures: Vec::new(),
    }))
}

/// Prints and keeps facts about the machine, and its load at the start, because figures of a busy machine mean little.
pub fn machine() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{cores} cores, load averages at the start: {}", load.join(" "));
    circumstance("cores", json!(cores));
    circumstance("kernel", json!(kernel.trim()));
    circumstance("load_averages", json!(load));
}

/// Keeps a circumstance that the figures depend on. It is only for the report.
pub fn circumstance(name: &str, value: Value) {
    with_report(|report| report.circumstances.insert(name.to_owned(), value));
}

/// Notes which subject the following figures belong to.
pub fn subject(name: &str) {
    with_report(|report| name.clone_into(&mut report.subject));
}

/// Begins a group of figures.
pub fn chapter(title: &str) {
    println!("\n── {title} {}", "─".repeat(98_usize.saturating_sub(title.chars().count())));
    with_report(|report| title.clone_into(&mut report.chapter));
}

/// Prints a sentence that explains figures.
pub fn note(text: &str) {
    println!("{text}");
}

/// Prints and keeps a figure that was measured once.
pub fn figure(what: &str, value: impl Display, unit: &str) {
    println!("{what:<76}{value:>12} {unit}");
    let text = value.to_string();
    let value = text.parse::<f64>().map_or_else(|_| json!(text), |number| json!(number));
    keep(what, value, unit, None, 1);
}

/// Prints and keeps a figure that was measured several times: the median, and the least and the greatest value. Returns
/// the median. Prints nothing if there are no values.
pub fn measured(what: &str, values: &[f64], unit: &str) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let mut sorted = values.to_vec();
    let [least, median, most] = [0.0, 0.5, 1.0].map(|share| percentile(&mut sorted, share));
    let spread = match values.len() {
        1 => String::new(),
        n => format!("  ({}–{} of {n})", rounded(least), rounded(most)),
    };
    println!("{what:<76}{:>12} {unit}{spread}", rounded(median));
    keep(what, json!(median), unit, Some([least, most]), values.len());
    Some(median)
}

/// Keeps a figure for the report without printing it: the median of `n` measurements, and the least and the greatest
/// value.
pub fn keep(what: &str, value: Value, unit: &str, spread: Option<[f64; 2]>, n: usize) {
    with_report(|report| {
        let Report { subject, chapter, .. } = report;
        let figure = json!({
            "subject": subject, "chapter": chapter, "name": what, "value": value, "unit": unit, "spread": spread, "n": n,
        });
        report.figures.push(figure);
    });
}

/// Writes the report so far to a file.
pub fn write_json(path: &Path) {
    let text = with_report(|report| {
        let mut all = report.circumstances.clone();
        all.insert("figures".to_owned(), Value::Array(report.figures.clone()));
        serde_json::to_string_pretty(&Value::Object(all)).unwrap()
    });
    std::fs::write(path, text + "\n").unwrap();
}

/// A number with a moderate number of digits, for people.
pub fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The value below which the part `share` of the values lies. Sorts the values.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).expect("percentile of nothing");
    values[(last as f64 * share).round() as usize]
}

/// The quotients of values that were measured next to each other, pair by pair. A pair is left out if its second value
/// could not be measured.
pub fn ratios(values: &[f64], references: &[f64]) -> Vec<f64> {
    values
        .iter()
        .zip(references)
        .filter(|(_, reference)| **reference > 0.0)
        .map(|(value, reference)| value / reference)
        .collect()
}
