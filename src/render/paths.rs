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
use super::limits::MAX_COPIED_BYTES;
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
            // Where nothing is looked for, the value is passed over as a whole.
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

    /// Whether a copy of the call must be read in its place: if an object that a placeholder uses has a name twice, or if there is
    /// too much to read.
    pub fn needs_canonical(&self) -> bool {
        self.name_twice || self.bytes_to_copy() > MAX_COPIED_BYTES
    }

    /// The bytes of objects and arrays that must be read to write the values of all placeholders. Other values need not
    /// be counted: they take at most six bytes for each written byte, but an object may contain nothing but white
    /// space.
    fn bytes_to_copy(&self) -> usize {
        let bytes = |(route, value): (&Route, &Option<Value<'_>>)| {
            let value = value.as_ref().filter(|value| value.is_object_or_array());
            value.map_or(0, |value| value.len().saturating_mul(route.uses))
        };
        self.paths.routes.iter().zip(&self.values).map(bytes).fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests;
