//! How figures are printed: what it is, how much, of what.

use std::fmt::Display;

/// The load at the start: figures of a busy machine mean little.
pub fn machine() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    println!("{cores} cores, load averages at the start: {}", load.join(" "));
}

/// Begins a group of figures.
pub fn chapter(title: &str) {
    println!("\n── {title} {}", "─".repeat(98_usize.saturating_sub(title.chars().count())));
}

/// A sentence that figures need to be understood.
pub fn note(text: &str) {
    println!("{text}");
}

/// One figure.
pub fn figure(what: &str, value: impl Display, unit: &str) {
    println!("{what:<76}{value:>12} {unit}");
}

/// A number of moderate size for people.
pub fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The value below which `share` of the values lie. Sorts them.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).expect("percentile of nothing");
    values[(last as f64 * share).round() as usize]
}

/// One line with the percentiles of milliseconds.
pub fn percentiles(what: &str, values: &mut [f64]) {
    let [p50, p95, p99, max] = [0.5, 0.95, 0.99, 1.0].map(|share| rounded(percentile(values, share)));
    println!("{what:<60} p50 {p50}  p95 {p95}  p99 {p99}  max {max} ms ({} calls)", values.len());
}
