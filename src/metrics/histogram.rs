//! A histogram of durations that is recorded into without a lock: one comparison per bucket, and two additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts durations by the bucket into which they fall.
#[derive(Debug)]
pub(super) struct Histogram {
    /// The upper bounds of the buckets, in milliseconds, in rising order. A duration beyond the last is counted, too.
    bounds_ms: &'static [u64],
    /// One count for each bound, and one for what is beyond the last.
    counts: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Distribution {
    /// The upper bound of each bucket in seconds, and how many durations fell into this bucket and no lower one.
    pub(super) buckets: Vec<(f64, u64)>,
    /// The sum of all durations, in seconds.
    pub(super) sum: f64,
}

impl Histogram {
    pub(super) fn new(bounds_ms: &'static [u64]) -> Histogram {
        let counts = (0..=bounds_ms.len()).map(|_| AtomicU64::default()).collect();
        Histogram { bounds_ms, counts, sum_us: AtomicU64::default() }
    }

    pub(super) fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds_ms.iter().position(|bound_ms| us <= bound_ms * 1_000).unwrap_or(self.bounds_ms.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn distribution(&self) -> Distribution {
        let bounds = self.bounds_ms.iter().map(|ms| *ms as f64 / 1_000.0).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1_000_000.0;
        Distribution { buckets: bounds.zip(counts).collect(), sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_is_not_below_it_and_none_is_lost() {
        let histogram = Histogram::new(&[5, 10, 120_000]);
        for us in [0, 5_000, 5_001, 10_000, 120_000_000, 120_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        histogram.observe(Duration::MAX.min(Duration::from_secs(1 << 40)));
        let Distribution { buckets, .. } = histogram.distribution();
        assert_eq!(buckets, [(0.005, 2), (0.01, 2), (120.0, 1), (f64::INFINITY, 2)]);
    }
}
