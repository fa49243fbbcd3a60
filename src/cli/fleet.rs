//! `postcall run` with several databases: a dispatcher for each, in one process. They share the HTTP client and the limits of
//! requests in flight, and nothing else. A database that cannot be served is tried again and again; the others go on.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tracing::{Instrument, error_span, warn};

use super::CliError;
use super::databases::NamedDatabase;
use super::run::{Setup, dispatch, say_goodbye};
use crate::dispatcher::{Seat, StopTokens, Tally};
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

/// Runs a dispatcher for each member until `stop`.
///
/// # Errors
/// Returns an error if results were lost, or a dispatcher was told to stop and could not.
pub(super) async fn run(members: Vec<Member>, setup: Setup, stop: StopTokens) -> Result<(), CliError> {
    let mut serving = JoinSet::new();
    for member in members {
        let span = error_span!("serving", database = member.database.name);
        serving.spawn(member.serve(setup.clone(), stop.clone()).instrument(span));
    }
    let mut lost = 0;
    while let Some(ended) = serving.join_next().await {
        match ended {
            Ok(unwritten) => lost += unwritten,
            // Nothing is known of its results.
            Err(_panic) => lost += 1,
        }
    }
    if lost == 0 { Ok(()) } else { Err(CliError::Problem(format!("{lost} results could not be written"))) }
}

impl Member {
    /// Serves the database until `stop`. Returns how many results could not be written.
    async fn serve(self, setup: Setup, stop: StopTokens) -> u64 {
        let mut lost = 0;
        while !stop.drain.is_cancelled() {
            // A panic is a defect of postcall, and has been logged. The database is served again.
            let run = AssertUnwindSafe(self.run_once(&setup, &stop)).catch_unwind().await;
            match run.unwrap_or_else(|_| Err(CliError::Problem("a defect of this program: a panic".to_owned()))) {
                Ok(tally) => {
                    lost += tally.unwritten as u64;
                    say_goodbye(tally).ok();
                }
                Err(error) => {
                    warn!(error = %chain(&error), again_in_ms = AGAIN.as_millis() as u64, "this database is not served");
                    stop.drain.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
                }
            }
        }
        lost
    }

    /// Runs a dispatcher until it ends. Its tokens are its own: if it stops by itself, the others go on.
    async fn run_once(&self, setup: &Setup, stop: &StopTokens) -> Result<Tally, CliError> {
        let own = StopTokens { drain: stop.drain.child_token(), cut: stop.cut.child_token() };
        let opening = setup.open(&self.database, Some(&self.database.name));
        let Some(opened) = stop.drain.run_until_cancelled(opening).await else { return Ok(Tally::default()) };
        let (store, settings) = opened?;
        dispatch(store, self.seat.clone(), settings, own, &self.metrics).await
    }
}
