//! Remembers the names of an object, so that a name that occurs twice is noticed. It takes linear time for any number
//! of names.

use std::hash::{BuildHasher, Hasher, RandomState};

use hashbrown::HashTable;

use super::string::{self, Raw};

/// Up to this many names of an object are compared one by one. If there are more, they go into a hash table.
const FEW: usize = 16;

/// The names of all open objects. For a name in a hash table, only its offset is stored, because a call of 8 MiB can
/// contain a million names.
pub(super) struct Names<'c> {
    text: &'c str,
    noticing: bool,
    met_twice: bool,
    /// The names of those open objects that have few names. Those of the innermost object are last.
    few: Vec<Raw<'c>>,
    /// The hasher has a random key, so that nobody can construct a call whose names all collide.
    hasher: Option<RandomState>,
}

/// The names of one object.
#[derive(Default)]
pub(super) struct Seen {
    /// The index in `few` at which the object's names begin.
    base: usize,
    /// The offsets of all names, if there are many.
    many: Option<HashTable<u32>>,
}

impl<'c> Names<'c> {
    /// An empty set of names of `text`, which does not notice names yet.
    pub fn new(text: &'c str) -> Names<'c> {
        Names { text, noticing: false, met_twice: false, few: Vec::new(), hasher: None }
    }

    /// Sets whether names are noticed from here on, and returns the previous setting.
    pub fn notice(&mut self, noticing: bool) -> bool {
        std::mem::replace(&mut self.noticing, noticing)
    }

    /// Whether any object had a name twice while names were noticed.
    pub fn met_twice(&self) -> bool {
        self.met_twice
    }

    /// Begins an object.
    pub fn open(&self) -> Seen {
        Seen { base: self.few.len(), many: None }
    }

    /// Forgets the names of an object.
    pub fn close(&mut self, seen: &Seen) {
        self.few.truncate(seen.base);
    }

    /// Adds a name whose text begins at the byte `start`. After a name that occurs twice, nothing more needs to be
    /// recorded.
    pub fn add(&mut self, seen: &mut Seen, start: usize, name: Raw<'c>) {
        if !self.noticing || self.met_twice {
            return;
        }
        if let Some(many) = &mut seen.many {
            let hasher = self.hasher.get_or_insert_default();
            self.met_twice = !insert(many, hasher, self.text, start, name);
            return;
        }
        let before = self.few.get(seen.base..).unwrap_or_default();
        self.met_twice = before.iter().any(|earlier| earlier.same(name));
        self.few.push(name);
        if self.few.len() - seen.base > FEW {
            let hasher = self.hasher.get_or_insert_default();
            let mut many = HashTable::with_capacity(4 * FEW);
            for name in self.few.drain(seen.base..) {
                let start = name.text.as_ptr().addr() - self.text.as_ptr().addr();
                insert(&mut many, hasher, self.text, start, name);
            }
            seen.many = Some(many);
        }
    }
}

/// Adds a name to `many`; returns false if it is already there.
fn insert(many: &mut HashTable<u32>, hasher: &RandomState, text: &str, start: usize, name: Raw<'_>) -> bool {
    let at = |start: u32| string::at(text, start as usize);
    let found = many.entry(hash(hasher, name), |other| at(*other).same(name), |other| hash(hasher, at(*other)));
    match found {
        hashbrown::hash_table::Entry::Occupied(_) => false,
        hashbrown::hash_table::Entry::Vacant(vacant) => {
            // A call is far shorter than 4 GiB.
            vacant.insert(u32::try_from(start).unwrap_or(u32::MAX));
            true
        }
    }
}

/// Hashes the characters and not the spelling, because `a` and `\u0061` are the same name. Both spellings reach the
/// hasher in the same pieces, because the hash can depend on how the input is split.
fn hash(hasher: &RandomState, name: Raw<'_>) -> u64 {
    const PIECE: usize = 32;
    let mut state = hasher.build_hasher();
    if !name.escaped {
        name.text.as_bytes().chunks(PIECE).for_each(|piece| state.write(piece));
        return state.finish();
    }
    let mut piece = Vec::with_capacity(PIECE);
    for c in name.chars() {
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            piece.push(byte);
            if piece.len() == PIECE {
                state.write(&piece);
                piece.clear();
            }
        }
    }
    if !piece.is_empty() {
        state.write(&piece);
    }
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::super::scan::Scanner;

    fn met_twice(text: &str) -> bool {
        let mut scanner = Scanner::new(text, ());
        scanner.notice_names(true);
        scanner.document(Scanner::value).unwrap();
        scanner.met_a_name_twice()
    }

    fn object(names: impl Iterator<Item = String>) -> String {
        format!("{{{}}}", names.map(|name| format!("\"{name}\":{{\"x\":1}}")).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn a_name_that_stands_twice_in_one_object_is_noticed_however_it_is_written() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":[{"a":{"a":1},"b":2,"a":3}]}"#,
            r#"{"\ud800":1,"\udfff":2}"#,
            r#"{"":1,"":1}"#,
        ] {
            assert!(met_twice(text), "{text}");
        }
        for text in [
            r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
            r#"{"x":{"a":1},"y":[{"b":1}],"a":1,"b":1}"#,
            r#"{"a":1,"A":1,"\\u0061":1}"#,
        ] {
            assert!(!met_twice(text), "{text}");
        }
    }

    #[test]
    fn a_long_name_is_known_in_every_spelling() {
        for length in [31, 32, 33, 64, 100] {
            let plain = "é".repeat(length);
            let escaped = "\\u00e9".repeat(length);
            let others = || (0..40).map(|number| format!("n{number}"));
            assert!(met_twice(&object(others().chain([plain.clone(), escaped.clone()]))), "{length}");
            assert!(!met_twice(&object(others().chain([plain + "x", escaped]))), "{length}");
        }
    }

    #[test]
    fn many_names_are_told_apart_and_the_one_that_stands_twice_is_noticed() {
        for count in [15, 16, 17, 18, 1000, 5_000] {
            let names = || {
                (0..count).map(|number| if number % 3 == 0 { format!("\\u0061{number}") } else { format!("n{number}") })
            };
            assert!(!met_twice(&object(names())), "{count}");
            for again in ["n1", "n13", "a0", "\\u0061\\u0030"] {
                assert!(met_twice(&object(names().chain([again.to_owned()]))), "{count} {again}");
            }
        }
    }
}
