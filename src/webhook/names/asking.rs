//! Asks the name servers for the addresses of a host. It tries the names that the host may stand for one after the
//! other. For each name it asks the name servers one after the other, in as many rounds as the configuration says.

use std::time::Duration;

use hickory_proto::rr::Name;
use tokio::time::Instant;

use super::LookUpError;
use super::exchange::{ExchangeError, Part, exchange};
use super::message::{Family, Found, Reply};
use super::resolv_conf::{Directions, Server};

/// Asks for the addresses of `host`.
///
/// The next name is tried only after the answer that the name does not exist or has no address. If name servers are
/// silent or fail, nothing is known, and a name with the next search domain might be another host than the one that is
/// meant. Then only the name as it was written is still asked for, if it was not asked for before.
///
/// # Errors
/// Returns why there are no addresses, as exactly as it is known.
pub(super) async fn ask(directions: &Directions, host: &str) -> Result<Found, LookUpError> {
    let candidates = directions.candidates(host).ok_or(LookUpError::NotAName)?;
    let mut verdict = LookUpError::NoSuchName;
    let mut next = 0;
    while let Some(name) = candidates.names.get(next) {
        next += 1;
        match ask_servers(directions, name).await {
            Ok(found) => return Ok(found),
            Err(LookUpError::NoSuchName) => {}
            Err(LookUpError::NoAddress) if verdict == LookUpError::NoSuchName => verdict = LookUpError::NoAddress,
            Err(LookUpError::NoAddress) => {}
            Err(error) if next <= candidates.as_written => (verdict, next) = (error, candidates.as_written),
            Err(error) => return Err(error),
        }
    }
    Err(verdict)
}

async fn ask_servers(directions: &Directions, name: &Name) -> Result<Found, LookUpError> {
    let families: &[Family] = if directions.v4_only { &[Family::V4] } else { &[Family::V6, Family::V4] };
    let servers = directions.servers(Instant::now());
    let mut silent: Vec<&Server> = Vec::new();
    let mut reason = LookUpError::Silent;
    for _ in 0..directions.attempts {
        for server in &servers {
            let mut parts: Vec<Part> = families.iter().map(|family| Part::new(name, *family)).collect();
            let talked = exchange(server.address, &mut parts, directions.timeout, directions.over_tcp).await;
            let replies: Vec<Option<Reply>> = parts.into_iter().map(|part| part.reply).collect();
            if let Some(conclusion) = conclude(&replies) {
                let others = silent.iter().filter(|other| other.address != server.address);
                others.for_each(|other| other.pass_over(Instant::now()));
                return conclusion;
            }
            if replies.iter().all(Option::is_none) {
                silent.push(server);
            }
            if replies.contains(&Some(Reply::Failure)) {
                reason = LookUpError::Failing;
            } else if reason == LookUpError::Silent && matches!(talked, Err(ExchangeError::NoSocket)) {
                reason = LookUpError::NoSocket;
            }
        }
    }
    Err(reason)
}

/// Joins the replies to the questions about one name. `None` if another name server has to be asked.
fn conclude(replies: &[Option<Reply>]) -> Option<Result<Found, LookUpError>> {
    if replies.contains(&Some(Reply::NoSuchName)) {
        return Some(Err(LookUpError::NoSuchName));
    }
    let is_settled = |reply: &Option<Reply>| matches!(reply, Some(Reply::Addresses(_) | Reply::NoAddress));
    let is_whole = replies.iter().all(is_settled);
    // The addresses of one family are enough to go on with, but such an answer is not kept for long.
    let longest = if is_whole { Duration::MAX } else { Duration::ZERO };
    let mut all = Found { addresses: Vec::new(), ttl: longest };
    for reply in replies {
        if let Some(Reply::Addresses(found)) = reply {
            all.addresses.extend(&found.addresses);
            all.ttl = all.ttl.min(found.ttl);
        }
    }
    match (all.addresses.is_empty(), is_whole) {
        (false, _) => Some(Ok(all)),
        (true, true) => Some(Err(LookUpError::NoAddress)),
        (true, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn addresses(text: &str, seconds: u64) -> Option<Reply> {
        let addresses = vec![text.parse::<IpAddr>().unwrap()];
        Some(Reply::Addresses(Found { addresses, ttl: Duration::from_secs(seconds) }))
    }

    #[test]
    fn both_families_make_one_answer_that_is_as_fresh_as_the_staler_one() {
        let found = conclude(&[addresses("2001:db8::1", 30), addresses("192.0.2.1", 20)]).unwrap().unwrap();
        assert_eq!((found.addresses.len(), found.ttl), (2, Duration::from_secs(20)));
        let one = conclude(&[Some(Reply::NoAddress), addresses("192.0.2.1", 20)]).unwrap().unwrap();
        assert_eq!((one.addresses.len(), one.ttl), (1, Duration::from_secs(20)));
    }

    #[test]
    fn half_an_answer_is_taken_and_not_kept() {
        for other in [None, Some(Reply::Failure), Some(Reply::Truncated)] {
            let found = conclude(&[other, addresses("192.0.2.1", 20)]).unwrap().unwrap();
            assert_eq!((found.addresses.len(), found.ttl), (1, Duration::ZERO));
        }
    }

    #[test]
    fn only_both_families_together_say_that_there_is_no_address() {
        assert_eq!(conclude(&[Some(Reply::NoAddress), Some(Reply::NoAddress)]), Some(Err(LookUpError::NoAddress)));
        for other in [None, Some(Reply::Failure), Some(Reply::Truncated)] {
            assert_eq!(conclude(&[other, Some(Reply::NoAddress)]), None);
        }
        assert_eq!(conclude(&[None, Some(Reply::NoSuchName)]), Some(Err(LookUpError::NoSuchName)));
    }
}
