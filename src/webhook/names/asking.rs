//! Asks the name servers for the addresses of a host. It tries the names that the host may stand for one after the
//! other. For each name it asks the name servers one after the other, in as many rounds as the configuration says.

use std::time::Duration;

use hickory_proto::rr::Name;
use tokio::time::Instant;

use super::LookUpError;
use super::exchange::{ExchangeError, Part, exchange};
use super::message::{Family, Found, Reply};
use super::resolv_conf::{Candidates, Directions, Server};

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
    let mut search = Search::new(&candidates);
    while let Some(name) = search.next_name() {
        if let Some(end) = search.heard(ask_servers(directions, name).await) {
            return end;
        }
    }
    Err(search.verdict)
}

/// How far the names that a host may stand for have been asked for.
#[derive(Debug)]
struct Search<'a> {
    candidates: &'a Candidates,
    /// The index of the name to ask for next.
    next: usize,
    /// What is known if no further name has addresses.
    verdict: LookUpError,
}

impl<'a> Search<'a> {
    fn new(candidates: &'a Candidates) -> Search<'a> {
        Search { candidates, next: 0, verdict: LookUpError::NoSuchName }
    }

    /// The name to ask for now.
    fn next_name(&mut self) -> Option<&'a Name> {
        let name = self.candidates.names.get(self.next)?;
        self.next += 1;
        Some(name)
    }

    /// Takes the answer about the name that was asked for last. Returns the result if no other name is asked for.
    fn heard(&mut self, answer: Result<Found, LookUpError>) -> Option<Result<Found, LookUpError>> {
        match answer {
            Err(LookUpError::NoSuchName) => None,
            Err(LookUpError::NoAddress) => {
                // What is known since a name server failed stays.
                if self.verdict == LookUpError::NoSuchName {
                    self.verdict = LookUpError::NoAddress;
                }
                None
            }
            Err(error) if self.next <= self.candidates.as_written => {
                (self.verdict, self.next) = (error, self.candidates.as_written);
                None
            }
            end => Some(end),
        }
    }
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
                pass_over_others(&silent, server, Instant::now());
                return conclusion;
            }
            if replies.iter().all(Option::is_none) {
                silent.push(server);
            }
            reason = reason_after(reason, &replies, &talked);
        }
    }
    Err(reason)
}

/// Passes over those of the `silent` servers that are not `server`, which had an answer after all.
fn pass_over_others(silent: &[&Server], server: &Server, now: Instant) {
    silent.iter().filter(|other| other.address != server.address).for_each(|other| other.pass_over(now));
}

/// Why there is no answer, after one more server had none. That a server failed says more than that no socket was left, and that
/// more than silence.
fn reason_after(reason: LookUpError, replies: &[Option<Reply>], talked: &Result<(), ExchangeError>) -> LookUpError {
    if replies.contains(&Some(Reply::Failure)) {
        return LookUpError::Failing;
    }
    match (reason, talked) {
        (LookUpError::Silent, Err(ExchangeError::NoSocket)) => LookUpError::NoSocket,
        (reason, _) => reason,
    }
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

    /// The names that are asked for as those of `host`, and the result, if the name servers answer so.
    fn searched(
        text: &str,
        host: &str,
        answers: &[Result<&str, LookUpError>],
    ) -> (Vec<String>, Result<usize, LookUpError>) {
        let candidates = Directions::parse(text.as_bytes(), 53).candidates(host).unwrap();
        let (mut search, mut asked, mut answers) = (Search::new(&candidates), vec![], answers.iter());
        while let Some(name) = search.next_name() {
            asked.push(name.to_ascii());
            let answer = answers.next().expect("no further name is asked for").map(|address| {
                let addresses = vec![address.parse::<IpAddr>().unwrap()];
                Found { addresses, ttl: Duration::ZERO }
            });
            if let Some(end) = search.heard(answer) {
                return (asked, end.map(|found| found.addresses.len()));
            }
        }
        (asked, Err(search.verdict))
    }

    #[test]
    fn the_next_name_is_asked_for_after_the_answer_that_there_is_no_address_and_the_written_one_in_any_case() {
        use LookUpError::{Failing, NoAddress, NoSuchName, Silent};
        let text = "search one.test two.test";
        let found = Ok("192.0.2.1");
        // The written name comes last. What the answers are, how many of the names are asked for, and what results.
        let (one, two, written) = ("a.one.test.", "a.two.test.", "a.");
        for (answers, asked, expected) in [
            (&[found][..], &[one][..], Ok(1)),
            (&[Err(NoSuchName), Err(NoAddress), found], &[one, two, written], Ok(1)),
            (&[Err(NoSuchName), Err(NoSuchName), Err(NoSuchName)], &[one, two, written], Err(NoSuchName)),
            (&[Err(NoSuchName), Err(NoAddress), Err(NoSuchName)], &[one, two, written], Err(NoAddress)),
            (&[Err(Silent), found], &[one, written], Ok(1)),
            (&[Err(NoSuchName), Err(Silent), found], &[one, two, written], Ok(1)),
            (&[Err(Silent), Err(NoSuchName)], &[one, written], Err(Silent)),
            (&[Err(Failing), Err(NoAddress)], &[one, written], Err(Failing)),
            (&[Err(NoAddress), Err(Failing), Err(NoAddress)], &[one, two, written], Err(Failing)),
            (&[Err(NoAddress), Err(NoSuchName), Err(Silent)], &[one, two, written], Err(Silent)),
        ] {
            let asked = asked.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(searched(text, "a", answers), (asked, expected), "{answers:?}");
        }
        // The written name comes first, so nothing is asked for after a failure.
        assert_eq!(searched(text, "a.b", &[Err(Silent)]), (vec!["a.b.".to_owned()], Err(Silent)));
        let (asked, end) = searched(text, "a.b", &[Err(NoSuchName), Err(Failing)]);
        assert_eq!((asked.len(), end), (2, Err(Failing)));
    }

    #[test]
    fn a_server_is_passed_over_if_it_was_silent_where_another_one_answered() {
        let now = Instant::now();
        for (silent, answering, last) in [(&[0][..], 1, 0), (&[0, 1], 1, 0), (&[1, 0], 0, 1), (&[1], 1, 1)] {
            let directions = Directions::parse(b"nameserver 10.0.0.1\nnameserver 10.0.0.2", 53);
            let servers = directions.servers(now);
            let address = servers[last].address;
            let silent: Vec<&Server> = silent.iter().map(|index| servers[*index]).collect();
            pass_over_others(&silent, servers[answering], now);
            assert_eq!(directions.servers(now)[1].address, address);
        }
    }

    #[test]
    fn a_failure_explains_more_than_a_missing_socket_and_that_more_than_silence() {
        use LookUpError::{Failing, NoSocket, Silent};
        let (silence, failure) = ([None, None], [None, Some(Reply::Failure)]);
        for (reason, replies, talked, expected) in [
            (Silent, &silence, Ok(()), Silent),
            (Silent, &silence, Err(ExchangeError::Server), Silent),
            (Silent, &silence, Err(ExchangeError::NoSocket), NoSocket),
            (NoSocket, &silence, Ok(()), NoSocket),
            (Failing, &silence, Err(ExchangeError::NoSocket), Failing),
            (NoSocket, &failure, Ok(()), Failing),
            (Silent, &failure, Err(ExchangeError::NoSocket), Failing),
        ] {
            assert_eq!(reason_after(reason, replies, &talked), expected, "{reason:?} {replies:?} {talked:?}");
        }
    }
}
