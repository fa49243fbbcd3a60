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

type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to the first of `addresses` that accepts a connection. The other connections are dropped.
///
/// # Errors
/// Returns the last error if every address has failed.
pub(super) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut next = addresses.iter().copied();
    let mut open: VecDeque<Connecting> = VecDeque::new();
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    loop {
        if let Some(address) = next.next() {
            if open.len() >= MAX_OPEN {
                open.pop_front();
            }
            open.push_back(Box::pin(TcpStream::connect(address)));
        } else if open.is_empty() {
            return Err(failed);
        }
        let more_to_try = next.len() > 0;
        tokio::select! {
            biased;
            connected = first_of(&mut open) => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            },
            () = sleep(ATTEMPT_DELAY), if more_to_try => {}
        }
    }
}

/// Waits for the first of `open` that succeeds or fails, and removes it.
async fn first_of(open: &mut VecDeque<Connecting>) -> io::Result<TcpStream> {
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
