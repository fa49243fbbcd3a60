//! The gate between HTTP and the socket. Every byte of a connection passes here, and so it is known whether a byte of the
//! request was written, and what arrived before that.
//!
//! At the first byte of a request the gate asks three things, in this order, and then writes at once:
//!
//! 1. Has anything arrived? A receiver that speaks first cannot mean this request. It may be a late answer to nothing,
//!    such as the 408 that some servers send on an idle connection before they close it, and would be taken for the
//!    answer to the request. The kernel is asked, because the runtime may not have heard of the bytes yet.
//! 2. Is the fence open? It is asked by the clock that goes on while the machine is suspended.
//! 3. It notes in the evidence that the request is taken. Without that note no byte was written, and this is certain.
//!
//! What remains is what nobody on this side can see: bytes that the receiver sent before it had the request, and that
//! arrive after the kernel was asked. That is the time a packet travels, and some microseconds.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::evidence::Evidence;
use super::head::{HeadWatch, Seen};

/// Most bytes that are read at once. hyper lets its buffer grow with what it gets, and keeps it while a connection is
/// idle.
const READ_BYTES: usize = 16 * 1024;

/// A connected socket, with TLS or without.
#[derive(Debug)]
pub(super) enum Socket {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bar {
    /// The fence was closed when the request was about to be written.
    Fence,
    /// Something had arrived before the request was written.
    SpokeFirst,
    /// The connection had ended before the request was written.
    Ended,
    /// The answer's head was too long, or had too many others before it.
    Excess,
}

/// Where a connection stands.
#[derive(Debug)]
enum State {
    /// No request is under way.
    Resting,
    /// A request may be written.
    Offered(Offer),
    /// It is being written, or out. The heads of its answer are watched.
    Awaiting(HeadWatch),
    /// The final head has passed, and since then so many bytes.
    Answering(usize),
    /// It ends.
    Barred(Bar),
}

/// Most bytes that are read after a final head, framing included. Twice what is read of a body
/// (`response::MAX_RESPONSE_BYTES`): some thousand chunks of usual size fit into it many times over.
const MAX_BODY_BYTES_ON_THE_WIRE: usize = 2 * super::response::MAX_RESPONSE_BYTES;

/// A request that waits to be written.
#[derive(Debug)]
struct Offer {
    evidence: Arc<Evidence>,
    /// Whether bytes in the kernel would be from before the request. On a new TLS connection they may be the server's
    /// session tickets (RFC 8446, section 4.6.1), which come uncalled for right after the handshake.
    ask_kernel: bool,
}

/// What the gate of a connection knows, for whoever offers requests to it.
#[derive(Debug)]
pub(super) struct Line {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// The first error of writing the request.
    write_error: Option<io::ErrorKind>,
}

impl Line {
    /// Offers a request, whose first byte is written if `evidence` lets it be taken. `reused` says that the connection has
    /// carried a request before.
    pub(super) fn offer(&self, evidence: &Arc<Evidence>, reused: bool, tls: bool) {
        let mut inner = self.lock();
        if !matches!(inner.state, State::Barred(_)) {
            inner.state = State::Offered(Offer { evidence: Arc::clone(evidence), ask_kernel: reused || !tls });
        }
    }

    /// The request is answered to its end, and the connection may carry another.
    pub(super) fn rest(&self) {
        let mut inner = self.lock();
        if !matches!(inner.state, State::Barred(_)) {
            inner.state = State::Resting;
        }
    }

    /// Why the connection is of no use any more.
    pub(super) fn bar(&self) -> Option<Bar> {
        match self.lock().state {
            State::Barred(bar) => Some(bar),
            _ => None,
        }
    }

    /// The first error of writing the request.
    pub(super) fn write_error(&self) -> Option<io::ErrorKind> {
        self.lock().write_error
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether bytes may be written, the first of a request included.
    fn may_write(&self, socket: &Socket) -> io::Result<()> {
        let mut inner = self.lock();
        let offer = match &inner.state {
            State::Awaiting(_) | State::Answering(_) => return Ok(()),
            State::Offered(offer) => offer,
            State::Resting => return Err(refused()),
            State::Barred(_) => return Err(refused()),
        };
        let heard = if offer.ask_kernel { socket.heard() } else { None };
        let bar = match heard {
            Some(bar) => bar,
            None if offer.evidence.take() => {
                inner.state = State::Awaiting(HeadWatch::default());
                return Ok(());
            }
            None => Bar::Fence,
        };
        inner.state = State::Barred(bar);
        Err(refused())
    }

    /// Bytes have arrived.
    fn arrived(&self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        let next = match &mut inner.state {
            // hyper will not take them for an answer to what it has not written.
            State::Resting | State::Offered(_) if !bytes.is_empty() => State::Barred(Bar::SpokeFirst),
            State::Resting | State::Offered(_) => State::Barred(Bar::Ended),
            State::Awaiting(watch) => match watch.pass(bytes) {
                Seen::More => return Ok(()),
                Seen::Final => State::Answering(0),
                Seen::Excess => State::Barred(Bar::Excess),
            },
            // A body is bounded by what it holds, and its framing by nothing but this: chunk sizes may have any number of
            // zeros before them, and chunks may be of one byte each.
            State::Answering(passed) if *passed > MAX_BODY_BYTES_ON_THE_WIRE => State::Barred(Bar::Excess),
            State::Answering(passed) => {
                *passed += bytes.len();
                return Ok(());
            }
            State::Barred(_) => return Ok(()),
        };
        let excess = matches!(next, State::Barred(Bar::Excess));
        inner.state = next;
        if excess { Err(refused()) } else { Ok(()) }
    }

    /// A write failed. Reading goes on: an answer may have come before the connection broke, and whoever reads will find
    /// the connection's end right behind it. So writing waits for ever instead of failing.
    fn write_failed<T>(&self, error: io::Error) -> Poll<io::Result<T>> {
        let mut inner = self.lock();
        match inner.state {
            State::Awaiting(_) | State::Answering(_) => {
                inner.write_error.get_or_insert(error.kind());
                Poll::Pending
            }
            _ => Poll::Ready(Err(error)),
        }
    }
}

/// The error that hyper is given; the reason is in the [`Line`].
fn refused() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

impl Socket {
    /// Whether TLS is spoken.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// Asks the kernel what has come in and was not read.
    fn heard(&self) -> Option<Bar> {
        let tcp = match self {
            Socket::Plain(tcp) => tcp,
            Socket::Tls(tls) => tls.get_ref().0,
        };
        // The socket does not block.
        match SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(1..) => Some(Bar::SpokeFirst),
            Ok(0) | Err(_) => Some(Bar::Ended),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Socket::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, buffers),
            Socket::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, buffers),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Socket::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

/// A socket whose bytes are watched.
#[derive(Debug)]
pub(super) struct Gate {
    socket: Socket,
    line: Arc<Line>,
}

impl Gate {
    /// A gate before `socket`, and what it knows.
    pub(super) fn before(socket: Socket) -> (Gate, Arc<Line>) {
        let inner = Inner { state: State::Resting, write_error: None };
        let line = Arc::new(Line { inner: Mutex::new(inner) });
        (Gate { socket, line: Arc::clone(&line) }, line)
    }
}

impl AsyncRead for Gate {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space[..buffer.remaining().min(READ_BYTES)]);
        ready!(self.socket.poll_read(cx, &mut read))?;
        self.line.arrived(read.filled())?;
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.may_write(&self.socket)?;
        match ready!(self.socket.poll_write(cx, buffers)) {
            Err(error) => self.line.write_failed(error),
            written => Poll::Ready(written),
        }
    }

    /// Large bodies are not copied for it.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.socket.poll_flush(cx)) {
            Err(error) => self.line.write_failed(error),
            flushed => Poll::Ready(flushed),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_shutdown(cx)
    }
}
