//! All paths of an action, and the pass over a call that finds the value of each path.
//!
//! The paths form a tree, in which paths with the same beginning share nodes. The pass follows the tree: it compares
//! the names of an object only if a path leads into the object, and skips everything else. For each value that it
//! finds, it stores only the position in the text. So a call needs no memory beyond its text, however large it is.

pub(super) mod gaps;
mod secrets;

use std::collections::HashMap;

use self::gaps::Notes;
use super::json::scan::{NotJson, Scanner};
use super::json::string::Raw;
use super::json::{MAX_DEPTH, Unreadable};
use super::output::Output;
use super::path::{Path, Step};
use super::value::Value;
use crate::domain::secret::mask;

/// The paths of one action. They are numbered in the order in which they were added; each path text occurs once.
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
    routes: Vec<Route>,
    by_text: HashMap<Box<str>, Slot>,
}

/// One path of a [`Paths`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// A place in a call to which, or through which, at least one path leads.
#[derive(Debug, Default)]
struct Node {
    /// The child node of each key of an object, in the order of [`order`].
    keys: Vec<(Box<str>, usize)>,
    /// The child node of each index of an array, ascending. Each index is also among the keys, because `a.0` may be
    /// either.
    indexes: Vec<(usize, usize)>,
    /// Whether a placeholder uses the value at this place.
    wanted: bool,
}

/// The route of a path through the tree.
#[derive(Debug)]
struct Route {
    text: Box<str>,
    /// The node of each step, and whether that step may be the index of an array.
    hops: Vec<(usize, bool)>,
    /// How many placeholders have this path.
    uses: usize,
    /// The name of the secret that it means. Then it has no hops: it is never looked up in a call.
    secret: Option<Box<str>>,
    /// What is shown in place of the secret, as a JSON string.
    mask: Box<str>,
}

const ROOT: usize = 0;

impl Default for Paths {
    fn default() -> Paths {
        Paths { nodes: vec![Node::default()], routes: Vec::new(), by_text: HashMap::new() }
    }
}

impl Paths {
    /// Adds a path. From now on it is looked up in every call.
    pub fn add(&mut self, path: Path) -> Slot {
        if let Some(slot) = self.by_text.get(&path.text) {
            self.routes[slot.0].uses += 1;
            return *slot;
        }
        let slot = Slot(self.routes.len());
        let secret: Option<Box<str>> = path.secret().map(Into::into);
        let mask = secret.as_deref().map(|name| format!("\"{}\"", mask(name))).unwrap_or_default().into();
        let hops = if secret.is_some() { Vec::new() } else { self.grow(&path.steps) };
        if let Some((end, _)) = hops.last() {
            self.nodes[*end].wanted = true;
        }
        self.by_text.insert(path.text.clone(), slot);
        self.routes.push(Route { text: path.text, hops, uses: 1, secret, mask });
        slot
    }

    /// Adds the nodes for a path and returns its hops. A path with more steps than the deepest call gets none, because
    /// it cannot find anything.
    fn grow(&mut self, steps: &[Step]) -> Vec<(usize, bool)> {
        if steps.len() > MAX_DEPTH {
            return Vec::new();
        }
        let mut node = ROOT;
        let hop = |step: &Step| {
            node = self.child(node, step);
            (node, step.index().is_some())
        };
        steps.iter().map(hop).collect()
    }

    fn child(&mut self, node: usize, step: &Step) -> usize {
        let next = self.nodes.len();
        let keys = &mut self.nodes[node].keys;
        let child = match keys.binary_search_by(|(key, _)| order(key).cmp(&order(step.key()))) {
            Ok(found) => keys[found].1,
            Err(place) => {
                keys.insert(place, (step.key().into(), next));
                next
            }
        };
        if let Some(index) = step.index() {
            let indexes = &mut self.nodes[node].indexes;
            if let Err(place) = indexes.binary_search_by_key(&index, |(index, _)| *index) {
                indexes.insert(place, (index, child));
            }
        }
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Whether there are no paths.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Wraps the call `text` without reading or checking it, for an action without paths.
    pub fn unread<'c>(&'c self, text: &'c str) -> Found<'c> {
        Found { paths: self, text, values: Vec::new(), name_twice: false, masked: false, notes: None }
    }

    /// Reads the call `text` and finds the value of each path.
    ///
    /// # Errors
    /// Why the text is not a call.
    pub fn find<'c>(&'c self, text: &'c str) -> Result<Found<'c>, Unreadable> {
        let mut scanner = Scanner::new(text, ());
        scanner.peek();
        let mut search = Search { paths: self, root: scanner.at(), hits: vec![None; self.nodes.len()] };
        scanner.document(|scanner| search.follow(ROOT, scanner))?;
        let values: Vec<_> = self.routes.iter().map(|route| search.value(route, text)).collect();
        Ok(Found { paths: self, text, values, name_twice: scanner.met_a_name_twice(), masked: false, notes: None })
    }
}

/// Orders keys by length first: most keys differ in length, and only keys of the same length are compared as text.
fn order(key: &str) -> (usize, &str) {
    (key.len(), key)
}

impl Node {
    fn by_key(&self, key: Raw<'_>) -> Option<usize> {
        let find = |key: &str| {
            let found = self.keys.binary_search_by(|(name, _)| order(name).cmp(&order(key))).ok()?;
            self.keys.get(found).map(|(_, child)| *child)
        };
        if !key.escaped {
            return find(key.text);
        }
        // The key is decoded only up to the length of the longest name here, because a key can be as long as the call.
        let mut read = Output::new(self.keys.last()?.0.len(), 0);
        key.write(&mut read).ok()?;
        find(read.since(0))
    }

    fn by_index(&self, index: usize) -> Option<usize> {
        let found = self.indexes.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        self.indexes.get(found).map(|(_, child)| *child)
    }
}

/// The position of a value that was found.
#[derive(Clone, Copy, Debug)]
struct Hit {
    start: usize,
    end: usize,
    /// The start of the object or array around it. If a name occurs again in an object, the hits inside its earlier
    /// value remain; this field shows that they are out of date.
    around: usize,
    in_array: bool,
}

/// One pass over a call.
struct Search<'p> {
    paths: &'p Paths,
    /// The offset at which the call's object starts.
    root: usize,
    /// For each node, the value that was found last.
    hits: Vec<Option<Hit>>,
}

impl Search<'_> {
    /// Reads the value of `node`, and finds the values of the paths through it.
    fn follow(&mut self, node: usize, scanner: &mut Scanner<'_, ()>) -> Result<(), NotJson> {
        let Some(here) = self.paths.nodes.get(node) else { return scanner.value() };
        let noticed = scanner.notice_names(false);
        // A value that a placeholder uses is copied completely, so no name may occur twice in it.
        scanner.notice_names(noticed || here.wanted);
        let first = scanner.peek();
        let around = scanner.at();
        match first {
            Some(b'{') if !here.keys.is_empty() => {
                let mut object = scanner.open()?;
                while let Some(key) = scanner.next_key(&mut object)? {
                    self.follow_to(here.by_key(key), around, false, scanner)?;
                }
            }
            Some(b'[') if !here.indexes.is_empty() => {
                let mut array = scanner.open()?;
                let mut index = 0;
                while scanner.next_item(&mut array)? {
                    self.follow_to(here.by_index(index), around, true, scanner)?;
                    index += 1;
                }
            }
            _ => scanner.value()?,
        }
        scanner.notice_names(noticed);
        Ok(())
    }

    /// Reads the next value, and records it as the value of the node `child`, if there is such a node.
    fn follow_to(
        &mut self,
        child: Option<usize>,
        around: usize,
        in_array: bool,
        scanner: &mut Scanner<'_, ()>,
    ) -> Result<(), NotJson> {
        let Some(child) = child else { return scanner.value() };
        scanner.peek();
        let start = scanner.at();
        self.follow(child, scanner)?;
        if let Some(hit) = self.hits.get_mut(child) {
            *hit = Some(Hit { start, end: scanner.at(), around, in_array });
        }
        Ok(())
    }

    /// The value of a path, if it was found. Each hit on the route must lie directly in the hit before it, beginning at
    /// the root.
    fn value<'c>(&self, route: &Route, text: &'c str) -> Option<Value<'c>> {
        let hit = |node: usize| self.hits.get(node).copied().flatten();
        let mut around = self.root;
        let mut found = None;
        for (node, may_be_index) in &route.hops {
            let hit = hit(*node).filter(|hit| hit.around == around && (*may_be_index || !hit.in_array))?;
            around = hit.start;
            found = Some(hit);
        }
        found.and_then(|hit| text.get(hit.start..hit.end)).map(Value::new)
    }
}

/// The values of all paths in one call.
pub(super) struct Found<'c> {
    paths: &'c Paths,
    text: &'c str,
    values: Vec<Option<Value<'c>>>,
    name_twice: bool,
    /// Whether secrets are masked.
    masked: bool,
    notes: Option<&'c Notes>,
}

impl<'c> Found<'c> {
    /// The text of the call.
    pub fn text(&self) -> &'c str {
        self.text
    }

    /// The value of a path; a missing value counts as `null`.
    pub fn value(&self, slot: Slot) -> Value<'c> {
        self.values.get(slot.0).copied().flatten().unwrap_or(Value::NULL)
    }

    /// The text of a path.
    pub fn name(&self, slot: Slot) -> &'c str {
        self.paths.routes.get(slot.0).map(|route| &*route.text).unwrap_or_default()
    }

    /// The paths that found no value, each once, in the order in which they were added. A `null` in the call counts as
    /// found.
    pub fn missing(&self) -> impl Iterator<Item = &'c str> {
        self.paths
            .routes
            .iter()
            .zip(&self.values)
            .filter(|(route, value)| value.is_none() && route.secret.is_none())
            .map(|(route, _)| &*route.text)
    }

    /// Whether an object that a placeholder uses has a name twice.
    pub fn has_a_name_twice(&self) -> bool {
        self.name_twice
    }

    /// The bytes of objects and arrays that must be read to write the values of all placeholders. Other values need not
    /// be counted: they take at most six bytes for each written byte, but an object may contain nothing but white
    /// space.
    pub fn bytes_to_copy(&self) -> usize {
        let bytes = |(route, value): (&Route, &Option<Value<'_>>)| {
            let value = value.as_ref().filter(|value| value.is_object_or_array());
            value.map_or(0, |value| value.len().saturating_mul(route.uses))
        };
        self.paths.routes.iter().zip(&self.values).map(bytes).fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::JsonString;
    use super::super::placeholder;
    use super::super::source::Source;
    use super::super::value::write_text;
    use super::*;
    use crate::domain::problem::Field;

    /// The values that the paths find in `call`.
    fn find(call: &str, paths: &[&str]) -> Vec<String> {
        let mut all = Paths::default();
        let slot = |path: &&str| {
            let text = format!("${{{path}}}");
            all.add(placeholder::read(Source { field: Field::Body, text: &text }, 0, false).unwrap().path)
        };
        let slots: Vec<Slot> = paths.iter().map(slot).collect();
        let found = all.find(call).unwrap();
        let shown = |slot: &Slot| match found.values[slot.0] {
            None => "nothing".to_owned(),
            Some(value) => {
                let mut output = Output::new(100, 0);
                write_text(value, &mut JsonString(&mut output)).unwrap();
                if value.is_null() { "null".to_owned() } else { output.into_text() }
            }
        };
        slots.iter().map(shown).collect()
    }

    #[test]
    fn a_number_indexes_an_array_and_names_a_key() {
        let call = r#" {"list": ["x", "y", [1]], "map": {"1": "z"}} "#;
        let paths =
            ["list.1", "list[1]", "map.1", "map['1']", "list['1']", "list.2.0", "list['2'].0", "list.2['0']", "list.9"];
        let expected = ["y", "y", "z", "z", "nothing", "1", "nothing", "nothing", "nothing"];
        assert_eq!(find(call, &paths), expected);
    }

    #[test]
    fn nothing_is_found_inside_a_string_a_number_or_null() {
        let call = r#"{"s": "text", "n": 1, "z": null}"#;
        assert_eq!(
            find(call, &["s.length", "s.0", "n.0", "z.a", "z", "S"]),
            ["nothing", "nothing", "nothing", "nothing", "null", "nothing"]
        );
    }

    #[test]
    fn the_last_value_of_a_name_counts_with_all_that_is_in_it_and_nothing_of_the_others() {
        let paths = ["a.b", "a.c", "a.b.d"];
        assert_eq!(find(r#"{"a":{"b":1},"a":{"c":2}}"#, &paths), ["nothing", "2", "nothing"]);
        assert_eq!(find(r#"{"a":{"b":{"d":1}},"a":3,"a":{"b":4}}"#, &paths), ["4", "nothing", "nothing"]);
        assert_eq!(find(r#"{"a":{"b":{"d":1}},"a":[]}"#, &paths), ["nothing", "nothing", "nothing"]);
        assert_eq!(find(r#"{"a":{"b":{"d":1},"\u0062":{"d":5}}}"#, &["a.b.d"]), ["5"]);
        assert_eq!(find(r#"{"a":[[7]],"a":[8]}"#, &["a.0.0", "a.0"]), ["nothing", "8"]);
    }

    #[test]
    fn a_key_is_found_however_it_is_escaped_and_however_long_the_others_are() {
        let call = format!(r#"{{"\u0061\u0062":1,"{}":2,"{}":3}}"#, "\\u0061".repeat(1000), "a".repeat(1000));
        assert_eq!(find(&call, &["ab", "aa", "a"]), ["1", "nothing", "nothing"]);
    }

    #[test]
    fn a_path_deeper_than_any_call_finds_nothing_and_costs_nothing() {
        let path = vec!["a"; 30_000].join(".");
        let deepest = vec!["a"; MAX_DEPTH].join(".");
        let call = format!("{}1{}", "{\"a\":".repeat(MAX_DEPTH), "}".repeat(MAX_DEPTH));
        assert_eq!(find(&call, &[&path, &deepest]), ["nothing", "1"]);
        let mut paths = Paths::default();
        paths.add(Path { text: path.as_str().into(), steps: vec![Step::name("a"); 30_000] });
        assert_eq!(paths.nodes.len(), 1);
    }

    #[test]
    fn a_name_twice_is_noticed_where_the_value_will_be_copied_and_nowhere_else() {
        let twice = |call: &str, path: &str| {
            let mut paths = Paths::default();
            let text = format!("${{{path}}}");
            paths.add(placeholder::read(Source { field: Field::Body, text: &text }, 0, false).unwrap().path);
            paths.find(call).unwrap().has_a_name_twice()
        };
        assert!(twice(r#"{"a":{"x":1,"x":2}}"#, "a"));
        assert!(twice(r#"{"a":{"b":[{"x":1,"x":2}]}}"#, "a.b"));
        assert!(!twice(r#"{"a":{"b":1},"c":{"x":1,"x":2},"a":2}"#, "a.b"));
        assert!(!twice(r#"{"a":1,"a":2}"#, "a"));
    }
}
