//! One HTTP/1.1 connection: it carries one request at a time, and hyper reads and writes it.
//!
//! hyper's half of the connection does not run in a task of its own. The attempt that sends a request over the
//! connection drives it, and nothing else can. So an attempt that is stopped writes nothing any more, an attempt that
//! is dropped closes its connection, and between requests nobody reads.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection as Driver, SendRequest};
use hyper_util::rt::TokioIo;

use super::clock::Moment;
use super::evidence::Evidence;
use super::fault::Fault;
use super::head::{MAX_HEAD_BYTES, MAX_HEADERS};
use super::watched_stream::{Socket, StreamWatch, Unusable, WatchedStream};

/// A request's body of known size, or no body.
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

    /// An empty body counts as a body, so that the request states its length.
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
    /// `None` when the connection has ended.
    driver: Option<Driver<TokioIo<WatchedStream>, Content>>,
    watch: Arc<StreamWatch>,
    tls: bool,
    /// Whether it has carried a request.
    reused: bool,
    opened: Moment,
}

/// Why an exchange gave no response head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Why the stream stopped the connection, if it did.
    pub(super) unusable: Option<Unusable>,
    /// What hyper or the operating system reported.
    pub(super) fault: Fault,
}

impl Connection {
    /// Begins HTTP on a connected socket. Nothing is written yet.
    ///
    /// # Errors
    /// Returns hyper's error. The current version of hyper never returns one.
    pub(super) async fn on(socket: Socket) -> Result<Connection, hyper::Error> {
        let tls = socket.is_tls();
        let (stream, watch) = WatchedStream::before(socket);
        let (sender, driver) = Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER_BYTES)
            // Such headers are obsolete (RFC 9112, section 5.2), but reading them avoids an unknown outcome.
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Connection { sender, driver: Some(driver), watch, tls, reused: false, opened: Moment::now() })
    }

    /// Writes `request` as soon as the stream lets it pass, and waits for the head of its answer.
    pub(super) async fn exchange(
        &mut self,
        request: http::Request<Content>,
        evidence: &Arc<Evidence>,
    ) -> Result<http::Response<Incoming>, Broken> {
        self.watch.offer(evidence, self.reused, self.tls);
        self.reused = true;
        let response = self.sender.send_request(request);
        drive(&mut self.driver, response).await.map_err(|error| {
            let mut fault = Fault::of(&error);
            fault.io = fault.io.or(self.watch.write_error());
            Broken { unusable: self.watch.unusable(), fault }
        })
    }

    /// The next bytes of an answer's body. `None` at its end.
    pub(super) async fn next_chunk(&mut self, body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            let frame = drive(&mut self.driver, poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) => return Some(Ok(bytes)),
                // The frame holds trailers, which are ignored.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Whether the stream ended the connection because the answer was larger than an answer may be.
    pub(super) fn was_excessive(&self) -> bool {
        self.watch.unusable() == Some(Unusable::Excess)
    }

    /// Whether it may carry another request. It may if it is not too old, the last request was written and answered to
    /// the end, both sides want to keep the connection, and nothing has arrived after the answer.
    pub(super) fn is_reusable(&mut self) -> bool {
        poll_driver(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        let young = Moment::now().saturating_since(self.opened) < MAX_AGE;
        let reusable = young && self.driver.is_some() && self.sender.is_ready() && self.watch.unusable().is_none();
        if reusable {
            self.watch.rest();
        }
        reusable
    }
}

/// How long a connection may be kept for further requests. A new connection looks up the host's name anew and judges
/// its addresses anew, however busy the old connection is.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The size of hyper's buffer, which has to hold a whole head. The stream has the smaller bound, which takes effect
/// first.
const MAX_BUFFER_BYTES: usize = MAX_HEAD_BYTES + 64 * 1024;

/// Drives the connection until `step` is done.
async fn drive<F: Future>(driver: &mut Option<Driver<TokioIo<WatchedStream>, Content>>, step: F) -> F::Output {
    let mut step = pin!(step);
    poll_fn(|cx| {
        // The step waits for something that the driver delivers, or for the driver's end.
        poll_driver(driver, cx);
        step.as_mut().poll(cx)
    })
    .await
}

/// Polls the driver. A driver that has ended is dropped at once, so that nobody waits for anything from it.
fn poll_driver(driver: &mut Option<Driver<TokioIo<WatchedStream>, Content>>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        *driver = None;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::mpsc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsConnector;

    use super::super::send_gate::SendGate;
    use super::*;

    /// Far longer than any exchange of these tests takes.
    const HANGS: Duration = Duration::from_secs(10);

    /// Both ends of a new connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    fn request(method: http::Method, content: Option<&'static str>, header_bytes: usize) -> http::Request<Content> {
        let content = Content(content.map(Bytes::from));
        let request = http::Request::builder().method(method).uri("/").header("host", "a.test");
        request.header("x-filler", "x".repeat(header_bytes)).body(content).unwrap()
    }

    /// Makes an exchange over `ours`. Returns why the stream stopped it, and what the other end received.
    async fn exchange(
        ours: TcpStream,
        mut theirs: TcpStream,
        request: http::Request<Content>,
        evidence: &Arc<Evidence>,
    ) -> (Option<Unusable>, Vec<u8>) {
        let mut connection = Connection::on(Socket::Plain(ours)).await.unwrap();
        // The other end never answers. So if the request is written after all, the exchange runs into the timeout.
        let broken =
            tokio::time::timeout(HANGS, connection.exchange(request, evidence)).await.expect("written").unwrap_err();
        drop(connection);
        let mut received = Vec::new();
        // Closing a socket with unread bytes sends a reset.
        theirs.read_to_end(&mut received).await.ok();
        (broken.unusable, received)
    }

    #[tokio::test]
    async fn behind_a_closed_send_gate_no_byte_of_a_request_is_written_however_large_it_is() {
        let send_gate = SendGate::open();
        send_gate.move_to(Moment::now());
        for header_bytes in [1, 256 * 1024] {
            for (method, content) in [
                (http::Method::GET, None),
                (http::Method::POST, None),
                (http::Method::POST, Some("")),
                (http::Method::POST, Some("{}")),
            ] {
                let (ours, theirs) = pair().await;
                let evidence = Arc::new(Evidence::start(send_gate.clone()));
                let sent = exchange(ours, theirs, request(method, content, header_bytes), &evidence).await;
                assert_eq!(sent, (Some(Unusable::GateClosed), Vec::new()));
                assert!(!evidence.is_taken());
            }
        }
    }

    #[tokio::test]
    async fn no_byte_is_written_to_a_host_that_speaks_first() {
        // Both cases are tested: the runtime has heard of the bytes, or only the kernel has.
        for heard in [true, false] {
            let (ours, mut theirs) = pair().await;
            theirs.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
            if heard {
                ours.readable().await.unwrap();
            }
            let evidence = Arc::new(Evidence::start(SendGate::open()));
            let sent = exchange(ours, theirs, request(http::Method::POST, Some("{}"), 1), &evidence).await;
            assert_eq!(sent, (Some(Unusable::SpokeFirst), Vec::new()));
            assert!(!evidence.is_taken());
        }
    }

    #[tokio::test]
    async fn no_byte_is_written_to_a_host_that_has_ended_the_connection() {
        let (ours, mut theirs) = pair().await;
        theirs.shutdown().await.unwrap();
        ours.readable().await.unwrap();
        let evidence = Arc::new(Evidence::start(SendGate::open()));
        let (unusable, received) = exchange(ours, theirs, request(http::Method::POST, Some("{}"), 1), &evidence).await;
        assert_eq!((unusable, received, evidence.is_taken()), (Some(Unusable::Ended), Vec::new(), false));
    }

    #[tokio::test]
    async fn no_byte_is_written_to_a_host_that_has_reset_the_connection() {
        let (ours, theirs) = pair().await;
        SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
        drop(theirs);
        // The kernel has heard of it, and the runtime has not.
        let mut connection = Connection::on(Socket::Plain(ours)).await.unwrap();
        let evidence = Arc::new(Evidence::start(SendGate::open()));
        let request = request(http::Method::POST, Some("{}"), 1);
        assert!(connection.exchange(request, &evidence).await.is_err());
        assert!(!evidence.is_taken());
    }

    #[tokio::test]
    async fn a_large_body_is_not_copied_before_it_is_written() {
        // More than the sockets of both ends hold.
        let content: Arc<[u8]> = vec![0; 32 * 1024 * 1024].into();
        let (ours, _theirs) = pair().await;
        let mut connection = Connection::on(Socket::Plain(ours)).await.unwrap();
        let body = Bytes::from_owner(Arc::clone(&content));
        let request = request(http::Method::POST, None, 1).map(|_| Content(Some(body)));
        let evidence = Arc::new(Evidence::start(SendGate::open()));
        let mut exchange = pin!(connection.exchange(request, &evidence));
        assert!(poll_fn(|cx| Poll::Ready(exchange.as_mut().poll(cx))).await.is_pending());
        assert!(evidence.is_taken());
        assert_eq!(Arc::strong_count(&content), 2, "what is not written yet is still where it was");
    }

    /// The configurations of a client and of a server that it trusts, `a.test`.
    fn tls_of_both() -> (ClientConfig, ServerConfig) {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let server = server.unwrap().with_no_client_auth();
        let server = server.with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.into())).unwrap();
        (client.unwrap().with_root_certificates(roots).with_no_client_auth(), server)
    }

    #[tokio::test]
    async fn over_tls_session_tickets_are_not_taken_for_an_early_answer_and_the_host_is_told_of_the_end() {
        let (client, server) = tls_of_both();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ticketed, tickets) = mpsc::channel();
        let host = std::thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut tls = ServerConnection::new(Arc::new(server)).unwrap();
            while tls.is_handshaking() || tls.wants_write() {
                tls.complete_io(&mut tcp).unwrap();
            }
            ticketed.send(()).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            let mut received = [0; 4096];
            let request = stream.read(&mut received)?;
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")?;
            std::io::Result::Ok((request, stream.read(&mut received)?))
        });
        let name = ServerName::try_from("a.test").unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let tls = TlsConnector::from(Arc::new(client)).connect(name, tcp).await.unwrap();
        // This holds up the runtime, which does not hear of the tickets.
        tickets.recv().unwrap();
        let mut connection = Connection::on(Socket::Tls(Box::new(tls))).await.unwrap();
        let evidence = Arc::new(Evidence::start(SendGate::open()));
        let request = request(http::Method::POST, Some("{}"), 1);
        let answer = tokio::time::timeout(HANGS, connection.exchange(request, &evidence)).await.expect("no answer");
        let mut answer = answer.map_err(|broken| format!("{broken:?}")).unwrap();
        assert_eq!(answer.status(), 204);
        assert!(connection.next_chunk(answer.body_mut()).await.is_none());
        assert!(!connection.is_reusable());
        drop(connection);
        let (request, end) = host.join().unwrap().unwrap();
        assert!(request > 0 && end == 0, "{request} {end}");
    }
}
