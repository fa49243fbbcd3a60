//! Signals of `postcall run`: which of them stop a dispatcher, and which must not.
//!
//! | signal | does |
//! | --- | --- |
//! | SIGTERM, SIGINT, SIGHUP, SIGQUIT | the first drains, the second cuts |
//! | SIGHUP where it was ignored at the start (`nohup`) | nothing |
//! | SIGUSR1, SIGUSR2, SIGALRM | nothing; the system would end the process at once |
//! | SIGPIPE | nothing: Rust ignores it, and a log that nobody reads any more is given up |

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::dispatcher::Stop;

/// Those that would end the process at once and leave what is in flight in doubt, although nobody means that by them.
const HARMLESS: [SignalKind; 3] = [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()];

/// Lets the first signal that means an end drain, and the second cut.
///
/// # Errors
/// A signal that the system does not let be handled.
pub(super) fn stop_on_signals(stop: Stop) -> io::Result<()> {
    for kind in HARMLESS {
        // A handler stays once it is there. Nothing listens to it.
        drop(signal(kind)?);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut hangup = if is_ignored(SignalKind::hangup()) { None } else { Some(signal(SignalKind::hangup())?) };
    tokio::spawn(async move {
        for token in [stop.drain, stop.cut] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = quit.recv() => "SIGQUIT",
                () = arrives(&mut hangup) => "SIGHUP",
            };
            // Whoever reads the line may rely on it: nothing is claimed any more.
            token.cancel();
            info!("{name}");
        }
    });
    Ok(())
}

async fn arrives(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the process was started with this signal ignored. Linux tells by a mask in proc(5); elsewhere nobody can ask
/// without unsafe code, and the answer is no.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}
