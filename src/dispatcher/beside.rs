//! A part of the sealer on a thread of its own, for which nobody waits. A panic of it is a defect of postcall: it is
//! logged and counted, and the part begins anew after a pause. Otherwise one panic would end it for ever, and nobody
//! would notice.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error};

use super::backoff::ELSEWHERE;
use crate::metrics::Counters;

/// A part of the sealer.
pub(super) struct Part {
    /// The name that the log shows.
    pub(super) worker: &'static str,
    /// The name of its thread.
    pub(super) thread: &'static str,
    pub(super) counters: Arc<Counters>,
}

impl Part {
    /// Does `work` on a thread of its own, until `stop` or until it ends by itself. Nobody waits for it when the
    /// process ends.
    ///
    /// # Errors
    /// If the system gives it no thread.
    pub(super) fn start(self, stop: CancellationToken, work: impl AsyncFnMut() + Send + 'static) -> io::Result<()> {
        // One thread for look-ups of names: a name server that hangs keeps this part waiting, and nobody else.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let (span, name) = (Span::current(), self.thread.to_owned());
        let thread = move || {
            runtime.block_on(stop.run_until_cancelled(self.keep_doing(work)).instrument(span));
            // A look-up that hangs is left alone.
            runtime.shutdown_background();
        };
        thread::Builder::new().name(name).spawn(thread).map(drop)
    }

    /// Does `work` until it ends by itself: again after each panic.
    async fn keep_doing(&self, mut work: impl AsyncFnMut()) {
        let mut panics = 0_u32;
        loop {
            let begun = Instant::now();
            if AssertUnwindSafe(work()).catch_unwind().await.is_ok() {
                return;
            }
            panics = in_a_row(panics, begun.elapsed());
            self.counters.part_restarted();
            let again = ELSEWHERE.after(panics);
            error!(
                worker = self.worker,
                again_in_ms = again.as_millis() as u64,
                "a part of the sealer panicked, which is a defect of this program: it begins anew"
            );
            tokio::time::sleep(again).await;
        }
    }
}

/// How many panics in a row there have been, with one more after `panics`. What has worked for longer than the longest pause is not
/// what has just begun anew.
fn in_a_row(panics: u32, worked: Duration) -> u32 {
    if worked > ELSEWHERE.longest { 1 } else { panics.saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::*;

    /// How long a test waits for what must come.
    const PATIENCE: Duration = Duration::from_secs(30);
    /// The clock of pauses goes in such steps.
    const TICK: Duration = Duration::from_millis(1);

    fn part() -> Part {
        Part { worker: "part", thread: "part", counters: Arc::default() }
    }

    /// When work began that panics so often, each time after it has gone on for so long, and how often it was counted.
    async fn begins(panics: usize, after: Duration) -> (Vec<Duration>, u64) {
        let (part, first, mut begins) = (part(), Instant::now(), Vec::new());
        part.keep_doing(async || {
            begins.push(first.elapsed());
            tokio::time::sleep(after).await;
            assert!(begins.len() > panics, "a defect, as this test wants it");
        })
        .await;
        (begins, part.counters.totals().parts_restarted)
    }

    /// Whether work that had gone on for so long began anew after these pauses, of which each may be spread over its
    /// second half.
    fn paused(begins: &[Duration], after: Duration, pauses: &[u64]) -> bool {
        let waited = begins.windows(2).map(|pair| pair[1] - pair[0] - after);
        let full = pauses.iter().copied().map(Duration::from_secs);
        begins.len() == pauses.len() + 1
            && waited.zip(full).all(|(waited, full)| (full / 2..=full + TICK).contains(&waited))
    }

    #[tokio::test(start_paused = true)]
    async fn what_panics_begins_anew_after_pauses_that_grow_and_each_time_is_counted() {
        let (begun, counted) = begins(3, Duration::ZERO).await;
        assert!(paused(&begun, Duration::ZERO, &[1, 2, 4]) && counted == 3, "{begun:?} {counted}");
        assert_eq!(begins(0, Duration::ZERO).await, (vec![Duration::ZERO], 0), "what ends by itself has ended");
        // After it has worked for a while, the pause is the first one again.
        let for_long = ELSEWHERE.longest * 2;
        let (begun, _) = begins(2, for_long).await;
        assert!(paused(&begun, for_long, &[1, 1]), "{begun:?}");
    }

    #[test]
    fn panics_are_in_a_row_unless_the_work_between_took_longer_than_the_longest_pause() {
        let longest = ELSEWHERE.longest;
        assert_eq!([Duration::ZERO, longest, longest + TICK].map(|worked| in_a_row(3, worked)), [4, 4, 1]);
        assert_eq!(in_a_row(u32::MAX, Duration::ZERO), u32::MAX);
    }

    #[tokio::test]
    async fn a_thread_outlives_a_panic_of_its_work_and_ends_when_it_is_told_to() {
        let (stop, (tell, mut told)) = (CancellationToken::new(), channel(1));
        let mut panicked = false;
        let work = async move || {
            tell.send(thread::current().name().map(str::to_owned)).await.ok();
            if !std::mem::replace(&mut panicked, true) {
                panic!("a defect, as this test wants it");
            }
            std::future::pending().await
        };
        part().start(stop.clone(), work).unwrap();
        for _ in 0..2 {
            let begun = tokio::time::timeout(PATIENCE, told.recv()).await.expect("it begins, and begins anew");
            assert_eq!(begun.flatten().as_deref(), Some("part"));
        }
        stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, told.recv()).await.expect("the thread ends, and its work with it");
        assert_eq!(ended, None);
    }
}
