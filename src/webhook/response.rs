//! Reads a response's body up to a bound, hashes it, and drops it.

use std::pin::Pin;

use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use super::connection::Connection;
use super::outcome::StopReason;
use crate::domain::delivery::{Answer, BodyEnd};
use crate::domain::excerpt::Excerpt;

/// How many bytes of a response body are read at most. Receivers answer with a word or two. The rest of a longer answer
/// is of no use, and is left unread by closing the connection.
pub(super) const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// How many pieces of a response body are read at most. A piece is a chunk (RFC 9112, section 7.1), or what is there of one.
/// Each costs the same, however short it is, and the bound in bytes is twenty thousand chunks of one byte away.
pub(super) const MAX_RESPONSE_PIECES: usize = 512;

/// Reads the body of `response` from `connection` until the body ends in any way, or `stop` completes. The answer has an
/// excerpt of the body if `keep_excerpt` is set and the receiver did not take the request.
pub(super) async fn read(
    response: http::Response<Incoming>,
    connection: &mut Connection,
    keep_excerpt: bool,
    mut stop: Pin<&mut impl Future<Output = StopReason>>,
) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut excerpt = (keep_excerpt && !head.status.is_success()).then(Box::<Excerpt>::default);
    let mut digest = Sha256::new();
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
        response_sha256: digest.finalize().into(),
        body_end,
        excerpt,
    }
}
