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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::super::{client, fence::Fence, guard::Guard, names::Names, tls};
    use super::*;

    /// Offers a request that is called off already, as if that had happened while it lay in the queue.
    async fn bytes_sent(method: reqwest::Method, content: Option<&'static str>, header_bytes: usize) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let guard = Guard::new(true, vec!["127.0.0.0/8".parse().unwrap()]);
        let client = client::build(Names::system().unwrap(), guard, tls::config().unwrap()).unwrap();
        let trace = Arc::new(Trace::start(Fence::open()));
        assert!(trace.call_off());
        let body = Handover::new(trace, content.map(Bytes::from));
        let request = client.request(method, url).header("x-filler", "x".repeat(header_bytes));
        let sending = request.body(reqwest::Body::wrap(body)).send();
        let receiving = async {
            let mut received = vec![0; 1024];
            let count = listener.accept().await.unwrap().0.read(&mut received).await.unwrap();
            received.truncate(count);
            received
        };
        let (sent, received) = tokio::join!(sending, receiving);
        assert!(sent.is_err());
        received
    }

    #[tokio::test]
    async fn no_byte_of_a_request_that_was_called_off_is_written() {
        let largest = super::super::prepare::MAX_HEAD_BYTES;
        for header_bytes in [1, largest] {
            for (method, content) in [
                (reqwest::Method::GET, None),
                (reqwest::Method::POST, None),
                (reqwest::Method::POST, Some("")),
                (reqwest::Method::POST, Some("{}")),
            ] {
                assert_eq!(bytes_sent(method.clone(), content, header_bytes).await, b"", "{method} {content:?}");
            }
        }
    }
}
