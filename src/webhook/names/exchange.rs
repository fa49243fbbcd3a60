//! An exchange with one name server: it sends questions and reads replies over a socket of its own. Exchanges share
//! nothing, so none can hold up another. Dropping the future closes the socket.
//!
//! An exchange has one socket at a time: UDP first, and TCP for replies that do not fit into a datagram (RFC 7766). The
//! UDP socket is connected. So the system drops datagrams from other addresses, and reports a closed port at once.
//! Nobody can guess the socket's own port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::message::{Family, Question, Reply};

/// After how long an unanswered question is sent again, because datagrams may be lost.
const RESEND: Duration = Duration::from_secs(1);
/// How long the addresses of one family wait for those of the other. RFC 8305 (section 3) waits for 50 ms, because
/// there a person waits for the result.
const RESOLUTION_DELAY: Duration = Duration::from_millis(500);
/// The largest datagram that is read, in bytes. Servers reply to a question without extensions with 512 bytes at most.
const DATAGRAM_BYTES: usize = 4096;
/// After this many datagrams that answer no question of this exchange, the name server counts as broken.
const MAX_NOISE: usize = 64;

/// One of the questions of an exchange, and the reply to it.
#[derive(Debug)]
pub(super) struct Part {
    question: Question,
    /// The latest reply.
    pub(super) reply: Option<Reply>,
}

impl Part {
    /// A question without a reply.
    pub(super) fn new(name: &Name, family: Family) -> Part {
        Part { question: Question::new(name, family), reply: None }
    }

    /// Takes `bytes` if they are the reply to this question. Returns whether it took them.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let reply = if self.reply.is_none() { self.question.read(bytes) } else { None };
        let taken = reply.is_some();
        self.reply = reply.or(self.reply.take());
        taken
    }

    fn has_addresses(&self) -> bool {
        matches!(self.reply, Some(Reply::Addresses(_) | Reply::Truncated))
    }
}

/// Why an exchange ended early. Replies that arrived before that are kept.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// This machine has no socket left.
    NoSocket,
    /// The name server cannot be reached, or its replies are not valid.
    Server,
}

impl From<io::Error> for ExchangeError {
    fn from(_: io::Error) -> ExchangeError {
        ExchangeError::Server
    }
}

/// Sends the questions of those `parts` that have no reply to `server`, and waits for replies, for no longer than
/// `limit`.
///
/// # Errors
/// Returns why the exchange ended early.
pub(super) async fn exchange(
    server: SocketAddr,
    parts: &mut [Part],
    limit: Duration,
    over_tcp: bool,
) -> Result<(), ExchangeError> {
    let talk = async {
        if over_tcp {
            return talk_over_tcp(server, parts, |part| part.reply.is_none()).await;
        }
        talk_over_udp(server, parts).await?;
        if parts.iter().any(|part| part.reply == Some(Reply::Truncated)) {
            talk_over_tcp(server, parts, |part| part.reply == Some(Reply::Truncated)).await?;
        }
        Ok(())
    };
    timeout(limit, talk).await.unwrap_or(Ok(()))
}

async fn talk_over_udp(server: SocketAddr, parts: &mut [Part]) -> Result<(), ExchangeError> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await.map_err(|_| ExchangeError::NoSocket)?;
    socket.connect(server).await?;
    let mut send = interval(RESEND);
    send.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut noise = 0;
    let mut enough_at = None;
    while !is_enough(parts) {
        tokio::select! {
            _ = send.tick() => {
                for part in parts.iter().filter(|part| part.reply.is_none()) {
                    socket.send(&bytes(part)?).await?;
                }
            }
            received = socket.recv(&mut buffer) => {
                let datagram = &buffer[..received?];
                if !parts.iter_mut().any(|part| part.take(datagram)) {
                    noise += 1;
                    if noise == MAX_NOISE {
                        return Err(ExchangeError::Server);
                    }
                }
                if enough_at.is_none() && parts.iter().any(Part::has_addresses) {
                    enough_at = Some(Instant::now() + RESOLUTION_DELAY);
                }
            }
            () = sleep_until(enough_at.unwrap_or_else(Instant::now)), if enough_at.is_some() => break,
        }
    }
    Ok(())
}

/// Asks the questions for which `is_meant` is true over one connection, one after the other.
async fn talk_over_tcp(
    server: SocketAddr,
    parts: &mut [Part],
    is_meant: impl Fn(&Part) -> bool,
) -> Result<(), ExchangeError> {
    let socket = match server {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let mut stream = socket.map_err(|_| ExchangeError::NoSocket)?.connect(server).await?;
    for part in parts.iter_mut().filter(|part| is_meant(part)) {
        let answer = ask_over(&mut stream, &bytes(part)?).await?;
        // A reply that is truncated over TCP is not valid.
        match part.question.read(&answer) {
            None | Some(Reply::Truncated) => return Err(ExchangeError::Server),
            reply => part.reply = reply,
        }
    }
    Ok(())
}

/// Asks one question over a TCP connection. Each message follows its length (RFC 1035 section 4.2.2), so a reply has
/// 64 KiB at most.
async fn ask_over(stream: &mut TcpStream, question: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn bytes(part: &Part) -> Result<Vec<u8>, ExchangeError> {
    part.question.bytes().map_err(|_| ExchangeError::Server)
}

fn is_enough(parts: &[Part]) -> bool {
    parts.iter().all(|part| part.reply.is_some()) || parts.iter().any(|part| part.reply == Some(Reply::NoSuchName))
}

#[cfg(test)]
mod tests {
    use super::super::message::Found;
    use super::*;

    #[test]
    fn only_addresses_and_replies_that_hide_some_let_the_other_family_wait_for_a_moment_only() {
        let found = Found { addresses: Vec::new(), ttl: Duration::ZERO };
        for (reply, has_addresses) in [
            (None, false),
            (Some(Reply::Addresses(found)), true),
            (Some(Reply::Truncated), true),
            (Some(Reply::NoAddress), false),
            (Some(Reply::NoSuchName), false),
            (Some(Reply::Failure), false),
        ] {
            let part = Part { reply: reply.clone(), ..Part::new(&Name::root(), Family::V4) };
            assert_eq!(part.has_addresses(), has_addresses, "{reply:?}");
        }
    }
}
