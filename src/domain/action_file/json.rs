//! The fields of a JSON file.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::fields::{Given, Value};
use crate::domain::problem::{Code, Field, Position, Problem};

/// The fields of the object that `text` holds, in their order, with duplicates.
pub(super) fn read(text: &str) -> Result<Vec<Given>, Problem> {
    let Entries(entries) = serde_json::from_str(text).map_err(|error| not_readable(&error))?;
    let given =
        |(name, value): (String, &RawValue)| Given { name, value: told_apart(value), at: offset_in(text, value) };
    Ok(entries.into_iter().map(given).collect())
}

/// An object is kept as it is spelt.
fn told_apart(value: &RawValue) -> Value {
    match value.get().as_bytes().first() {
        Some(b'{') => Value::Object(value.get().to_owned()),
        // A string can hold half of a character, which no text can.
        Some(b'"') => serde_json::from_str(value.get()).map_or(Value::Other, Value::Text),
        Some(b'[') => Value::Other,
        _ => Value::Word(value.get().to_owned()),
    }
}

/// The offset of `value` in `text`. `value` was read from `text` and not copied, so it points into it.
fn offset_in(text: &str, value: &RawValue) -> usize {
    value.get().as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

/// The entries of an object in their order in the text, with duplicates. The values are not parsed yet.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<'a>, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object with the fields of an action")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// serde_json's own message, without the position that it names at its end.
fn not_readable(error: &serde_json::Error) -> Problem {
    let sentence = error.to_string();
    let message = match error.classify() {
        Category::Data => "the file must hold one JSON object with the fields of an action".to_owned(),
        _ => format!("the file is not JSON: {}", sentence.split(" at line ").next().unwrap_or_default()),
    };
    let mut problem = Problem::new(Code::BadAction, Field::Action, message);
    problem.position = Some(Position { line: error.line().max(1), column: error.column().max(1) });
    problem
}
