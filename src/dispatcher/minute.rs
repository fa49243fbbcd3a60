//! One line in the log each minute: what this dispatcher has done since the last one, and what it has in flight. It comes
//! without any work, too, so a dispatcher whose log is silent for longer does not run any more, or is in trouble.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::in_flight::Places;
use crate::domain::delivery::State;
use crate::metrics::Totals;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(60);

/// Writes the line each minute until `stop`, and then once more. So many results may wait to be recorded.
pub(super) async fn run(places: Places, max_unrecorded: usize, stop: CancellationToken) {
    let mut minutes = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = places.counts.totals();
    while stop.run_until_cancelled(minutes.tick()).await.is_some() {
        said = say(&places, max_unrecorded, &said);
    }
    say(&places, max_unrecorded, &said);
}

/// Writes a line about what has been done since `said`, and returns what has been done until now.
fn say(places: &Places, max_unrecorded: usize, said: &Totals) -> Totals {
    let totals = places.counts.totals();
    let (in_flight, hosts) = places.schedule.in_flight_and_ailing();
    let recorded = |state: State| totals.recorded_as(state) - said.recorded_as(state);
    info!(
        claimed = totals.claimed - said.claimed,
        delivered = recorded(State::Delivered),
        rejected = recorded(State::Rejected),
        failed = recorded(State::Failed),
        unknown = recorded(State::Unknown),
        skipped = recorded(State::Skipped),
        returned = totals.returned - said.returned,
        in_flight,
        unrecorded = places.waiting_to_be_recorded(max_unrecorded),
        hosts.silent = hosts.silent,
        hosts.unreachable = hosts.unreachable,
        "the last minute"
    );
    totals
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::super::in_flight::tests::places;
    use super::*;
    use crate::domain::delivery::{Failure, Outcome};

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
            let failed = Outcome::Failed { kind: Failure::Dns, detail: String::new() };
            for outcome in [&Outcome::answered(200), &Outcome::answered(200), &failed] {
                places.counts.recorded(outcome);
            }
            places.counts.returned(4);
            assert_eq!(log.lines(), [""; 0], "not before the minute is over");
            tokio::time::sleep(EVERY).await;
            claimed.into_iter().for_each(|one| one.leave());
            tokio::time::sleep(EVERY).await;
            places.counts.recorded(&Outcome::answered(302));
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
