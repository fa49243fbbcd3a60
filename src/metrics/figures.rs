//! Figures of the whole installation, read from the database when somebody asks for them, and not more often than every
//! [`LEAST_AGE`], whoever asks and however many ask.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::domain::chain::chain;
use crate::store::figures::{DispatcherCounts, PartitionFigures, QueueFigures};
use crate::store::invariants::Invariant;
use crate::store::session::Session;
use crate::store::status::Count;
use crate::store::{Store, StoreError};

/// The shortest time between the beginnings of two readings. Figures of this age count as fresh.
const LEAST_AGE: Duration = Duration::from_secs(5);
/// How long each statement may take. Usually they take milliseconds.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long somebody who asks waits for figures. Less than a second, because that is how long a probe of Kubernetes
/// waits if nobody has set anything else.
const PATIENCE: Duration = Duration::from_millis(800);
/// A figure takes no more than one part in so many of the time, unless [`LONGEST_PAUSE`] is over first. While somebody
/// holds a snapshot, some have to skip many dead rows.
const RARITY: u32 = 20;
/// After this time, a figure is read again, however long it took.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the database says. What could not be read is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct DatabaseFigures {
    pub(super) dispatchers: Option<DispatcherCounts>,
    pub(super) queue: Option<QueueFigures>,
    /// Within it, `None` if nothing waits that is not paused.
    pub(super) oldest_unpaused: Option<Option<f64>>,
    pub(super) unknown: Option<Count>,
    pub(super) partitions: Option<Vec<PartitionFigures>>,
    /// Within it, `None` if history is not sealed.
    pub(super) oldest_unsealed: Option<Option<f64>>,
    pub(super) violations: Option<Vec<(Invariant, i64)>>,
}

/// How far a reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The database has answered; figures are still being read.
    Answered,
    /// Everything was read that could be.
    Complete,
    /// The database did not answer.
    Failed,
}

#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    progress: Progress,
    figures: DatabaseFigures,
}

impl Reading {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < LEAST_AGE
    }
}

/// Those who ask.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    readings: watch::Receiver<Option<Reading>>,
    wanted: Arc<Notify>,
}

impl Figures {
    /// Figures of this database. They are read by the returned work. `seals` says whether this dispatcher seals history.
    pub(super) fn of(
        store: &Store,
        errors: &Arc<AtomicU64>,
        seals: bool,
    ) -> (Figures, impl Future<Output = ()> + use<>) {
        let (sender, readings) = watch::channel(None);
        let wanted = Arc::new(Notify::new());
        let session = store.session(STATEMENT_TIMEOUT).counting(errors);
        let reader = Reader { session, sender, wanted: wanted.clone(), groups: Groups { seals, ..Groups::default() } };
        (Figures { readings, wanted }, reader.run())
    }

    /// The figures now; `None` if the database does not answer. Waits no longer than [`PATIENCE`], and not at all
    /// during an outage that is known.
    pub(super) async fn get(&self) -> Option<DatabaseFigures> {
        let mut readings = self.readings.clone();
        if let Some(reading) = &*readings.borrow() {
            match reading.progress {
                // The reader tries again by itself.
                Progress::Failed => return None,
                Progress::Complete if reading.is_fresh() => return Some(reading.figures.clone()),
                Progress::Complete | Progress::Answered => {}
            }
        }
        self.wanted.notify_one();
        let settled = readings.wait_for(|reading| {
            reading.as_ref().is_some_and(|reading| reading.progress != Progress::Answered && reading.is_fresh())
        });
        let _waited = tokio::time::timeout(PATIENCE, settled).await;
        // If only some figures are slow, the database is there nevertheless.
        let reading = self.readings.borrow();
        let answered = reading.as_ref().filter(|reading| reading.progress != Progress::Failed && reading.is_fresh());
        answered.map(|reading| reading.figures.clone())
    }
}

/// The one who reads.
struct Reader {
    session: Session,
    sender: watch::Sender<Option<Reading>>,
    wanted: Arc<Notify>,
    groups: Groups,
}

impl Reader {
    /// Reads when figures are wanted, and during an outage until it is over.
    async fn run(mut self) {
        loop {
            let is_outage = matches!(&*self.sender.borrow(), Some(Reading { progress: Progress::Failed, .. }));
            if !is_outage {
                self.wanted.notified().await;
            }
            let begun = Instant::now();
            self.read().await;
            tokio::time::sleep_until(begun + LEAST_AGE).await;
        }
    }

    async fn read(&mut self) {
        let dispatchers = match self.session.dispatcher_counts().await {
            Ok(counts) => counts,
            Err(error) => {
                debug!(error = %chain(&error), "cannot read figures for the metrics");
                return self.publish(Progress::Failed, DatabaseFigures::default());
            }
        };
        self.publish(Progress::Answered, self.groups.figures(dispatchers));
        self.groups.read(&mut self.session).await;
        self.publish(Progress::Complete, self.groups.figures(dispatchers));
    }

    fn publish(&self, progress: Progress, figures: DatabaseFigures) {
        self.sender.send_replace(Some(Reading { at: Instant::now(), progress, figures }));
    }
}

/// The figures that are read one after the other, each as seldom as it has to be.
#[derive(Default)]
struct Groups {
    queue: Group<QueueFigures>,
    oldest_unpaused: Group<Option<f64>>,
    unknown: Group<Count>,
    partitions: Group<Vec<PartitionFigures>>,
    oldest_unsealed: Group<Option<f64>>,
    violations: Group<Vec<(Invariant, i64)>>,
    /// Whether this dispatcher seals history.
    seals: bool,
}

impl Groups {
    async fn read(&mut self, session: &mut Session) {
        if self.queue.is_due() {
            let begun = Instant::now();
            self.queue.note(begun, session.queue_figures().await);
        }
        if self.oldest_unpaused.is_due() {
            let begun = Instant::now();
            self.oldest_unpaused.note(begun, session.oldest_unpaused().await);
        }
        if self.unknown.is_due() {
            let begun = Instant::now();
            self.unknown.note(begun, session.unknown_unresolved().await);
        }
        if self.partitions.is_due() {
            let begun = Instant::now();
            self.partitions.note(begun, session.partition_figures().await);
        }
        if self.oldest_unsealed.is_due() {
            let begun = Instant::now();
            self.oldest_unsealed.note(begun, session.oldest_unsealed(self.seals).await);
        }
        if self.violations.is_due() {
            let begun = Instant::now();
            self.violations.note(begun, session.cheap_violations().await);
        }
    }

    fn figures(&self, dispatchers: DispatcherCounts) -> DatabaseFigures {
        DatabaseFigures {
            dispatchers: Some(dispatchers),
            queue: self.queue.value,
            oldest_unpaused: self.oldest_unpaused.value,
            unknown: self.unknown.value,
            partitions: self.partitions.value.clone(),
            oldest_unsealed: self.oldest_unsealed.value,
            violations: self.violations.value.clone(),
        }
    }
}

/// The last value of a figure, and when it is read next.
struct Group<T> {
    value: Option<T>,
    due: Option<Instant>,
    /// Whether it was said that the right to read it is missing: an alert that needs it is blind until somebody grants it.
    is_told: bool,
}

impl<T> Default for Group<T> {
    fn default() -> Group<T> {
        Group { value: None, due: None, is_told: false }
    }
}

impl<T> Group<T> {
    fn is_due(&self) -> bool {
        self.due.is_none_or(|due| Instant::now() >= due)
    }

    /// Notes what a reading that began at `begun` has found. A value that could not be read again is forgotten.
    fn note(&mut self, begun: Instant, read: Result<T, StoreError>) {
        self.due = Some(begun + (begun.elapsed() * RARITY).min(LONGEST_PAUSE));
        if let Err(error) = &read {
            if error.is_forbidden() && !std::mem::replace(&mut self.is_told, true) {
                warn!(error = %chain(error), "a figure for the metrics may not be read by this database user");
            } else {
                debug!(error = %chain(error), "cannot read a figure for the metrics");
            }
        }
        self.value = read.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_figure_is_read_the_less_often_the_longer_it_takes_but_once_a_minute_at_least() {
        for (takes_ms, pause_ms) in [(0, 0), (10, 200), (2_000, 40_000), (8_000, 60_000)] {
            let mut group = Group::default();
            assert!(group.is_due());
            let begun = Instant::now();
            tokio::time::sleep(Duration::from_millis(takes_ms)).await;
            group.note(begun, Ok(7));
            assert_eq!(group.due, Some(begun + Duration::from_millis(pause_ms)));
            assert_eq!(group.value, Some(7));
            group.note(begun, Err(StoreError::Unanswered(STATEMENT_TIMEOUT)));
            assert_eq!(group.value, None, "what could not be read again is not told any more");
        }
    }
}
