//! Timestamps of others (RFC 3161): what an authority is asked, and whether its answer is about that. Whether the
//! authority signed it is for those who verify: they have its certificates (`openssl ts -verify`).

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag};
use sha2::{Digest, Sha256};

use super::tree::Hash;

/// The type of the request, for HTTP.
pub const QUERY_TYPE: &str = "application/timestamp-query";
/// The type of the answer.
pub const REPLY_TYPE: &str = "application/timestamp-reply";
/// What makes an answer that of this request. It is a positive number of eight bytes.
pub type Nonce = [u8; 8];

/// The request up to the digest: version 1, and the digest's algorithm (SHA-256).
const BEFORE_DIGEST: [u8; 24] = [
    0x30, 0x43, 0x02, 0x01, 0x01, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
    0x01, 0x05, 0x00, 0x04, 0x20,
];
/// Between the digest and the nonce.
const BEFORE_NONCE: [u8; 2] = [0x02, 0x08];
/// Behind the nonce: the authority's certificate is wanted.
const BEHIND_NONCE: [u8; 3] = [0x01, 0x01, 0xff];
/// The object identifiers of SHA-256, of signed data, and of what a timestamp says.
const SHA_256: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SIGNED_DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const TST_INFO: [u8; 11] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];

/// Why an answer is no timestamp of what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// It has not the form of an answer.
    #[error("the answer has not the form of a timestamp (RFC 3161, in DER)")]
    Damaged,
    /// The authority gave no timestamp.
    #[error("the authority granted no timestamp: status {0}")]
    NotGranted(u8),
    /// It is about something else.
    #[error("the timestamp is of another text")]
    OfAnother,
    /// It answers another request.
    #[error("the timestamp answers another request")]
    NotOurs,
}

/// Makes a nonce of eight random bytes.
pub fn nonce(mut random: Nonce) -> Nonce {
    // So that it is positive and has eight bytes.
    random[0] = random[0] & 0x3f | 0x40;
    random
}

/// The request for a timestamp of a text.
pub fn query(text: &str, nonce: &Nonce) -> Vec<u8> {
    [&BEFORE_DIGEST[..], &digest(text), &BEFORE_NONCE, nonce, &BEHIND_NONCE].concat()
}

/// Checks that an answer grants a timestamp, of this text and for this request.
///
/// # Errors
/// If it does not.
pub fn check(reply: &[u8], text: &str, nonce: &Nonce) -> Result<(), BadReply> {
    let [status, token @ ..] = &parts(read(reply)?, Tag::Sequence)?[..] else { return Err(BadReply::Damaged) };
    match parts(*status, Tag::Sequence)?.first().map(|status| (status.header().tag(), status.value())) {
        // Granted, with or without changes.
        Some((Tag::Integer, [0 | 1])) => {}
        Some((Tag::Integer, [status])) => return Err(BadReply::NotGranted(*status)),
        _ => return Err(BadReply::Damaged),
    }
    let [token] = token else { return Err(BadReply::Damaged) };
    let info = read(content(content(*token, &SIGNED_DATA)?, &TST_INFO)?.value())?;
    let [_version, _policy, imprint, _serial, _time, more @ ..] = &parts(info, Tag::Sequence)?[..] else {
        return Err(BadReply::Damaged);
    };
    let [algorithm, digested] = parts(*imprint, Tag::Sequence)?[..] else { return Err(BadReply::Damaged) };
    let algorithm = parts(algorithm, Tag::Sequence)?.first().map(|name| name.value());
    if algorithm != Some(&SHA_256[..]) || digested.value() != digest(text) {
        return Err(BadReply::OfAnother);
    }
    // Behind the time, only the nonce is a number.
    match more.iter().find(|part| part.header().tag() == Tag::Integer) {
        Some(answered) if answered.value() == nonce => Ok(()),
        _ => Err(BadReply::NotOurs),
    }
}

fn digest(text: &str) -> Hash {
    Sha256::digest(text).into()
}

/// What a ContentInfo of this type holds; of signed data, the ContentInfo that is signed.
fn content<'a>(info: AnyRef<'a>, kind: &[u8]) -> Result<AnyRef<'a>, BadReply> {
    let [name, wrapped] = parts(info, Tag::Sequence)?[..] else { return Err(BadReply::Damaged) };
    if name.header().tag() != Tag::ObjectIdentifier || name.value() != kind {
        return Err(BadReply::Damaged);
    }
    let inside = read(wrapped.value())?;
    if kind != SIGNED_DATA {
        return if inside.header().tag() == Tag::OctetString { Ok(inside) } else { Err(BadReply::Damaged) };
    }
    // Version, algorithms, and then the content.
    parts(inside, Tag::Sequence)?.get(2).copied().ok_or(BadReply::Damaged)
}

/// The one value in these bytes.
fn read(bytes: &[u8]) -> Result<AnyRef<'_>, BadReply> {
    AnyRef::from_der(bytes).map_err(|_| BadReply::Damaged)
}

/// The values in a value of this tag.
fn parts(whole: AnyRef<'_>, tag: Tag) -> Result<Vec<AnyRef<'_>>, BadReply> {
    let mut reader = SliceReader::new(whole.value()).map_err(|_| BadReply::Damaged)?;
    let mut found = Vec::new();
    while whole.header().tag() == tag && !reader.is_finished() {
        found.push(AnyRef::decode(&mut reader).map_err(|_| BadReply::Damaged)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = [0x41, 2, 3, 4, 5, 6, 7, 8];

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let value = parts.concat();
        let mut all = vec![tag, 0x82];
        all.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        // Lengths as DER has them.
        match value.len() {
            length @ 0..0x80 => all.splice(1..4, [length as u8]).for_each(drop),
            length @ 0x80..0x100 => all.splice(1..4, [0x81, length as u8]).for_each(drop),
            _ => {}
        }
        [all, value].concat()
    }

    /// An answer without signatures. openssl's answers are read in tests/it.
    fn reply(status: u8, digest: &[u8], nonce: &[u8], kind: &[u8]) -> Vec<u8> {
        let imprint = tlv(0x30, &[&tlv(0x30, &[&tlv(6, &[&SHA_256]), &[5, 0]]), &tlv(4, &[digest])]);
        let accuracy = tlv(0x30, &[&[2, 1, 1]]);
        let serial = tlv(2, &[&[9; 12]]);
        let time = tlv(0x18, &[b"20261129180000Z"]);
        let info = tlv(0x30, &[&[2, 1, 1], &[6, 1, 0x2a], &imprint, &serial, &time, &accuracy, &tlv(2, &[nonce])]);
        let signed = tlv(0x30, &[&tlv(6, &[kind]), &tlv(0xa0, &[&tlv(4, &[&info])])]);
        let data = tlv(0x30, &[&[2, 1, 3], &[0x31, 0], &signed, &[0x31, 0]]);
        let token = tlv(0x30, &[&tlv(6, &[&SIGNED_DATA]), &tlv(0xa0, &[&data])]);
        tlv(0x30, &[&tlv(0x30, &[&[2, 1, status]]), &token])
    }

    #[test]
    fn an_answer_counts_only_if_it_grants_a_timestamp_of_this_text_for_this_request() {
        let (ours, others) = (digest("note"), digest("other"));
        let checked = |reply: &[u8]| check(reply, "note", &NONCE);
        for granted in [0, 1] {
            assert_eq!(checked(&reply(granted, &ours, &NONCE, &TST_INFO)), Ok(()));
        }
        assert_eq!(checked(&reply(2, &ours, &NONCE, &TST_INFO)), Err(BadReply::NotGranted(2)));
        assert_eq!(checked(&tlv(0x30, &[&tlv(0x30, &[&[2, 1, 2]])])), Err(BadReply::NotGranted(2)));
        assert_eq!(checked(&tlv(0x30, &[&tlv(0x30, &[&[2, 1, 0]])])), Err(BadReply::Damaged));
        assert_eq!(checked(&reply(0, &others, &NONCE, &TST_INFO)), Err(BadReply::OfAnother));
        assert_eq!(checked(&reply(0, &ours[..31], &NONCE, &TST_INFO)), Err(BadReply::OfAnother));
        assert_eq!(checked(&reply(0, &ours, &[0x41, 2, 3], &TST_INFO)), Err(BadReply::NotOurs));
        assert_eq!(checked(&reply(0, &ours, &NONCE, &SHA_256)), Err(BadReply::Damaged));
    }

    #[test]
    fn no_bytes_do_more_than_be_refused() {
        let whole = reply(0, &digest("note"), &NONCE, &TST_INFO);
        for length in 0..whole.len() {
            assert!(check(&whole[..length], "note", &NONCE).is_err(), "{length}");
        }
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut altered = whole.clone();
                altered[place] ^= 1 << bit;
                let _refused_or_not = check(&altered, "note", &NONCE);
            }
        }
        assert_eq!(check(b"<html>", "note", &NONCE), Err(BadReply::Damaged));
    }

    #[test]
    fn a_nonce_is_a_positive_number_of_eight_bytes_whatever_is_random() {
        for random in [[0; 8], [0xff; 8], [0x80; 8]] {
            assert!((0x40..0x80).contains(&nonce(random)[0]) && nonce(random)[1..] == random[1..]);
        }
        let asked = query("note", &NONCE);
        assert_eq!((asked.len(), asked[1]), (69, 67));
        let parts = parts(read(&asked).unwrap(), Tag::Sequence).unwrap();
        assert_eq!((parts.len(), parts[2].value()), (4, &NONCE[..]));
    }
}
