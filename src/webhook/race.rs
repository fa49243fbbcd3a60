//! Connects to the address of a host that answers first, as Happy Eyeballs does (RFC 8305). A silent address must not
//! hide one that answers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long one address is tried alone before the next one is tried, too (RFC 8305, section 5, recommends 250 ms).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How many addresses of a host are tried at most. Names usually have one to eight. More would only let one name use up
/// sockets.
pub(super) const MAX_ADDRESSES: usize = 16;

/// How many connections one attempt opens at a time at most. When the next address is due, the address that has been
/// silent longest is given up. It has had a second by then.
const MAX_OPEN: usize = 4;

/// The addresses in the order in which they are tried. The families take turns, beginning with the family of the first
/// address (RFC 8305, section 4). Within a family the order stays as it is.
pub(super) fn order(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut ordered = Vec::with_capacity(addresses.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    while ordered.len() < addresses.len() {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

/// A connection that is being opened.
pub(super) type Opening<'a, E> = Pin<Box<dyn Future<Output = Result<TcpStream, E>> + Send + 'a>>;

/// Connects to the first of `addresses` that accepts a connection. The other connections are dropped.
///
/// # Errors
/// Returns the last error if every address has failed.
pub(super) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let connected = first(addresses, |address| Box::pin(TcpStream::connect(address)), |_| false).await;
    connected.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
}

/// The first connection of those that `begin` opens to `addresses`. The others are dropped. `None` without addresses.
///
/// # Errors
/// Returns the last error if every address has failed, or one that `is_the_end` of it at once.
pub(super) async fn first<'a, E>(
    addresses: &[SocketAddr],
    begin: impl Fn(SocketAddr) -> Opening<'a, E>,
    is_the_end: impl Fn(&E) -> bool,
) -> Option<Result<TcpStream, E>> {
    let mut next = addresses.iter().copied();
    let mut open: VecDeque<Opening<'a, E>> = VecDeque::new();
    let mut failed = None;
    loop {
        if let Some(address) = next.next() {
            if open.len() >= MAX_OPEN {
                open.pop_front();
            }
            open.push_back(begin(address));
        } else if open.is_empty() {
            return failed.map(Err);
        }
        let more_to_try = next.len() > 0;
        tokio::select! {
            biased;
            connected = first_of(&mut open) => match connected {
                Ok(stream) => return Some(Ok(stream)),
                Err(error) if is_the_end(&error) => return Some(Err(error)),
                Err(error) => failed = Some(error),
            },
            () = sleep(ATTEMPT_DELAY), if more_to_try => {}
        }
    }
}

/// Waits for the first of `open` that succeeds or fails, and removes it.
async fn first_of<E>(open: &mut VecDeque<Opening<'_, E>>) -> Result<TcpStream, E> {
    poll_fn(|cx| {
        let ended = open.iter_mut().enumerate().find_map(|(index, connecting)| match connecting.as_mut().poll(cx) {
            Poll::Ready(connected) => Some((index, connected)),
            Poll::Pending => None,
        });
        let Some((index, connected)) = ended else { return Poll::Pending };
        drop(open.remove(index));
        Poll::Ready(connected)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        order(&addresses).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn families_take_turns_and_the_first_address_stays_first() {
        assert_eq!(ordered(&["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"]), ["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"]);
        assert_eq!(ordered(&["1.1.1.1", "1.1.1.2", "::1"]), ["1.1.1.1", "::1", "1.1.1.2"]);
        assert_eq!(ordered(&["1.1.1.1"]), ["1.1.1.1"]);
        assert!(ordered(&[]).is_empty());
    }

    #[test]
    fn no_name_has_more_than_its_share_of_addresses_tried() {
        let many: Vec<IpAddr> = (0..1_000).map(|index| IpAddr::from([1, 1, (index >> 8) as u8, index as u8])).collect();
        assert_eq!(order(&many), many[..MAX_ADDRESSES]);
    }
}
