//! Watches the rooms of a dispatcher. Each room is a task that runs until it is told to stop. If a room ends before
//! that, by a panic or by returning, the whole dispatcher stops. Otherwise the other rooms would go on without it:
//! requests would be sent that nobody records, or no work would be done any more, and nobody would notice.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::error;

use super::policy::PolicyConflict;

/// A room of a dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Room {
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
}

/// Why a dispatcher stopped without being asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// A room panicked. This is a defect of postcall.
    #[error("its {0} panicked")]
    Panicked(Room),
    /// A room returned although it had not been told to stop. This is a defect of postcall.
    #[error("its {0} ended before it was told to")]
    Ended(Room),
    /// The dispatcher was declared lost, and others replaced its policy in the meantime.
    #[error("it was declared lost, and others have replaced its policy meanwhile. {0}")]
    PolicyReplaced(PolicyConflict),
}

/// The work of a room. It ends when the room is told to stop, or when it finds a reason to stop the dispatcher.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<(), PolicyConflict>> + Send>>;

/// Watches the rooms of one dispatcher.
pub(super) struct Watch<Alarm> {
    tasks: JoinSet<Result<(), PolicyConflict>>,
    /// The rooms that have not ended.
    running: HashMap<Id, Room>,
    /// The rooms that may end now.
    dismissed: Vec<Room>,
    /// The first thing that went wrong.
    cause: Option<Cause>,
    /// Called at once for every room that ends when it must not.
    alarm: Alarm,
}

impl<Alarm: FnMut(Room)> Watch<Alarm> {
    pub(super) fn new(alarm: Alarm) -> Watch<Alarm> {
        Watch { tasks: JoinSet::new(), running: HashMap::new(), dismissed: Vec::new(), cause: None, alarm }
    }

    /// Lets a room begin its work.
    pub(super) fn open(&mut self, room: Room, work: Work) {
        let task = self.tasks.spawn(work);
        self.running.insert(task.id(), room);
    }

    /// Waits for `event`, and watches the rooms meanwhile.
    pub(super) async fn until<T>(&mut self, event: impl Future<Output = T>) -> T {
        let mut event = std::pin::pin!(event);
        loop {
            // The event is checked first: a room that ends because of the event does not end too early.
            tokio::select! {
                biased;
                done = &mut event => return done,
                Some(ended) = self.tasks.join_next_with_id() => self.note(ended),
            }
        }
    }

    /// Notes that this room may end from now on, because it was told to stop or has nothing left to do.
    pub(super) fn dismiss(&mut self, room: Room) {
        self.dismissed.push(room);
    }

    /// Dismisses a room, and waits until it has ended, in whatever way.
    pub(super) async fn end_of(&mut self, room: Room) {
        self.dismiss(room);
        while self.running.values().any(|running| *running == room) {
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.note(ended),
                None => return,
            }
        }
    }

    /// What went wrong first, if anything did.
    pub(super) fn cause(self) -> Option<Cause> {
        self.cause
    }

    fn note(&mut self, ended: Result<(Id, Result<(), PolicyConflict>), JoinError>) {
        let (id, cause): (Id, fn(Room) -> Cause) = match ended {
            Ok((id, Err(conflict))) => {
                let Some(room) = self.running.remove(&id) else { return };
                return self.raise(room, Cause::PolicyReplaced(conflict));
            }
            Ok((id, Ok(()))) => (id, Cause::Ended),
            Err(error) => (error.id(), Cause::Panicked),
        };
        let Some(room) = self.running.remove(&id) else { return };
        match cause(room) {
            Cause::Ended(room) if self.dismissed.contains(&room) => {}
            cause => self.raise(room, cause),
        }
    }

    fn raise(&mut self, room: Room, cause: Cause) {
        error!(%room, %cause, "this dispatcher cannot go on and stops");
        (self.alarm)(room);
        self.cause.get_or_insert(cause);
    }
}

impl fmt::Display for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Room::Scout => "scout",
            Room::Claimer => "claimer",
            Room::Finisher => "finisher",
            Room::Lease => "lease keeper",
            Room::Recovery => "recovery",
            Room::Housekeeping => "housekeeping",
            Room::Prober => "prober",
            Room::Reporter => "reporter",
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

    type Alarms = Arc<Mutex<Vec<Room>>>;

    fn watch() -> (Watch<impl FnMut(Room)>, Alarms) {
        let alarms = Alarms::default();
        let raised = alarms.clone();
        (Watch::new(move |room| raised.lock().unwrap().push(room)), alarms)
    }

    /// A room that does what it should.
    fn works_until(told: &CancellationToken) -> Work {
        let told = told.clone();
        Box::pin(async move {
            told.cancelled().await;
            Ok(())
        })
    }

    #[tokio::test]
    async fn a_room_that_panics_or_returns_too_early_raises_the_alarm_at_once_and_is_named() {
        let panics = || -> Work { Box::pin(async { panic!("a defect, as this test wants it") }) };
        let returns = || -> Work { Box::pin(async { Ok(()) }) };
        for (work, expected) in [(panics(), Cause::Panicked(Room::Finisher)), (returns(), Cause::Ended(Room::Finisher))]
        {
            let (mut watch, alarms) = watch();
            let told = CancellationToken::new();
            watch.open(Room::Claimer, works_until(&told));
            watch.open(Room::Finisher, work);
            let rung = async {
                while alarms.lock().unwrap().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, watch.until(rung)).await.expect("the alarm rings");
            assert_eq!(*alarms.lock().unwrap(), [Room::Finisher]);
            told.cancel();
            watch.end_of(Room::Claimer).await;
            watch.end_of(Room::Finisher).await;
            assert_eq!(*alarms.lock().unwrap(), [Room::Finisher], "the others end in good order");
            assert_eq!(watch.cause(), Some(expected));
        }
    }

    #[tokio::test]
    async fn a_panic_counts_even_while_a_room_is_stopping() {
        let (mut watch, alarms) = watch();
        let told = CancellationToken::new();
        let stopping = told.clone();
        watch.open(
            Room::Lease,
            Box::pin(async move {
                stopping.cancelled().await;
                panic!("a defect on the way out, as this test wants it")
            }),
        );
        told.cancel();
        watch.end_of(Room::Lease).await;
        assert_eq!(*alarms.lock().unwrap(), [Room::Lease]);
        assert_eq!(watch.cause(), Some(Cause::Panicked(Room::Lease)));
    }

    #[tokio::test]
    async fn rooms_that_end_when_they_are_told_to_are_no_trouble() {
        let (mut watch, alarms) = watch();
        let told = CancellationToken::new();
        for room in [Room::Claimer, Room::Finisher, Room::Lease, Room::Housekeeping] {
            watch.open(room, works_until(&told));
        }
        told.cancel();
        for room in [Room::Claimer, Room::Finisher, Room::Lease, Room::Housekeeping] {
            watch.end_of(room).await;
        }
        assert!(alarms.lock().unwrap().is_empty());
        assert_eq!(watch.cause(), None);
    }
}
