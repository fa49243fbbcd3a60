//! DNS messages (RFC 1035 section 4): writes a question as bytes, and reads the reply. This module does no I/O.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use super::MAX_ADDRESSES;

/// How many aliases (CNAME) are followed from a name to its addresses, all inside one answer. Longer chains, and
/// circles, count as a failure of the name server.
const MAX_ALIASES: usize = 16;
/// The length of a message's header, in bytes.
const HEADER_BYTES: usize = 12;
/// A bit of the header's third byte: the message is a response.
const RESPONSE_BIT: u8 = 0x80;
/// A bit of the header's third byte: the message was truncated.
const TRUNCATED_BIT: u8 = 0x02;

/// The two kinds of addresses. Each needs a question of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// AAAA records (RFC 3596).
    V6,
    /// A records.
    V4,
}

/// Addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// At least one and at most [`MAX_ADDRESSES`], in the name server's order.
    pub(super) addresses: Vec<IpAddr>,
    /// How long the name server lets them be kept.
    pub(super) ttl: Duration,
}

/// What a name server replied to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The name has these addresses.
    Addresses(Found),
    /// The name exists, but has no address of this family.
    NoAddress,
    /// The name does not exist (NXDOMAIN), for any family.
    NoSuchName,
    /// The server cannot or will not look up the name: SERVFAIL, REFUSED and the like, or aliases without end.
    Failure,
    /// The reply does not fit into a datagram. The question has to be asked over TCP (RFC 7766).
    Truncated,
}

/// One question to name servers. It recognises its reply by its id and its query.
#[derive(Clone, Debug)]
pub(super) struct Question {
    id: u16,
    query: Query,
}

impl Question {
    /// A question with a new, unpredictable id. `name` must be absolute.
    pub(super) fn new(name: &Name, family: Family) -> Question {
        let kind = match family {
            Family::V6 => RecordType::AAAA,
            Family::V4 => RecordType::A,
        };
        Question { id: Message::query().metadata.id, query: Query::query(name.clone(), kind) }
    }

    /// The message to send. It asks for recursion, and uses no extension (EDNS), so a reply of more than 512 bytes
    /// comes over TCP.
    ///
    /// # Errors
    /// Returns an error if the name cannot be written. That does not happen for a name that could be read.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, ProtoError> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(self.query.clone());
        message.to_vec()
    }

    /// Reads `bytes` as a reply to this question. `None` if they are a reply to another question, or no valid message.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Reply> {
        let (id, flags) = (bytes.first_chunk::<2>()?, *bytes.get(2)?);
        if bytes.len() < HEADER_BYTES || u16::from_be_bytes(*id) != self.id || flags & RESPONSE_BIT == 0 {
            return None;
        }
        // A truncated message may end anywhere, so it is not read any further.
        if flags & TRUNCATED_BIT != 0 {
            return Some(Reply::Truncated);
        }
        let message = Message::from_vec(bytes).ok()?;
        let asked_for = |query: &Query| query.query_class == DNSClass::IN && *query == self.query;
        match (message.queries.as_slice(), message.metadata.response_code) {
            ([query], code) if asked_for(query) => Some(self.judge(&message, code)),
            // A server that does not understand a question does not always repeat it.
            ([], ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::ServFail | ResponseCode::Refused) => {
                Some(Reply::Failure)
            }
            _ => None,
        }
    }

    fn judge(&self, message: &Message, code: ResponseCode) -> Reply {
        match code {
            ResponseCode::NoError => self.addresses(message),
            ResponseCode::NXDomain => Reply::NoSuchName,
            _ => Reply::Failure,
        }
    }

    /// Follows the aliases, and takes the addresses at their end. Records of other names are ignored.
    fn addresses(&self, message: &Message) -> Reply {
        let (mut owner, mut ttl) = (&self.query.name, u32::MAX);
        for _ in 0..=MAX_ALIASES {
            let alias = message.answers.iter().find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == *owner => Some((&target.0, record.ttl)),
                _ => None,
            });
            let Some((target, seconds)) = alias else { return self.addresses_of(owner, ttl, message) };
            (owner, ttl) = (target, ttl.min(seconds));
        }
        Reply::Failure
    }

    fn addresses_of(&self, owner: &Name, mut ttl: u32, message: &Message) -> Reply {
        let mut addresses = Vec::new();
        for record in &message.answers {
            if record.name != *owner || record.record_type() != self.query.query_type {
                continue;
            }
            let Some(address) = record.data.ip_addr() else { continue };
            if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
            ttl = ttl.min(record.ttl);
        }
        if addresses.is_empty() {
            return Reply::NoAddress;
        }
        Reply::Addresses(Found { addresses, ttl: Duration::from_secs(ttl.into()) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn a(owner: &str, last: u8, ttl: u32) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::new(192, 0, 2, last))))
    }

    fn cname(owner: &str, target: &str, ttl: u32) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
    }

    /// How a question about A records of `a.test.` reads this answer.
    fn read(change: impl FnOnce(&mut Message)) -> Option<Reply> {
        let question = Question::new(&name("a.test."), Family::V4);
        let mut message = Message::from_vec(&question.bytes().unwrap()).unwrap();
        message.metadata.message_type = MessageType::Response;
        change(&mut message);
        question.read(&message.to_vec().unwrap())
    }

    fn found(last: &[u8], seconds: u64) -> Option<Reply> {
        let addresses = last.iter().map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, *last))).collect();
        Some(Reply::Addresses(Found { addresses, ttl: Duration::from_secs(seconds) }))
    }

    #[test]
    fn the_addresses_are_those_at_the_end_of_the_aliases_and_as_fresh_as_the_stalest_of_them() {
        let chain = |message: &mut Message| {
            message.add_answers([cname("A.test.", "b.test.", 7), a("b.test.", 1, 90), a("b.test.", 2, 30)]);
        };
        assert_eq!(read(chain), found(&[1, 2], 7));
        let backwards = |message: &mut Message| {
            message.add_answers([a("b.test.", 1, 3), cname("a.test.", "b.test.", 7)]);
        };
        assert_eq!(read(backwards), found(&[1], 3));
    }

    #[test]
    fn records_of_other_names_are_not_believed() {
        let mixed = |message: &mut Message| {
            message.add_answers([a("evil.test.", 66, 1), a("a.test.", 1, 60)]);
            message.add_additional(a("a.test.", 67, 60));
        };
        assert_eq!(read(mixed), found(&[1], 60));
        let only = |message: &mut Message| message.insert_answers(vec![a("evil.test.", 66, 1)]);
        assert_eq!(read(only), Some(Reply::NoAddress));
    }

    #[test]
    fn aliases_without_end_are_a_failure() {
        let circle = |message: &mut Message| {
            message.add_answers([cname("a.test.", "b.test.", 7), cname("b.test.", "a.test.", 7), a("a.test.", 1, 7)]);
        };
        assert_eq!(read(circle), Some(Reply::Failure));
    }

    #[test]
    fn a_thousand_addresses_are_cut_to_the_bound() {
        let many = |message: &mut Message| {
            let addresses = (0..1000_u32).map(|number| {
                Record::from_rdata(name("a.test."), 60, RData::A(A(Ipv4Addr::from(0x0a00_0000 + number))))
            });
            message.add_answers(addresses);
        };
        let Some(Reply::Addresses(found)) = read(many) else { panic!("addresses") };
        assert_eq!(found.addresses.len(), MAX_ADDRESSES);
    }

    #[test]
    fn codes_say_whether_the_name_or_the_server_is_at_fault() {
        let cases = [
            (ResponseCode::NoError, Reply::NoAddress),
            (ResponseCode::NXDomain, Reply::NoSuchName),
            (ResponseCode::ServFail, Reply::Failure),
            (ResponseCode::Refused, Reply::Failure),
        ];
        for (code, expected) in cases {
            assert_eq!(read(|message| message.metadata.response_code = code), Some(expected), "{code}");
        }
    }

    #[test]
    fn what_is_no_answer_to_this_question_is_noise() {
        assert_eq!(read(|message| message.metadata.id = message.metadata.id.wrapping_add(1)), None);
        assert_eq!(read(|message| message.metadata.message_type = MessageType::Query), None);
        assert_eq!(read(|message| message.queries.clear()), None);
        assert_eq!(read(|message| message.queries[0].name = name("b.test.")), None);
        assert_eq!(read(|message| message.queries[0].query_type = RecordType::AAAA), None);
        let question = Question::new(&name("a.test."), Family::V4);
        for noise in [&[][..], &[0; 11], &[0xff; 4096]] {
            assert_eq!(question.read(noise), None);
        }
    }

    #[test]
    fn a_truncated_message_is_recognised_wherever_it_breaks_off() {
        let question = Question::new(&name("a.test."), Family::V4);
        let mut bytes = question.bytes().unwrap();
        bytes[2] |= RESPONSE_BIT | TRUNCATED_BIT;
        bytes.truncate(HEADER_BYTES + 1);
        assert_eq!(question.read(&bytes), Some(Reply::Truncated));
    }

    #[test]
    fn a_truncated_message_has_a_whole_header_and_perhaps_nothing_else() {
        let question = Question::new(&name("a.test."), Family::V4);
        let mut bytes = question.bytes().unwrap();
        bytes[2] |= RESPONSE_BIT | TRUNCATED_BIT;
        for length in 0..HEADER_BYTES {
            assert_eq!(question.read(&bytes[..length]), None, "{length}");
        }
        assert_eq!(question.read(&bytes[..HEADER_BYTES]), Some(Reply::Truncated));
    }

    #[test]
    fn a_failure_need_not_repeat_the_question_and_an_answer_must() {
        use ResponseCode::{FormErr, NXDomain, NoError, NotImp, Refused, ServFail};
        for (code, expected) in [
            (FormErr, Some(Reply::Failure)),
            (NotImp, Some(Reply::Failure)),
            (ServFail, Some(Reply::Failure)),
            (Refused, Some(Reply::Failure)),
            (NXDomain, None),
            (NoError, None),
        ] {
            let without_question = |message: &mut Message| {
                message.queries.clear();
                message.metadata.response_code = code;
            };
            assert_eq!(read(without_question), expected, "{code}");
        }
    }
}
