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
    let mut rest = addresses;
    let mut open: VecDeque<Opening<'a, E>> = VecDeque::new();
    let mut failed = None;
    loop {
        if let Some((address, others)) = rest.split_first() {
            rest = others;
            if open.len() >= MAX_OPEN {
                open.pop_front();
            }
            open.push_back(begin(*address));
        } else if open.is_empty() {
            return failed.map(Err);
        }
        tokio::select! {
            biased;
            connected = first_of(&mut open) => match connected {
                Ok(stream) => return Some(Ok(stream)),
                Err(error) if is_the_end(&error) => return Some(Err(error)),
                Err(error) => failed = Some(error),
            },
            () = sleep(ATTEMPT_DELAY), if !rest.is_empty() => {}
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

    fn numbered(count: u8) -> Vec<SocketAddr> {
        (0..count).map(|number| SocketAddr::from(([192, 0, 2, number], 443))).collect()
    }

    fn number(address: SocketAddr) -> usize {
        match address.ip() {
            IpAddr::V4(address) => address.octets()[3].into(),
            IpAddr::V6(_) => unreachable!("only IPv4 addresses are numbered"),
        }
    }

    /// Which address ends the race if each one answers so many milliseconds after its beginning (`None`: never), when that is,
    /// and how many were open at once. The answers are errors, which need no socket; those of odd addresses do not end it.
    async fn raced(answers: &[Option<u64>]) -> (Option<usize>, Duration, usize) {
        let (began, open) = (tokio::time::Instant::now(), std::sync::Arc::new(()));
        let most = std::sync::atomic::AtomicUsize::new(0);
        let begin = |address| -> Opening<'_, usize> {
            let (number, mine) = (number(address), std::sync::Arc::clone(&open));
            most.fetch_max(std::sync::Arc::strong_count(&open) - 1, std::sync::atomic::Ordering::Relaxed);
            let answer = answers[number];
            Box::pin(async move {
                let _mine = mine;
                match answer {
                    Some(millis) => sleep(Duration::from_millis(millis)).await,
                    None => std::future::pending().await,
                }
                Err(number)
            })
        };
        let addresses = numbered(answers.len() as u8);
        let race = first(&addresses, begin, |number| number % 2 == 0);
        let ended = tokio::time::timeout(Duration::from_secs(60), race).await.expect("the race ends");
        (ended.map(|ended| ended.unwrap_err()), began.elapsed(), most.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_hides_none_behind_it_and_may_still_answer_first() {
        let nothing = (None, Duration::ZERO, 0);
        assert_eq!(raced(&[]).await, nothing);
        assert_eq!(raced(&[Some(9_000)]).await.0, Some(0), "the only one has all the time that it needs");
        assert_eq!(raced(&[None, None, Some(0)]).await, (Some(2), 2 * ATTEMPT_DELAY, 3));
        assert_eq!(raced(&[Some(600), None, None]).await, (Some(0), Duration::from_millis(600), 3));
        assert_eq!(raced(&[Some(9_000), Some(0), Some(9_500)]).await.0, Some(0), "a failure is no end");
        let (last, after, _) = raced(&[None, Some(0), Some(10)]).await;
        assert_eq!(
            (last, after),
            (Some(2), ATTEMPT_DELAY + Duration::from_millis(10)),
            "a failure makes the next one begin"
        );
        assert_eq!(raced(&[None, Some(0)].map(|answer| answer.or(Some(50)))).await.0, Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_open_at_once_and_the_one_that_has_been_silent_longest_is_given_up() {
        let mut answers = vec![None; 10];
        answers[9] = Some(0);
        // The last one has an odd number, so its failure is the end only because nothing else can come.
        answers.push(Some(0));
        let (ended, after, most) = raced(&answers).await;
        assert_eq!((ended, after, most), (Some(10), 9 * ATTEMPT_DELAY, MAX_OPEN));
        // The first one would answer just after it was given up.
        let late = ATTEMPT_DELAY.as_millis() as u64 * MAX_OPEN as u64 + 1;
        let (ended, ..) = raced(&[Some(late), None, None, None, None, None, Some(5_000)]).await;
        assert_eq!(ended, Some(6));
        let just = late - 2;
        assert_eq!(raced(&[Some(just), None, None, None, None]).await.0, Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn if_every_address_fails_the_last_error_is_told() {
        let begin = |address| -> Opening<'_, usize> { Box::pin(async move { Err(number(address)) }) };
        let failed = first(&numbered(5), begin, |_| false).await;
        assert_eq!(failed.map(|failed| failed.unwrap_err()), Some(4));
    }
}
