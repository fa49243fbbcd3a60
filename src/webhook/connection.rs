//! One HTTP/1.1 connection: it carries one request at a time, and hyper reads and writes it.
//!
//! hyper's half of the connection is not given to a task of its own. Whoever sends a request over the connection drives
//! it, and nobody else can. So an attempt that is stopped writes nothing any more, an attempt that is dropped takes its
//! connection with it, and between requests nobody reads.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection as Driver, SendRequest};
use hyper_util::rt::TokioIo;

use super::evidence::Trace;
use super::fault::Fault;
use super::gate::{Bar, Gate, Line, Socket};
use super::head::{MAX_HEAD_BYTES, MAX_HEADERS};

/// A request's body: of known size, or none at all.
#[derive(Clone, Debug)]
pub(super) struct Content(pub(super) Option<Bytes>);

impl Body for Content {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|content| Ok(Frame::data(content))))
    }

    /// An empty body is a body: its length is announced.
    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |content| content.len() as u64))
    }
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Content>,
    /// Gone when the connection has ended.
    driver: Option<Driver<TokioIo<Gate>, Content>>,
    line: Arc<Line>,
    tls: bool,
    /// Whether it has carried a request.
    reused: bool,
}

/// Why an exchange gave no response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// What the gate stopped it for.
    pub(super) bar: Option<Bar>,
    /// What hyper or the system found.
    pub(super) fault: Fault,
}

impl Connection {
    /// HTTP on a connected socket. Nothing is written yet.
    ///
    /// # Errors
    /// If hyper refuses; it never does so today.
    pub(super) async fn on(socket: Socket) -> Result<Connection, hyper::Error> {
        let tls = socket.is_tls();
        let (gate, line) = Gate::before(socket);
        let (sender, driver) = Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER_BYTES)
            // Obsolete (RFC 9112, section 5.2), but a known answer is better than a doubt.
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(gate))
            .await?;
        Ok(Connection { sender, driver: Some(driver), line, tls, reused: false })
    }

    /// Writes `request` as soon as the gate lets it pass, and waits for the head of its answer.
    pub(super) async fn exchange(
        &mut self,
        request: http::Request<Content>,
        trace: &Arc<Trace>,
    ) -> Result<http::Response<Incoming>, Broken> {
        self.line.offer(trace, self.reused, self.tls);
        self.reused = true;
        let response = self.sender.send_request(request);
        drive(&mut self.driver, response).await.map_err(|error| {
            let mut fault = Fault::of(&error);
            fault.io = fault.io.or(self.line.write_error());
            Broken { bar: self.line.bar(), fault }
        })
    }

    /// The next bytes of an answer's body; `None` at its end.
    pub(super) async fn next_chunk(&mut self, body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            let frame = drive(&mut self.driver, poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) => return Some(Ok(bytes)),
                // Trailers.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Whether it may carry another request: the last one was written and answered to the end, both sides want to keep
    /// the connection, and nothing has come after the answer.
    pub(super) fn is_reusable(&mut self) -> bool {
        poll_driver(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        let reusable = self.driver.is_some() && self.sender.is_ready() && self.line.bar().is_none();
        if reusable {
            self.line.rest();
        }
        reusable
    }
}

/// hyper's buffer has to hold a whole head. The gate's bound is the one that counts.
const MAX_BUFFER_BYTES: usize = MAX_HEAD_BYTES + 64 * 1024;

/// Drives the connection until `step` is done.
async fn drive<F: Future>(driver: &mut Option<Driver<TokioIo<Gate>, Content>>, step: F) -> F::Output {
    let mut step = pin!(step);
    poll_fn(|cx| {
        // What the step waits for comes from the driver, or with its end.
        poll_driver(driver, cx);
        step.as_mut().poll(cx)
    })
    .await
}

/// A driver that has ended is dropped at once, and with it all that it still owed: nobody waits for that in vain.
fn poll_driver(driver: &mut Option<Driver<TokioIo<Gate>, Content>>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        *driver = None;
    }
}
