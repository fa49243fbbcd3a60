//! Signals of `postcall run`: which of them stop a dispatcher, and which are ignored. (Those of `postcall action test`
//! stop the test, see [`first_stop`].)
//!
//! | signal | does |
//! | --- | --- |
//! | SIGTERM, SIGINT, SIGHUP, SIGQUIT | the first begins the drain, the second ends it at once |
//! | SIGHUP where it was ignored at the start (`nohup`) | nothing |
//! | SIGUSR1, SIGUSR2, SIGALRM | nothing; the system would end the process at once |
//! | SIGPIPE | nothing: Rust ignores it, and log lines that cannot be written are dropped |

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::CliError;
use crate::dispatcher::StopTokens;

/// Signals that would by default end the process at once and make its deliveries in flight `unknown`, although the
/// sender does not intend that.
const HARMLESS: [SignalKind; 3] = [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()];

/// The first stop signal begins the drain; the second ends it at once.
///
/// # Errors
/// The error of the system if a signal cannot be handled.
pub(super) fn stop_on_signals(stop: StopTokens) -> Result<(), CliError> {
    for kind in HARMLESS {
        // The handler stays installed after the value is dropped, and nothing listens to it.
        drop(handled(kind)?);
    }
    let mut terminate = handled(SignalKind::terminate())?;
    let mut interrupt = handled(SignalKind::interrupt())?;
    let mut quit = handled(SignalKind::quit())?;
    let mut hangup = if is_ignored(SignalKind::hangup()) { None } else { Some(handled(SignalKind::hangup())?) };
    tokio::spawn(async move {
        for token in [stop.drain, stop.cut] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = quit.recv() => "SIGQUIT",
                () = arrives(&mut hangup) => "SIGHUP",
            };
            // Cancel before the log line, so that a reader of the line can rely on it: no claim begins any more.
            token.cancel();
            info!("{name}");
        }
    });
    Ok(())
}

/// The first signal that stops a command in the middle of something that has to be recorded. Further ones do nothing.
///
/// # Errors
/// The error of the system if a signal cannot be handled.
pub(super) fn first_stop() -> Result<impl Future<Output = ()>, CliError> {
    let mut terminate = handled(SignalKind::terminate())?;
    let mut interrupt = handled(SignalKind::interrupt())?;
    let mut quit = handled(SignalKind::quit())?;
    let mut hangup = if is_ignored(SignalKind::hangup()) { None } else { Some(handled(SignalKind::hangup())?) };
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
            () = arrives(&mut hangup) => {}
        }
    })
}

fn handled(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|source| CliError::System { what: "handle signals", source })
}

async fn arrives(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the process was started with this signal ignored. On Linux, a mask in proc(5) says so. On other systems this
/// cannot be found out without unsafe code, and the result is false.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_that_cannot_be_handled_is_said_to_be_that_and_not_a_problem_of_the_output() {
        // No program can handle SIGKILL.
        let told = handled(SignalKind::from_raw(9)).err().map(|error| error.for_people()).unwrap_or_default();
        assert!(told.starts_with("cannot handle signals: "), "{told}");
    }
}
