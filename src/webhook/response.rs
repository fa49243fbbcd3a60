//! The response's body: read to a bound, hashed, dropped.

use std::pin::Pin;

use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use super::connection::Connection;
use super::outcome::Stop;
use crate::domain::delivery::{Answer, BodyEnd};

/// Most bytes of a response body that are read. Receivers answer with a word or two; the rest of a longer answer is of no
/// use to anybody, and is left unread by closing the connection.
pub(super) const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Reads the body of `response` from `connection` until it ends, in whatever way, or `stop` does.
pub(super) async fn read(
    response: http::Response<Incoming>,
    connection: &mut Connection,
    mut stop: Pin<&mut impl Future<Output = Stop>>,
) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut digest = Sha256::new();
    let mut room = MAX_RESPONSE_BYTES;
    let body_end = loop {
        let chunk = tokio::select! {
            biased;
            // First: a receiver that always has another chunk ready must not outrun the deadline. The state is decided.
            stopped = &mut stop => break match stopped {
                Stop::Deadline => BodyEnd::Timeout,
                Stop::Cut => BodyEnd::Cut,
            },
            chunk = connection.next_chunk(&mut body) => chunk,
        };
        // Nor may it keep the thread from others.
        tokio::task::consume_budget().await;
        match chunk {
            Some(Ok(chunk)) => {
                let read = chunk.len().min(room);
                digest.update(&chunk[..read]);
                room -= read;
                if read < chunk.len() {
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
    }
}
