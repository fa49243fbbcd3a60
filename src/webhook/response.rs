//! Reads a response's body up to a bound, hashes it, and drops it.

use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use super::connection::Connection;
use super::outcome::StopReason;
use crate::domain::body_digest::{BodyDigest, ResponseDigests, RunningDigest};
use crate::domain::delivery::{Answer, BodyEnd};
use crate::domain::excerpt::Excerpt;

/// How many bytes of a response body are read at most. Receivers answer with a word or two. The rest of a longer answer
/// is of no use, and is left unread by closing the connection.
pub(super) const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// How many pieces of a response body are read at most. A piece is a chunk (RFC 9112, section 7.1), or what is there of one.
/// Each costs the same, however short it is, and the bound in bytes is twenty thousand chunks of one byte away.
pub(super) const MAX_RESPONSE_PIECES: usize = 512;

/// What is kept of responses.
#[derive(Debug)]
pub(super) struct Keeping {
    /// Whether an excerpt is kept of a body if the receiver did not take the request.
    pub(super) excerpts: bool,
    /// Makes the digests of bodies; without it, they are SHA-256.
    pub(super) digests: Option<Arc<dyn ResponseDigests>>,
}

impl Keeping {
    fn digest(&self) -> Box<dyn RunningDigest> {
        match &self.digests {
            Some(digests) => digests.begin(),
            None => Box::new(Plain(Sha256::new())),
        }
    }
}

/// SHA-256.
struct Plain(Sha256);

impl RunningDigest for Plain {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> BodyDigest {
        BodyDigest::Plain(self.0.finalize().into())
    }
}

/// Reads the body of `response` from `connection` until the body ends in any way, or `stop` completes.
pub(super) async fn read(
    response: http::Response<Incoming>,
    connection: &mut Connection,
    keeping: &Keeping,
    mut stop: Pin<&mut impl Future<Output = StopReason>>,
) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut excerpt = (keeping.excerpts && !head.status.is_success()).then(Box::<Excerpt>::default);
    let mut digest = keeping.digest();
    let (mut room, mut pieces) = (MAX_RESPONSE_BYTES, 0);
    let body_end = loop {
        let chunk = tokio::select! {
            biased;
            // `stop` is checked first, so that a receiver that always has another chunk ready cannot delay the
            // deadline. The delivery's state does not change any more, because the head has arrived.
            stopped = &mut stop => break match stopped {
                StopReason::Deadline => BodyEnd::Timeout,
                StopReason::Cut => BodyEnd::Cut,
            },
            chunk = connection.next_chunk(&mut body) => chunk,
        };
        // Such a receiver must not keep the thread from other tasks, either.
        tokio::task::consume_budget().await;
        match chunk {
            Some(Ok(chunk)) => {
                let read = chunk.len().min(room);
                digest.update(&chunk[..read]);
                if let Some(excerpt) = &mut excerpt {
                    excerpt.push(&chunk[..read]);
                }
                room -= read;
                pieces += 1;
                if read < chunk.len() || pieces == MAX_RESPONSE_PIECES {
                    break BodyEnd::Truncated;
                }
            }
            None => break BodyEnd::Complete,
            Some(Err(_)) if connection.was_excessive() => break BodyEnd::Truncated,
            Some(Err(_)) => break BodyEnd::Reset,
        }
    };
    Answer {
        response_code: head.status.as_u16(),
        response_bytes: (MAX_RESPONSE_BYTES - room) as u64,
        response_digest: digest.finish(),
        body_end,
        excerpt,
    }
}
