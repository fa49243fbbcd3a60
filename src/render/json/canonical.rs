//! Rewrites a text so that each name occurs only once in its object: with its last value, at the place of its first
//! occurrence, as common JSON libraries read such a text.
//!
//! No JSON library writes a name twice, so this is for texts that a program assembled without one. It needs memory for
//! a copy of the text and for the names of the open objects, together less than ten times the text.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::compact;
use super::scan::{NotJson, Scanner};
use super::string::Raw;
use crate::render::output::{JsonString, Output, Sink};

/// Writes the document `text`, whose grammar was checked, without white space and with each name once.
pub(crate) fn canonical(text: &str) -> String {
    // Only an exponent can become longer: `1e5` becomes `1e+5`, one byte more for three.
    let output = Output::new(text.len() + text.len() / 3, text.len());
    let mut rewriter = Rewriter { scanner: Scanner::new(text, ()), output, hasher: RandomState::new() };
    // This cannot fail: the text was already read once, and the output has room for the longest result.
    let _ = rewriter.value();
    rewriter.output.into_text()
}

struct Rewriter<'c> {
    scanner: Scanner<'c, ()>,
    output: Output,
    hasher: RandomState,
}

/// An entry of an object: the byte offsets in the output at which its name and its value begin and end.
struct Entry {
    name: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
}

impl Rewriter<'_> {
    fn value(&mut self) -> Result<(), NotJson> {
        match self.scanner.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            _ => {
                let start = self.scanner.at();
                self.scanner.value()?;
                let _ = compact::copy(self.scanner.since(start), &mut self.output);
                Ok(())
            }
        }
    }

    fn array(&mut self) -> Result<(), NotJson> {
        let mut array = self.scanner.open()?;
        let mut separator = "[";
        while self.scanner.next_item(&mut array)? {
            self.write(separator);
            separator = ",";
            self.value()?;
        }
        self.write(if separator == "[" { "[]" } else { "]" });
        Ok(())
    }

    fn object(&mut self) -> Result<(), NotJson> {
        let mut object = self.scanner.open()?;
        self.write("{");
        let start = self.output.mark();
        let mut entries: Vec<Entry> = Vec::new();
        let mut by_name: HashTable<u32> = HashTable::new();
        let mut name_twice = false;
        while let Some(key) = self.scanner.next_key(&mut object)? {
            self.write(if entries.is_empty() { "" } else { "," });
            let mut entry = self.name(key);
            self.value()?;
            entry.value_end = offset(self.output.mark());
            name_twice |= self.keep(entry, &mut entries, &mut by_name);
        }
        if name_twice {
            self.put_in_order(start, &entries);
        }
        self.write("}");
        Ok(())
    }

    fn name(&mut self, key: Raw<'_>) -> Entry {
        let name = self.output.mark();
        self.write("\"");
        let _ = key.write(&mut JsonString(&mut self.output));
        self.write("\":");
        let value = self.output.mark();
        Entry { name: offset(name), name_end: offset(value), value: offset(value), value_end: offset(value) }
    }

    /// Adds `entry`. If an earlier entry has the same name, replaces that entry's value instead and returns true. All
    /// names in the output have the same spelling, so they can be compared as bytes.
    fn keep(&self, entry: Entry, entries: &mut Vec<Entry>, by_name: &mut HashTable<u32>) -> bool {
        let name = |entry: &Entry| self.output.between(entry.name as usize, entry.name_end as usize);
        let nth = |index: u32| entries.get(index as usize).map(name).unwrap_or_default();
        let found = by_name.entry(
            self.hasher.hash_one(name(&entry)),
            |other| nth(*other) == name(&entry),
            |other| self.hasher.hash_one(nth(*other)),
        );
        match found {
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert(offset(entries.len()));
                entries.push(entry);
                false
            }
            hashbrown::hash_table::Entry::Occupied(occupied) => {
                if let Some(first) = entries.get_mut(*occupied.get() as usize) {
                    (first.value, first.value_end) = (entry.value, entry.value_end);
                }
                true
            }
        }
    }

    /// Replaces what was written since `start` by `entries`.
    fn put_in_order(&mut self, start: usize, entries: &[Entry]) {
        let mut ordered = String::new();
        for entry in entries {
            ordered.push_str(if ordered.is_empty() { "" } else { "," });
            ordered.push_str(self.output.between(entry.name as usize, entry.name_end as usize));
            ordered.push_str(self.output.between(entry.value as usize, entry.value_end as usize));
        }
        self.output.cut_back(start);
        self.write(&ordered);
    }

    fn write(&mut self, text: &str) {
        let _ = self.output.write(text);
    }
}

/// A call is far shorter than 4 GiB.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_name_counts_in_the_place_of_the_first() {
        let cases = [
            (r#" { "a" : 1 , "b" : 2 , "a" : 3 } "#, r#"{"a":3,"b":2}"#),
            (r#"{"a":{"x":1},"b":[{}, []],"\u0061":{"y":2},"b":1E5}"#, r#"{"a":{"y":2},"b":1e+5}"#),
            (r#"{"a":{"x":1,"x":{"y":1,"y":2}},"c":[{"d":1,"d":2}]}"#, r#"{"a":{"x":{"y":2}},"c":[{"d":2}]}"#),
            (r#"{"\ud800":1,"b":[],"\udc00":"\ud800"}"#, "{\"\u{FFFD}\":\"\u{FFFD}\",\"b\":[]}"),
            (r#"{"":"\"","":"\\"}"#, r#"{"":"\\"}"#),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text), expected, "{text}");
            assert_eq!(canonical(expected), expected);
        }
    }

    #[test]
    fn many_names_in_many_levels_take_no_more_than_linear_time() {
        let flat: String = (0..20_000).map(|number| format!(",\"n{number}\":1,\"n{number}\":2")).collect();
        let written = canonical(&format!("{{{}}}", &flat[1..]));
        assert!(written.starts_with("{\"n0\":2,\"n1\":2,") && written.ends_with(",\"n19999\":2}"));
        let deep = format!("{}1{}", "{\"a\":".repeat(120), ",\"b\":1,\"b\":2}".repeat(120));
        assert_eq!(canonical(&deep), format!("{}1{}", "{\"a\":".repeat(120), ",\"b\":2}".repeat(120)));
    }
}
