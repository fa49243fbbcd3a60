//! How a row becomes a leaf: the bytes that are hashed.
//!
//! A leaf is a version byte, a byte for the kind of row, and then each field that is not null, in the order of its
//! number: a byte with the number, the length of the value as LEB128, and the value. So no two rows have the same leaf,
//! and a field that a later release adds (under a number of its own) changes no leaf from before it. docs/auditing.md
//! lists kinds, fields and values.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::fields::Holds::{self, Bytes, Flag, Id, Number, Text, Texts, Time};
use super::fields::fields;
use crate::domain::seal::Kind;

/// The version of this encoding.
const VERSION: u8 = 1;
/// How many digits a number of 64 bits has at most.
const MOST_DIGITS: usize = 20;
/// Microseconds from 1970 to 2000, from where Postgres counts.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// A row, or a leaf, that has not the form that it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of history has a form that this release does not know")]
pub struct Unreadable;

/// The leaf of a row, from Postgres' binary form of a record with its fields (`record_send`): the number of fields;
/// then of each its type, its length or -1 for null, and its value.
///
/// # Errors
/// If these are not the fields of that kind.
pub fn leaf(kind: Kind, record: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut leaf = Vec::with_capacity(record.len());
    write_leaf(kind, record, &mut leaf)?;
    Ok(leaf)
}

/// The same, written over what is in `leaf`: whoever hashes millions of rows allocates nothing for each.
///
/// # Errors
/// The same; what `leaf` then holds is of no use.
pub fn write_leaf(kind: Kind, record: &[u8], leaf: &mut Vec<u8>) -> Result<(), Unreadable> {
    let fields = fields(kind);
    let mut rest = Reader(record);
    if rest.int()? != i32::try_from(fields.len()).map_err(|_| Unreadable)? {
        return Err(Unreadable);
    }
    leaf.clear();
    leaf.extend([VERSION, kind.number()]);
    for ((_, holds), number) in fields.iter().zip(1_u8..) {
        let _type = rest.int()?;
        if let Ok(length) = usize::try_from(rest.int()?) {
            let value = rest.take(length)?;
            leaf.push(number);
            write_value(*holds, value, leaf)?;
        }
    }
    if rest.0.is_empty() { Ok(()) } else { Err(Unreadable) }
}

/// Writes a value from Postgres' binary form, with its length before it.
fn write_value(holds: Holds, value: &[u8], leaf: &mut Vec<u8>) -> Result<(), Unreadable> {
    match holds {
        Text | Bytes => write_with_length(value, leaf),
        Id if value.len() == 16 => write_with_length(value, leaf),
        Id => return Err(Unreadable),
        Flag => write_with_length(if value == [1] { b"1" } else { b"0" }, leaf),
        Number => write_digits(integer(value)?, leaf),
        Time => {
            let since_2000 = integer(value)?;
            match since_2000.checked_add(POSTGRES_EPOCH_US) {
                Some(since_1970) => write_digits(since_1970, leaf),
                // Of 128 bits, so that no time that somebody may write keeps its row, and all behind it, from being
                // sealed.
                None => {
                    let since_1970 = i128::from(since_2000) + i128::from(POSTGRES_EPOCH_US);
                    write_with_length(since_1970.to_string().as_bytes(), leaf);
                }
            }
        }
        Texts => {
            let mut texts = Vec::new();
            for text in Reader(value).array()? {
                write_with_length(text, &mut texts);
            }
            write_with_length(&texts, leaf);
        }
    }
    Ok(())
}

/// Writes a number in decimal digits, with its length before it. A leaf has some ten numbers, so this takes no detour
/// by a text.
fn write_digits(number: i64, leaf: &mut Vec<u8>) {
    let mut digits = [0_u8; MOST_DIGITS];
    let (mut rest, mut from) = (number.unsigned_abs(), MOST_DIGITS);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        from -= 1;
        if rest == 0 {
            break;
        }
    }
    leaf.push((MOST_DIGITS - from) as u8 + u8::from(number < 0));
    leaf.extend((number < 0).then_some(b'-'));
    leaf.extend_from_slice(&digits[from..]);
}

fn write_with_length(value: &[u8], leaf: &mut Vec<u8>) {
    let mut length = value.len();
    while length >= 128 {
        leaf.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    leaf.push(length as u8);
    leaf.extend_from_slice(value);
}

fn integer(value: &[u8]) -> Result<i64, Unreadable> {
    match *value {
        [a, b] => Ok(i16::from_be_bytes([a, b]).into()),
        [a, b, c, d] => Ok(i32::from_be_bytes([a, b, c, d]).into()),
        _ => value.try_into().map(i64::from_be_bytes).map_err(|_| Unreadable),
    }
}

/// The kind and the fields of a leaf, for people and programs; null fields are not there.
///
/// # Errors
/// If it is not a leaf of a kind that this release knows.
pub fn read(leaf: &[u8]) -> Result<(Kind, Map<String, Value>), Unreadable> {
    let mut rest = Reader(leaf);
    let &[VERSION, kind] = rest.take(2)? else { return Err(Unreadable) };
    let kind = Kind::numbered(kind).ok_or(Unreadable)?;
    let (mut row, mut last) = (Map::new(), 0);
    while let Some(&number) = rest.0.first() {
        rest.take(1)?;
        let length = rest.length()?;
        let value = rest.take(length)?;
        let &(name, holds) = fields(kind).get(usize::from(number).wrapping_sub(1)).ok_or(Unreadable)?;
        if number <= last {
            return Err(Unreadable);
        }
        last = number;
        row.insert(name.to_owned(), for_people(holds, value)?);
    }
    Ok((kind, row))
}

fn for_people(holds: Holds, value: &[u8]) -> Result<Value, Unreadable> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Unreadable);
    let number = || text(value)?.parse::<i64>().map_err(|_| Unreadable);
    Ok(match holds {
        Id => json!(Uuid::from_slice(value).map_err(|_| Unreadable)?),
        Number => json!(number()?),
        Time => {
            let time = DateTime::from_timestamp_micros(number()?).ok_or(Unreadable)?;
            json!(time.to_rfc3339_opts(SecondsFormat::Micros, true))
        }
        Text => json!(text(value)?),
        Bytes => json!(hex::encode(value)),
        Flag => json!(value == b"1"),
        Texts => {
            let (mut rest, mut texts) = (Reader(value), Vec::new());
            while !rest.0.is_empty() {
                let length = rest.length()?;
                texts.push(text(rest.take(length)?)?);
            }
            json!(texts)
        }
    })
}

/// Reads bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<i32, Unreadable> {
        self.take(4)?.try_into().map(i32::from_be_bytes).map_err(|_| Unreadable)
    }

    /// A length as LEB128, of two bytes at least only if it needs them, so that there is one form.
    fn length(&mut self) -> Result<usize, Unreadable> {
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let &[byte] = self.take(1)? else { return Err(Unreadable) };
            length |= usize::from(byte & 127) << shift;
            match byte {
                0 if shift > 0 => return Err(Unreadable),
                0..128 => return Ok(length),
                // No value is as long as that.
                _ if shift > 28 => return Err(Unreadable),
                _ => shift += 7,
            }
        }
    }

    /// The elements of an array of texts with one dimension and no nulls.
    fn array(&mut self) -> Result<Vec<&'a [u8]>, Unreadable> {
        let (dimensions, _nulls, _type) = (self.int()?, self.int()?, self.int()?);
        if dimensions == 0 {
            return Ok(Vec::new());
        }
        let (count, _begins_at) = (self.int()?, self.int()?);
        let element = |_| {
            let length = self.int()?;
            self.take(usize::try_from(length).map_err(|_| Unreadable)?)
        };
        if dimensions == 1 { (0..count).map(element).collect() } else { Err(Unreadable) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::leaf_hash;
    use super::*;

    /// A row of a table with every kind of value, and its hash as the first release that sealed made it. Whoever
    /// changes these bytes lets every row that was ever sealed count as altered.
    #[test]
    fn a_row_has_the_leaf_that_it_has_always_had() {
        let (small, middle, large) = (404_i16.to_be_bytes(), (-7_i32).to_be_bytes(), i64::MIN.to_be_bytes());
        let (zero, most, time) = ([0; 4], i64::MAX.to_be_bytes(), (-1_i64).to_be_bytes());
        let texts =
            [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1][..], b"a\0\0\0\x02bc"].concat();
        let (id, long) = ([9; 16], "\u{e9}".repeat(9_000));
        let mut values: [Option<&[u8]>; 28] = [
            Some(&id),
            Some(&id),
            Some(&id),
            Some(&large),
            Some(&time),
            Some(&most),
            Some(&large),
            Some(&middle),
            Some(&zero),
            None,
            Some(&zero),
            Some(&middle),
            None,
            Some(&zero),
            Some(&middle),
            Some(&small),
            Some(b"agent"),
            Some(b"rejected"),
            None,
            Some(b""),
            Some(b"CA1"),
            Some(b"POST"),
            Some(long.as_bytes()),
            Some(&[1; 32]),
            Some(&[2; 40]),
            Some(b"complete"),
            Some(&texts),
            None,
        ];
        let hash = |kind, values: &[Option<&[u8]>]| hex::encode(leaf_hash(&leaf(kind, &record(values)).unwrap()));
        assert_eq!(hash(Kind::Delivery, &values), "18319e81c40572807de41f163aec09dd4346024cd61e264f179a7028265b056d");
        values[26] = None;
        assert_eq!(hash(Kind::Delivery, &values), "49bb6801bf7897bd5c70b8a88891f5bf3c4f6521c4960a447f9e45a21dc4d961");
        // A field that a later release added changes the leaf of a row that has it, and of no other.
        values[27] = Some(&[3; 40]);
        assert_ne!(hash(Kind::Delivery, &values), "49bb6801bf7897bd5c70b8a88891f5bf3c4f6521c4960a447f9e45a21dc4d961");
        let switch = [Some(&large[..]), Some(&most), Some(&[1]), Some(&time), None, Some(b"u"), Some(b"")];
        assert_eq!(hash(Kind::Switch, &switch), "7e1aa8346d1f6659d5a2dfb7c9a13b79726d25c0fb47481a23db05cf2df2743a");
    }

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        let mut some = vec![0, 9, 10, 99, 100, i64::MAX, i64::MAX - 1];
        some.extend((0..63).flat_map(|bit| [1_i64 << bit, (1_i64 << bit) - 1]));
        for number in some.iter().flat_map(|number| [*number, -number, -number - 1]) {
            let (mut written, mut expected) = (Vec::new(), Vec::new());
            write_digits(number, &mut written);
            write_with_length(number.to_string().as_bytes(), &mut expected);
            assert_eq!(written, expected, "{number}");
        }
    }

    /// A record as Postgres sends it.
    fn record(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut record = (values.len() as i32).to_be_bytes().to_vec();
        for value in values {
            record.extend(25_i32.to_be_bytes());
            record.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
            record.extend(value.unwrap_or_default());
        }
        record
    }

    fn end(pause_id: i64, reason: &str, db_user: Option<&str>) -> Vec<u8> {
        let (id, at) = (pause_id.to_be_bytes(), 0_i64.to_be_bytes());
        record(&[Some(&id), Some(reason.as_bytes()), Some(b"Ada"), Some(&at), db_user.map(str::as_bytes)])
    }

    #[test]
    fn a_leaf_has_the_documented_bytes_and_can_be_read_back() {
        let bytes = leaf(Kind::PauseEnd, &end(7, &"r".repeat(200), None)).unwrap();
        let long = "r".repeat(200);
        let expected =
            [b"\x01\x08\x01\x017\x02\xc8\x01".as_slice(), long.as_bytes(), b"\x03\x03Ada\x04\x0f946684800000000"]
                .concat();
        assert_eq!(bytes, expected);
        let (kind, row) = read(&bytes).unwrap();
        let told =
            json!({"pause_id": 7, "reason": long, "resumed_by": "Ada", "resumed_at": "2000-01-01T00:00:00.000000Z"});
        assert_eq!((kind, Value::Object(row)), (Kind::PauseEnd, told));
    }

    #[test]
    fn different_rows_have_different_leaves() {
        let same = || leaf(Kind::PauseEnd, &end(7, "a", Some("b"))).unwrap();
        assert_eq!(same(), same());
        for other in [end(7, "ab", Some("")), end(7, "a", None), end(7, "a", Some("")), end(8, "a", Some("b"))] {
            assert_ne!(leaf(Kind::PauseEnd, &other).unwrap(), same());
        }
        assert!(leaf(Kind::Pruning, &end(7, "a", None)).is_err(), "another number of fields");
        assert!(leaf(Kind::PauseEnd, &end(7, "a", None)[..20]).is_err());
        assert!(leaf(Kind::PauseEnd, &[end(7, "a", None), vec![0]].concat()).is_err());
    }

    #[test]
    fn every_kind_has_its_number_its_fields_and_room_for_more() {
        for kind in Kind::ALL {
            assert_eq!(Kind::numbered(kind.number()), Some(kind));
            let names: Vec<&str> = fields(kind).iter().map(|(name, _)| *name).collect();
            assert!(!names.is_empty() && names.len() < 100, "{kind}");
        }
        assert_eq!(Kind::numbered(0), None);
        for wrong in [
            b"".as_slice(),
            b"\x02\x08",
            b"\x01\x63",
            b"\x01\x08\x09\x00",
            b"\x01\x08\x02\x01a\x01\x017",
            b"\x01\x08\x02\x81\x00a",
        ] {
            assert_eq!(read(wrong), Err(Unreadable), "{wrong:?}");
        }
    }

    #[test]
    fn texts_are_told_apart_whatever_they_hold() {
        let array = |texts: &[&str]| {
            let mut array = [1, 0, 25, texts.len() as i32, 1].map(i32::to_be_bytes).concat();
            for text in texts {
                array.extend((text.len() as i32).to_be_bytes());
                array.extend(text.as_bytes());
            }
            let mut leaf = Vec::new();
            write_value(Texts, &array, &mut leaf).unwrap();
            leaf
        };
        assert_eq!(array(&["a", "bc"]), b"\x05\x01a\x02bc");
        assert_ne!(array(&["a", "bc"]), array(&["ab", "c"]));
        assert_eq!(for_people(Texts, b"\x01a\x02bc").unwrap(), json!(["a", "bc"]));
    }
}
