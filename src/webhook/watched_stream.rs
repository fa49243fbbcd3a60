//! The stream between HTTP and the socket. Every byte of a connection passes the stream, so it knows whether a byte of the
//! request was written, and what arrived before that.
//!
//! At the first byte of a request the stream does three things, in this order, and then writes at once:
//!
//! 1. It asks whether anything has arrived. What a receiver sends before the request cannot be an answer to it. For
//!    instance, some servers send a 408 on an idle connection before they close it. Without this check, the 408 would
//!    be taken for the answer to the request. The stream asks the kernel, because the runtime may not know of the bytes
//!    yet.
//! 2. It asks whether the send gate is open, by the clock that goes on while the machine is suspended.
//! 3. It notes in the evidence that the request is taken. Without this note, it is certain that no byte was written.
//!
//! One case remains, which this side cannot see: bytes that the receiver sent before it had the request, and that
//! arrive after the kernel was asked. That is possible for the time that a packet travels, and some microseconds.

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

/// How many bytes are read at once at most. hyper lets its buffer grow with the bytes that it gets, and keeps the
/// buffer while a connection is idle.
const READ_BYTES: usize = 16 * 1024;

/// A connected socket, with TLS or without.
#[derive(Debug)]
pub(super) enum Socket {
    /// TCP without TLS.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The send gate was closed when the request was about to be written.
    GateClosed,
    /// Something had arrived before the request was written.
    SpokeFirst,
    /// The connection had ended before the request was written.
    Ended,
    /// The answer was too large: its head was too long, too many interim heads came before it, or too many bytes came
    /// after it.
    Excess,
}

/// The state of a connection.
#[derive(Debug)]
enum StreamState {
    /// No request is under way.
    Resting,
    /// A request may be written.
    Offered(Offer),
    /// The request is being written, or was written. The heads of its answer are watched.
    Awaiting(HeadWatch),
    /// The final head has passed, and this many bytes after it.
    Answering(usize),
    /// The connection cannot be used any more.
    Unusable(Unusable),
}

/// How many bytes are read at most after a final head, framing included. It is twice what is read of a body
/// (`response::MAX_RESPONSE_BYTES`), which is far more than the framing of some thousand chunks of usual size needs.
const MAX_BODY_BYTES_ON_THE_WIRE: usize = 2 * super::response::MAX_RESPONSE_BYTES;

/// A request that waits to be written.
#[derive(Debug)]
struct Offer {
    evidence: Arc<Evidence>,
    /// Whether unread bytes in the kernel mean that the receiver spoke first. On a new TLS connection they do not: they
    /// may be session tickets (RFC 8446, section 4.6.1), which a server may send right after the handshake.
    ask_kernel: bool,
}

/// The side of the stream that the connection uses: it offers requests here, and asks what the stream knows.
#[derive(Debug)]
pub(super) struct StreamWatch {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: StreamState,
    /// The first error that occurred while the request was written.
    write_error: Option<io::ErrorKind>,
}

impl StreamWatch {
    /// Offers a request. Its first byte is written if `evidence` lets the request be taken. `reused` says that the
    /// connection has carried a request before.
    pub(super) fn offer(&self, evidence: &Arc<Evidence>, reused: bool, tls: bool) {
        let mut inner = self.lock();
        if !matches!(inner.state, StreamState::Unusable(_)) {
            inner.state = StreamState::Offered(Offer { evidence: Arc::clone(evidence), ask_kernel: reused || !tls });
        }
    }

    /// Notes that the request was answered to the end, so that the connection may carry another.
    pub(super) fn rest(&self) {
        let mut inner = self.lock();
        if !matches!(inner.state, StreamState::Unusable(_)) {
            inner.state = StreamState::Resting;
        }
    }

    /// Why the connection cannot be used any more. `None` if it can.
    pub(super) fn unusable(&self) -> Option<Unusable> {
        match self.lock().state {
            StreamState::Unusable(reason) => Some(reason),
            _ => None,
        }
    }

    /// The first error that occurred while the request was written.
    pub(super) fn write_error(&self) -> Option<io::ErrorKind> {
        self.lock().write_error
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks whether bytes may be written. If they are the first of a request, the request is taken.
    fn may_write(&self, socket: &Socket) -> io::Result<()> {
        let mut inner = self.lock();
        let offer = match &inner.state {
            StreamState::Awaiting(_) | StreamState::Answering(_) => return Ok(()),
            StreamState::Offered(offer) => offer,
            StreamState::Resting => return Err(refused()),
            StreamState::Unusable(_) => return Err(refused()),
        };
        let heard = if offer.ask_kernel { socket.heard() } else { None };
        let reason = match heard {
            Some(reason) => reason,
            None if offer.evidence.take() => {
                inner.state = StreamState::Awaiting(HeadWatch::default());
                return Ok(());
            }
            None => Unusable::GateClosed,
        };
        inner.state = StreamState::Unusable(reason);
        Err(refused())
    }

    /// Notes that bytes have arrived.
    fn arrived(&self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        let next = match &mut inner.state {
            // hyper does not take these bytes for an answer, because it has not written the request.
            StreamState::Resting | StreamState::Offered(_) if !bytes.is_empty() => {
                StreamState::Unusable(Unusable::SpokeFirst)
            }
            StreamState::Resting | StreamState::Offered(_) => StreamState::Unusable(Unusable::Ended),
            StreamState::Awaiting(heads) => match heads.pass(bytes) {
                Seen::More => return Ok(()),
                Seen::Final => StreamState::Answering(0),
                Seen::Excess => StreamState::Unusable(Unusable::Excess),
            },
            // The bound of a body does not count its framing, so only this check bounds the framing: a chunk's size may
            // begin with any number of zeros, and a chunk may have a single byte.
            StreamState::Answering(passed) if *passed > MAX_BODY_BYTES_ON_THE_WIRE => {
                StreamState::Unusable(Unusable::Excess)
            }
            StreamState::Answering(passed) => {
                *passed += bytes.len();
                return Ok(());
            }
            StreamState::Unusable(_) => return Ok(()),
        };
        let excess = matches!(next, StreamState::Unusable(Unusable::Excess));
        inner.state = next;
        if excess { Err(refused()) } else { Ok(()) }
    }

    /// Notes that a write failed. Reading goes on, because an answer may have arrived before the connection broke. The
    /// reader then finds the connection's end right behind the answer. So the write does not fail: it stays pending.
    fn write_failed<T>(&self, error: io::Error) -> Poll<io::Result<T>> {
        let mut inner = self.lock();
        match inner.state {
            StreamState::Awaiting(_) | StreamState::Answering(_) => {
                inner.write_error.get_or_insert(error.kind());
                Poll::Pending
            }
            _ => Poll::Ready(Err(error)),
        }
    }
}

/// The error that hyper gets. The reason is in the [`StreamWatch`].
fn refused() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

impl Socket {
    /// Whether this socket uses TLS.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// Asks the kernel whether unread bytes, or the end of the connection, have arrived.
    fn heard(&self) -> Option<Unusable> {
        let tcp = match self {
            Socket::Plain(tcp) => tcp,
            Socket::Tls(tls) => tls.get_ref().0,
        };
        // The socket is non-blocking, so this returns at once.
        match SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(1..) => Some(Unusable::SpokeFirst),
            Ok(0) | Err(_) => Some(Unusable::Ended),
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

/// A socket all of whose bytes are watched.
#[derive(Debug)]
pub(super) struct WatchedStream {
    socket: Socket,
    watch: Arc<StreamWatch>,
}

impl WatchedStream {
    /// Watches `socket`. Returns the stream together with its [`StreamWatch`].
    pub(super) fn before(socket: Socket) -> (WatchedStream, Arc<StreamWatch>) {
        let inner = Inner { state: StreamState::Resting, write_error: None };
        let watch = Arc::new(StreamWatch { inner: Mutex::new(inner) });
        (WatchedStream { socket, watch: Arc::clone(&watch) }, watch)
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space[..buffer.remaining().min(READ_BYTES)]);
        ready!(self.socket.poll_read(cx, &mut read))?;
        self.watch.arrived(read.filled())?;
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.may_write(&self.socket)?;
        match ready!(self.socket.poll_write(cx, buffers)) {
            Err(error) => self.watch.write_failed(error),
            written => Poll::Ready(written),
        }
    }

    /// The stream writes several buffers at once, so that hyper need not copy large bodies into one buffer.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.socket.poll_flush(cx)) {
            Err(error) => self.watch.write_failed(error),
            flushed => Poll::Ready(flushed),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::send_gate::SendGate;
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

    async fn connected() -> (WatchedStream, Arc<StreamWatch>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (stream, watch) = WatchedStream::before(Socket::Plain(ours.unwrap()));
        (stream, watch, theirs.unwrap().0)
    }

    /// A stream on which a request has been begun to be written.
    async fn asked() -> (WatchedStream, Arc<StreamWatch>, TcpStream) {
        let (stream, watch, theirs) = connected().await;
        watch.offer(&Arc::new(Evidence::start(SendGate::open())), false, false);
        watch.may_write(&stream.socket).unwrap();
        (stream, watch, theirs)
    }

    #[tokio::test]
    async fn between_two_requests_nothing_is_written_and_nothing_that_arrives_is_an_answer() {
        for (bytes, reason) in [(&b"HTTP/1.1 408 Request Timeout"[..], Unusable::SpokeFirst), (b"", Unusable::Ended)] {
            let (stream, watch, _theirs) = asked().await;
            watch.arrived(HEAD).unwrap();
            watch.rest();
            assert!(watch.may_write(&stream.socket).is_err());
            assert_eq!(watch.unusable(), None);
            watch.arrived(bytes).unwrap();
            assert_eq!(watch.unusable(), Some(reason));
        }
    }

    #[tokio::test]
    async fn behind_the_head_of_an_answer_no_more_is_read_than_its_bound() {
        let (_stream, watch, _theirs) = asked().await;
        watch.arrived(HEAD).unwrap();
        for bytes in [&vec![b'0'; MAX_BODY_BYTES_ON_THE_WIRE][..], b"0"] {
            watch.arrived(bytes).unwrap();
        }
        assert_eq!(watch.unusable(), None);
        assert!(watch.arrived(b"0").is_err());
        assert_eq!(watch.unusable(), Some(Unusable::Excess));
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_written_any_more_still_waits_for_its_answer_and_the_first_error_is_kept() {
        let (_stream, watch, _theirs) = asked().await;
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset] {
            assert!(watch.write_failed::<()>(kind.into()).is_pending());
        }
        assert_eq!(watch.write_error(), Some(io::ErrorKind::BrokenPipe));
        let (_stream, before, _theirs) = connected().await;
        assert!(before.write_failed::<()>(io::ErrorKind::BrokenPipe.into()).is_ready());
    }
}
