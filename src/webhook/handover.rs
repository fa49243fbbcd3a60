//! The request's body, which tells when the request is handed over to be written.
//!
//! hyper's HTTP/1 connection asks a body `is_end_stream` at the moment it takes the request out of its queue, just
//! before it encodes the head into its buffer (hyper 1.12, `proto/h1/dispatch.rs`, `poll_write`); nothing in reqwest
//! 0.13.5, tower-http 0.6 or hyper-util 0.1.21 asks it before that. So a body that was never asked proves that no byte
//! of the request was written, and this holds for new and for kept-alive connections alike. It also holds for the one
//! retry of hyper-util that reqwest cannot switch off (`retry_canceled_requests`): that one repeats, on another
//! connection, only a request that came back out of the queue untaken.
//!
//! Every request therefore has such a body, those without content too. Whoever updates one of these libraries reads
//! that code again; the tests in `tests/it/webhook_outcomes.rs` fail if it has changed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::evidence::Trace;

/// A body of known size, or none, that notes in the trace when it is taken.
#[derive(Debug)]
pub(super) struct Handover {
    trace: Arc<Trace>,
    content: Option<Bytes>,
}

/// The request was called off while it lay in the connection's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request was called off before it was written")]
pub(super) struct CalledOff;

impl Handover {
    /// A body of `content`, or no body at all.
    pub(super) fn new(trace: Arc<Trace>, content: Option<Bytes>) -> Handover {
        Handover { trace, content }
    }
}

impl Body for Handover {
    type Data = Bytes;
    type Error = CalledOff;

    /// A request that was called off has to stop here, since hyper gives no way to say so earlier: its body claims to
    /// have content, and then fails. The head is at that time only in hyper's buffer, which is dropped with the
    /// connection (`MAX_HEAD_BYTES` in `prepare.rs` sees to it that it fits).
    fn is_end_stream(&self) -> bool {
        self.trace.take() && self.content.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Some(content) if !content.is_empty() => SizeHint::with_exact(content.len() as u64),
            // hyper asks for content only where some was announced.
            _ if self.trace.is_called_off() => SizeHint::with_exact(1),
            _ => SizeHint::with_exact(0),
        }
    }

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if !self.trace.take() {
            return Poll::Ready(Some(Err(CalledOff)));
        }
        Poll::Ready(self.content.take().map(|content| Ok(Frame::data(content))))
    }
}
