//! Watches the workers of a dispatcher. Each worker is a task that runs until it is told to stop. If a worker ends before
//! that, by a panic or by returning, the whole dispatcher stops. Otherwise the other workers would go on without it:
//! requests would be sent that nobody records, or no work would be done any more, and nobody would notice.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::{Instrument, error};

use super::policy::PolicyConflict;

/// A worker of a dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Worker {
    /// Finds out which lanes have work, and what is paused.
    Scout,
    /// Claims deliveries and starts their attempts.
    Claimer,
    /// Records the results of the attempts.
    Finisher,
    /// Renews the lease.
    Lease,
    /// Gives up what lost dispatchers had in flight.
    Recovery,
    /// Makes partitions, and removes old calls and history.
    Housekeeping,
    /// Finds out when unreachable hosts can be reached again.
    Prober,
    /// Reports what this dispatcher does.
    Reporter,
    /// Seals history.
    Sealer,
}

/// Why a dispatcher stopped without being asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopCause {
    /// A worker panicked. This is a defect of postcall.
    #[error("its {0} panicked")]
    Panicked(Worker),
    /// A worker returned although it had not been told to stop. This is a defect of postcall.
    #[error("its {0} ended before it was told to")]
    Ended(Worker),
    /// The dispatcher was declared lost, and others replaced its policy in the meantime.
    #[error("it was declared lost, and others have replaced its policy meanwhile. {0}")]
    PolicyReplaced(PolicyConflict),
}

/// The work of a worker. It ends when the worker is told to stop, or when it finds a reason to stop the dispatcher.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<(), PolicyConflict>> + Send>>;

/// Watches the workers of one dispatcher.
pub(super) struct Watch<Alarm> {
    tasks: JoinSet<Result<(), PolicyConflict>>,
    /// The workers that have not ended.
    running: HashMap<Id, Worker>,
    /// The workers that may end now.
    dismissed: Vec<Worker>,
    /// The first thing that went wrong.
    cause: Option<StopCause>,
    /// Called at once for every worker that ends when it must not.
    alarm: Alarm,
}

impl<Alarm: FnMut(Worker)> Watch<Alarm> {
    pub(super) fn new(alarm: Alarm) -> Watch<Alarm> {
        Watch { tasks: JoinSet::new(), running: HashMap::new(), dismissed: Vec::new(), cause: None, alarm }
    }

    /// Lets a worker begin its work.
    pub(super) fn start(&mut self, worker: Worker, work: Work) {
        let task = self.tasks.spawn(work.in_current_span());
        self.running.insert(task.id(), worker);
    }

    /// Waits for `event`, and watches the workers meanwhile.
    pub(super) async fn until<T>(&mut self, event: impl Future<Output = T>) -> T {
        let mut event = std::pin::pin!(event);
        loop {
            // The event is checked first: a worker that ends because of the event does not end too early.
            tokio::select! {
                biased;
                done = &mut event => return done,
                Some(ended) = self.tasks.join_next_with_id() => self.note(ended),
            }
        }
    }

    /// Notes that this worker may end from now on, because it was told to stop or has nothing left to do.
    pub(super) fn dismiss(&mut self, worker: Worker) {
        self.dismissed.push(worker);
    }

    /// Dismisses a worker, and waits until it has ended, in whatever way.
    pub(super) async fn end_of(&mut self, worker: Worker) {
        self.dismiss(worker);
        while self.running.values().any(|running| *running == worker) {
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.note(ended),
                None => return,
            }
        }
    }

    /// What went wrong first, if anything did.
    pub(super) fn cause(self) -> Option<StopCause> {
        self.cause
    }

    fn note(&mut self, ended: Result<(Id, Result<(), PolicyConflict>), JoinError>) {
        let (id, cause): (Id, fn(Worker) -> StopCause) = match ended {
            Ok((id, Err(conflict))) => {
                let Some(worker) = self.running.remove(&id) else { return };
                return self.raise(worker, StopCause::PolicyReplaced(conflict));
            }
            Ok((id, Ok(()))) => (id, StopCause::Ended),
            Err(error) => (error.id(), StopCause::Panicked),
        };
        let Some(worker) = self.running.remove(&id) else { return };
        match cause(worker) {
            StopCause::Ended(worker) if self.dismissed.contains(&worker) => {}
            cause => self.raise(worker, cause),
        }
    }

    fn raise(&mut self, worker: Worker, cause: StopCause) {
        error!(%worker, %cause, "this dispatcher cannot go on and stops");
        (self.alarm)(worker);
        self.cause.get_or_insert(cause);
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Worker::Scout => "scout",
            Worker::Claimer => "claimer",
            Worker::Finisher => "finisher",
            Worker::Lease => "lease keeper",
            Worker::Recovery => "recovery",
            Worker::Housekeeping => "housekeeping",
            Worker::Prober => "prober",
            Worker::Reporter => "reporter",
            Worker::Sealer => "sealer",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;

    /// How long the alarm may take.
    const PATIENCE: Duration = Duration::from_secs(30);

    type Alarms = Arc<Mutex<Vec<Worker>>>;

    fn watch() -> (Watch<impl FnMut(Worker)>, Alarms) {
        let alarms = Alarms::default();
        let raised = alarms.clone();
        (Watch::new(move |worker| raised.lock().unwrap().push(worker)), alarms)
    }

    /// A worker that does what it should.
    fn works_until(told: &CancellationToken) -> Work {
        let told = told.clone();
        Box::pin(async move {
            told.cancelled().await;
            Ok(())
        })
    }

    #[tokio::test]
    async fn a_worker_that_panics_or_returns_too_early_raises_the_alarm_at_once_and_is_named() {
        let panics = || -> Work { Box::pin(async { panic!("a defect, as this test wants it") }) };
        let returns = || -> Work { Box::pin(async { Ok(()) }) };
        for (work, expected) in
            [(panics(), StopCause::Panicked(Worker::Finisher)), (returns(), StopCause::Ended(Worker::Finisher))]
        {
            let (mut watch, alarms) = watch();
            let told = CancellationToken::new();
            watch.start(Worker::Claimer, works_until(&told));
            watch.start(Worker::Finisher, work);
            let rung = async {
                while alarms.lock().unwrap().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, watch.until(rung)).await.expect("the alarm rings");
            assert_eq!(*alarms.lock().unwrap(), [Worker::Finisher]);
            told.cancel();
            watch.end_of(Worker::Claimer).await;
            watch.end_of(Worker::Finisher).await;
            assert_eq!(*alarms.lock().unwrap(), [Worker::Finisher], "the others end in good order");
            assert_eq!(watch.cause(), Some(expected));
        }
    }

    #[tokio::test]
    async fn a_panic_counts_even_while_a_worker_is_stopping() {
        let (mut watch, alarms) = watch();
        let told = CancellationToken::new();
        let stopping = told.clone();
        watch.start(
            Worker::Lease,
            Box::pin(async move {
                stopping.cancelled().await;
                panic!("a defect on the way out, as this test wants it")
            }),
        );
        told.cancel();
        watch.end_of(Worker::Lease).await;
        assert_eq!(*alarms.lock().unwrap(), [Worker::Lease]);
        assert_eq!(watch.cause(), Some(StopCause::Panicked(Worker::Lease)));
    }

    #[tokio::test]
    async fn workers_that_end_when_they_are_told_to_are_no_trouble() {
        let (mut watch, alarms) = watch();
        let told = CancellationToken::new();
        for worker in [Worker::Claimer, Worker::Finisher, Worker::Lease, Worker::Housekeeping] {
            watch.start(worker, works_until(&told));
        }
        told.cancel();
        for worker in [Worker::Claimer, Worker::Finisher, Worker::Lease, Worker::Housekeeping] {
            watch.end_of(worker).await;
        }
        assert!(alarms.lock().unwrap().is_empty());
        assert_eq!(watch.cause(), None);
    }

    #[test]
    fn a_cause_names_its_worker() {
        let told = [StopCause::Panicked(Worker::Lease), StopCause::Ended(Worker::Scout)].map(|cause| cause.to_string());
        assert_eq!(told, ["its lease keeper panicked", "its scout ended before it was told to"]);
    }
}
