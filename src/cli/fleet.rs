//! `postcall run` with several databases: a dispatcher for each, in one process. They share the HTTP client and the limits of
//! requests in flight, and nothing else. A database that cannot be served is tried again and again; the others go on.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error_span, warn};

use super::CliError;
use super::databases::NamedDatabase;
use super::run::{Ended, Setup, dispatch, say_goodbye};
use crate::dispatcher::{Seat, StopTokens};
use crate::domain::chain::chain;
use crate::metrics::Metrics;

/// Between two tries to serve a database.
const AGAIN: Duration = Duration::from_secs(5);

/// One of the databases, and what its dispatcher needs.
pub(super) struct Member {
    pub(super) database: NamedDatabase,
    pub(super) seat: Seat,
    pub(super) metrics: Metrics,
}

/// What the dispatchers could not record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Losses {
    /// Results that are known to be unwritten.
    unwritten: usize,
    /// How often a dispatcher panicked, so that nothing is known of its results.
    panics: usize,
}

impl Losses {
    fn add(&mut self, other: Losses) {
        self.unwritten += other.unwritten;
        self.panics += other.panics;
    }

    /// Says what was lost.
    fn told(self) -> Result<(), CliError> {
        let unwritten = match self.unwritten {
            0 => None,
            some => Some(format!("{some} results could not be written")),
        };
        let panics = match self.panics {
            0 => None,
            some => Some(format!(
                "dispatchers panicked {some} times, and it is not known which of their results were written"
            )),
        };
        match unwritten.into_iter().chain(panics).collect::<Vec<_>>() {
            nothing if nothing.is_empty() => Ok(()),
            lost => Err(CliError::Problem(lost.join("; "))),
        }
    }
}

/// Runs a dispatcher for each member until `stop`.
///
/// # Errors
/// Returns an error if results were lost, or may have been, by whichever of the dispatchers that ran meanwhile.
pub(super) async fn run(members: Vec<Member>, setup: Setup, stop: StopTokens) -> Result<(), CliError> {
    let mut serving = JoinSet::new();
    for member in members {
        let span = error_span!("serving", database = member.database.name);
        let (setup, stop) = (setup.clone(), stop.clone());
        let serve = async move { keep_serving(&stop.drain, || member.run_once(&setup, &stop)).await };
        serving.spawn(serve.instrument(span));
    }
    let mut losses = Losses::default();
    while let Some(ended) = serving.join_next().await {
        losses.add(ended.unwrap_or(Losses { unwritten: 0, panics: 1 }));
    }
    losses.told()
}

/// Serves a database until `drain`, by one run of a dispatcher after the other. Returns what all of them together could not record.
async fn keep_serving<R: Future<Output = Ended>>(drain: &CancellationToken, run: impl Fn() -> R) -> Losses {
    let mut losses = Losses::default();
    while !drain.is_cancelled() {
        let ended = AssertUnwindSafe(run()).catch_unwind().await.unwrap_or_else(|_| {
            // A defect of postcall, which has been logged. The database is served again.
            losses.panics += 1;
            Ended::before_it_began(CliError::Problem("a defect of this program: a panic".to_owned()))
        });
        if let Some(tally) = ended.tally {
            losses.unwritten += tally.unwritten;
            // It logs what was lost. That is an error of the process once it ends.
            say_goodbye(tally).ok();
        }
        if let Some(error) = ended.error {
            warn!(error = %chain(&error), again_in_ms = AGAIN.as_millis() as u64, "this database is not served");
            drain.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
        }
    }
    losses
}

impl Member {
    /// Runs a dispatcher until it ends. Its tokens are its own: if it stops by itself, the others go on.
    async fn run_once(&self, setup: &Setup, stop: &StopTokens) -> Ended {
        let own = StopTokens { drain: stop.drain.child_token(), cut: stop.cut.child_token() };
        let opening = setup.open(&self.database, Some(&self.database.name));
        match stop.drain.run_until_cancelled(opening).await {
            None => Ended { tally: None, error: None },
            Some(Err(error)) => Ended::before_it_began(error),
            Some(Ok((store, settings))) => dispatch(store, self.seat.clone(), settings, own, &self.metrics).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;
    use crate::dispatcher::Tally;

    /// What serving gives if a dispatcher is run again and again; the run with the last number is the one that is told to end.
    async fn served(last: usize, run: impl Fn(usize) -> Ended) -> (Losses, usize) {
        let (drain, runs) = (CancellationToken::new(), Cell::new(0));
        let losses = keep_serving(&drain, || {
            let number = runs.replace(runs.get() + 1);
            if number == last {
                drain.cancel();
            }
            let run = &run;
            async move { run(number) }
        });
        (losses.await, runs.get())
    }

    fn ended(unwritten: usize, error: Option<&str>) -> Ended {
        let tally = Tally { unwritten, ..Tally::default() };
        Ended { tally: Some(tally), error: error.map(|error| CliError::Problem(error.to_owned())) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_each_of_the_dispatchers_of_a_database_lost_is_in_the_end_of_the_process_however_it_ended() {
        let stopped = Some("its claimer panicked");
        let run = |number| match number {
            0 => ended(3, stopped),
            1 => Ended::before_it_began(CliError::Problem("no database".to_owned())),
            2 => ended(0, stopped),
            _ => ended(4, None),
        };
        let begun = Instant::now();
        let (losses, runs) = served(3, run).await;
        assert_eq!((losses, runs), (Losses { unwritten: 7, panics: 0 }, 4));
        assert_eq!(begun.elapsed(), AGAIN * 3, "between the runs it waits");
        assert_eq!(losses.told().unwrap_err().to_string(), "7 results could not be written");
        // Also if it is told to end while it waits, or while such a dispatcher ends.
        assert_eq!(served(0, |_| ended(2, stopped)).await.0, Losses { unwritten: 2, panics: 0 });
        let (losses, _) = served(0, |_| ended(0, None)).await;
        assert!(losses.told().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_is_served_again_after_a_panic_and_the_process_does_not_end_as_if_nothing_had_been_lost() {
        let run = |number| match number {
            0 => panic!("a defect, as the test wants it"),
            _ => ended(0, None),
        };
        let (losses, runs) = served(2, run).await;
        assert_eq!((losses, runs), (Losses { unwritten: 0, panics: 1 }, 3));
        let mut both = losses;
        both.add(Losses { unwritten: 2, panics: 0 });
        let told = both.told().unwrap_err().to_string();
        assert!(told.starts_with("2 results could not be written; dispatchers panicked 1 times"), "{told}");
    }
}
