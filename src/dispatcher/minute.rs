//! One line in the log each minute: what this dispatcher has done since the last one, and what it has in flight. It comes
//! without any work, too, so a dispatcher whose log is silent for longer does not run any more, or is in trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::in_flight::Places;
use crate::domain::delivery::State;
use crate::domain::report::{HostCondition, HostReport};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(60);

/// What has been done since it was last asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    claimed: AtomicUsize,
    delivered: AtomicUsize,
    rejected: AtomicUsize,
    failed: AtomicUsize,
    unknown: AtomicUsize,
    skipped: AtomicUsize,
    returned: AtomicUsize,
}

impl Counts {
    /// One more delivery was claimed.
    pub(super) fn claimed(&self) {
        add(&self.0.claimed, 1);
    }

    /// One more delivery was recorded in this state.
    pub(super) fn ended(&self, state: State) {
        match state {
            State::Delivered => add(&self.0.delivered, 1),
            State::Rejected => add(&self.0.rejected, 1),
            State::Failed => add(&self.0.failed, 1),
            State::Unknown => add(&self.0.unknown, 1),
            State::Skipped => add(&self.0.skipped, 1),
            // No outcome has these states.
            State::Waiting | State::Sending => {}
        }
    }

    /// So many deliveries more went back to waiting.
    pub(super) fn returned(&self, count: usize) {
        add(&self.0.returned, count);
    }
}

fn add(counter: &AtomicUsize, count: usize) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn take(counter: &AtomicUsize) -> usize {
    counter.swap(0, Ordering::Relaxed)
}

/// Writes the line each minute until `stop`, and then once more. So many results may wait to be recorded.
pub(super) async fn run(places: Places, max_unrecorded: usize, stop: CancellationToken) {
    let mut minutes = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(minutes.tick()).await.is_some() {
        say(&places, max_unrecorded);
    }
    say(&places, max_unrecorded);
}

fn say(places: &Places, max_unrecorded: usize) {
    let Counts(counts) = &places.counts;
    let (in_flight, hosts) = places.schedule.report();
    info!(
        claimed = take(&counts.claimed),
        delivered = take(&counts.delivered),
        rejected = take(&counts.rejected),
        failed = take(&counts.failed),
        unknown = take(&counts.unknown),
        skipped = take(&counts.skipped),
        returned = take(&counts.returned),
        in_flight,
        unrecorded = places.waiting_to_be_recorded(max_unrecorded),
        hosts.silent = count(&hosts, |condition| matches!(condition, HostCondition::Silent { .. })),
        hosts.unreachable = count(&hosts, |condition| matches!(condition, HostCondition::Unreachable { .. })),
        "the last minute"
    );
}

fn count(hosts: &[HostReport], is_such: impl Fn(HostCondition) -> bool) -> usize {
    hosts.iter().filter(|host| is_such(host.condition)).count()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::super::in_flight::tests::places;
    use super::*;

    /// What has been logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        /// Its lines without what stands before the message.
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines().map(|line| line.split_once("minute: ").unwrap().1.to_owned()).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_minute_has_one_line_with_what_was_done_in_it_and_so_has_one_without_work() {
        let (log, stop) = (Log::default(), CancellationToken::new());
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let (places, untaken) = places(3, 2);
        let work = async {
            tokio::time::sleep(EVERY - Duration::from_secs(1)).await;
            let mut claimed: Vec<_> = untaken.into_iter().map(|place| places.take(place)).collect();
            claimed.pop().unwrap().leave();
            for state in [State::Delivered, State::Delivered, State::Failed] {
                places.counts.ended(state);
            }
            places.counts.returned(4);
            assert_eq!(log.lines(), [""; 0], "not before the minute is over");
            tokio::time::sleep(EVERY).await;
            claimed.into_iter().for_each(|one| one.leave());
            tokio::time::sleep(EVERY).await;
            places.counts.ended(State::Rejected);
            stop.cancel();
        };
        tokio::join!(run(places.clone(), 2, stop.clone()), work);
        let line = |counts: &str| format!("the last minute {counts} unrecorded=0 hosts.silent=0 hosts.unreachable=0");
        let first = "claimed=3 delivered=2 rejected=0 failed=1 unknown=0 skipped=0 returned=4 in_flight=2";
        let second = "claimed=0 delivered=0 rejected=0 failed=0 unknown=0 skipped=0 returned=0 in_flight=0";
        let last = "claimed=0 delivered=0 rejected=1 failed=0 unknown=0 skipped=0 returned=0 in_flight=0";
        assert_eq!(log.lines(), [line(first), line(second), line(last)]);
    }
}
