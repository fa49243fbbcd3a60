//! Has checkpoints timestamped by an authority (RFC 3161), beside the sealer and on a thread of its own. Each
//! checkpoint continues all earlier ones, so the newest is taken, once in a while: whoever has its timestamp knows that
//! all of it was there at that time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::backoff::{ELSEWHERE, Outage, Outside};
use super::beside::Part;
use super::checkpoint_exporter::Newest;
use super::checkpoint_outlet::{CheckpointOutlet, STAMP_SUFFIX, name_of};
use super::checkpoints::{CheckpointDir, DirError, FILE_SUFFIX};
use crate::metrics::Counters;
use crate::operator::{Address, Client, TlsConfig, Trouble};
use crate::seal::timestamp::{BadReply, Nonce, QUERY_TYPE, REPLY_TYPE, check, nonce, query};

/// How long after a timestamp the next one is asked for. Public authorities take no more than a few requests a minute.
const EVERY: Duration = Duration::from_secs(300);
/// How long the authority may take, from the look-up of its name to the end of its answer.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Who is at the URL, for errors.
const WHO: &str = "--timestamp-url";
/// The name that the log shows.
const WORKER: &str = "time stamper";
/// The authority, and where timestamps are kept.
const AUTHORITY: Outside = Outside {
    away: "checkpoints are not timestamped by --timestamp-url; sealing goes on, and it is tried again",
    back: "checkpoints are timestamped by --timestamp-url again",
    pauses: ELSEWHERE,
};

/// An authority that timestamps.
#[derive(Debug)]
pub struct TimestampAuthority {
    address: Address,
    client: Client,
}

/// Why a checkpoint has no timestamp yet.
#[derive(Debug, thiserror::Error)]
enum Unstamped {
    #[error(transparent)]
    Trouble(#[from] Trouble),
    #[error("{WHO} gave no timestamp")]
    Reply(#[from] BadReply),
    #[error(transparent)]
    Directory(#[from] DirError),
}

impl TimestampAuthority {
    /// An authority at this address. `tls` is needed for an https URL.
    pub fn new(address: Address, tls: Option<TlsConfig>) -> TimestampAuthority {
        let client = Client::new(WHO, address.url(), tls);
        TimestampAuthority { address, client }
    }

    /// Asks for a timestamp of a text. Returns the authority's whole answer, which grants it.
    async fn stamp(&self, text: &str) -> Result<Bytes, Unstamped> {
        let mut random = Nonce::default();
        SystemRandom::new().fill(&mut random).map_err(|_| Trouble::Unsendable(WHO))?;
        let nonce = nonce(random);
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.address.url().as_str())
            .header(CONTENT_TYPE, HeaderValue::from_static(QUERY_TYPE))
            .header(ACCEPT, HeaderValue::from_static(REPLY_TYPE))
            .body(Bytes::from(query(text, &nonce)))
            .map_err(|_| Trouble::Unsendable(WHO))?;
        let answer = tokio::time::timeout(TRY_TIMEOUT, self.client.send(request)).await;
        let (head, reply) = answer.map_err(|_| Trouble::TimedOut(WHO))??.into_parts();
        if !head.status.is_success() {
            return Err(Trouble::Refused(WHO, head.status.as_u16()).into());
        }
        check(&reply, text, &nonce)?;
        Ok(reply)
    }
}

/// Has checkpoints timestamped for as long as its sealer seals.
pub(super) struct CheckpointStamper {
    pub(super) authority: Arc<TimestampAuthority>,
    /// Where timestamps are kept.
    pub(super) directory: Option<CheckpointDir>,
    pub(super) outlet: Option<Arc<CheckpointOutlet>>,
    /// The newest checkpoint; `None` while it is not the sealer's turn.
    pub(super) newest: watch::Receiver<Option<Newest>>,
    pub(super) counters: Arc<Counters>,
}

impl CheckpointStamper {
    /// Starts it on a thread of its own, for which nobody waits when the process ends.
    ///
    /// # Errors
    /// If the system gives it no thread.
    pub(super) fn start(mut self, stop: CancellationToken) -> io::Result<()> {
        let part = Part { worker: WORKER, thread: "timestamp-url", counters: self.counters.clone() };
        part.start(stop, async move || self.run().await)
    }

    async fn run(&mut self) {
        info!(address = %self.authority.address, "having checkpoints of sealed history timestamped");
        let mut outage = Outage::none_of(AUTHORITY, WORKER);
        // The timestamp that is not kept yet, and the size of the newest that is.
        let (mut pending, mut kept) = (None, None);
        loop {
            let newest = self.newest.borrow_and_update().clone();
            let passed = match newest {
                Some(newest) if kept != Some(newest.size) => self.pass(newest, &mut pending).await,
                _ => {
                    if self.newest.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            match passed {
                Ok(size) => {
                    (pending, kept) = (None, Some(size));
                    outage.over();
                    tokio::time::sleep(EVERY).await;
                }
                Err(cause) => outage.wait(&cause).await,
            }
        }
    }

    /// Has the newest checkpoint timestamped, and keeps the answer. What was granted and could not be kept stays in
    /// `pending`, and goes first, so that the authority is not asked for it again. Returns the size of the checkpoint
    /// whose timestamp is kept.
    async fn pass(&mut self, newest: Newest, pending: &mut Option<Granted>) -> Result<i64, Unstamped> {
        let granted = match pending.take() {
            Some(granted) => granted,
            None => {
                let reply = self.authority.stamp(&newest.note).await?;
                Granted { size: newest.size, name: name_of(&newest.checkpoint), note: newest.note, reply }
            }
        };
        let Granted { size, name, note, reply } = pending.insert(granted);
        let stamp = format!("{name}{STAMP_SUFFIX}");
        if let Some(directory) = &self.directory {
            // With the text itself, in a file of its own, as those who verify need it.
            let text = (format!("{name}{FILE_SUFFIX}"), Bytes::from(note.to_string()));
            directory.clone().keep(vec![text, (stamp.clone(), reply.clone())]).await?;
        }
        if let Some(outlet) = &self.outlet {
            // Whoever asked before has kept a timestamp of the same text there. It does as well.
            let _kept_or_there = outlet.deliver(&stamp, HeaderValue::from_static(REPLY_TYPE), reply.clone()).await?;
        }
        Ok(*size)
    }
}

/// A timestamp that was granted.
struct Granted {
    size: i64,
    name: String,
    note: Arc<str>,
    reply: Bytes,
}
