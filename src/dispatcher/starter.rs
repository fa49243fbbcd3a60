//! Starts attempts: one task for each delivery, which hands its result to the finisher.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::attempt::{Means, attempt, host, signal};
use super::budget::{SMALL_TEXT, Share};
use super::finisher::PendingResult;
use super::place::Place;
use super::templates::{Compiled, Template};
use super::unstarted::Unstarted;
use crate::domain::claim::{Claimed, VersionKey};
use crate::webhook::SendGate;

/// What an attempt needs beside its delivery.
pub(super) struct Starter {
    /// The tasks.
    pub(super) attempts: TaskTracker,
    /// What all attempts share.
    pub(super) means: Means,
    /// Where results go.
    pub(super) results: mpsc::Sender<PendingResult>,
}

impl Starter {
    /// Starts an attempt for each delivery. `texts` is the budget for the texts of large calls, if there was room.
    pub(super) fn start_all(
        &self,
        mut unstarted: Unstarted,
        templates: &HashMap<VersionKey, Template>,
        send_gate: &SendGate,
        mut texts: Option<Share>,
    ) {
        while let Some((claimed, place)) = unstarted.next() {
            let bytes = claimed.payload.bytes();
            let text_share = texts.as_mut().filter(|_| bytes > SMALL_TEXT).and_then(|texts| texts.split(bytes));
            // `Templates::get` returned a template for every version, so the fallback is never used.
            let template = templates.get(&claimed.version).cloned().unwrap_or_else(|| Arc::new(Compiled::unloadable()));
            self.start(claimed, template, text_share, send_gate.clone(), place);
        }
    }

    fn start(
        &self,
        claimed: Claimed,
        template: Template,
        text_share: Option<Share>,
        send_gate: SendGate,
        mut place: Place,
    ) {
        let (means, results) = (self.means.clone(), self.results.clone());
        self.attempts.spawn(async move {
            let started = Instant::now();
            let completion = attempt(claimed, template, text_share, &means, &send_gate).await;
            place.ended(host(&completion).as_ref(), started, signal(&completion));
            // The finisher's queue has room for every place. Without a finisher, the place counts the lost result.
            results.send(PendingResult { completion, place }).await.ok();
        });
    }
}
