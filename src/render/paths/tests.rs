//! Tests of which value a path finds in a call, and of when the call must be copied.

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
        paths.find(call).unwrap().needs_canonical()
    };
    assert!(twice(r#"{"a":{"x":1,"x":2}}"#, "a"));
    assert!(twice(r#"{"a":{"b":[{"x":1,"x":2}]}}"#, "a.b"));
    assert!(!twice(r#"{"a":{"b":1},"c":{"x":1,"x":2},"a":2}"#, "a.b"));
    assert!(!twice(r#"{"a":1,"a":2}"#, "a"));
}

#[test]
fn a_call_is_copied_if_more_than_a_bound_would_be_read_and_not_at_the_bound() {
    const USES: usize = 320;
    assert_eq!(MAX_COPIED_BYTES % USES, 0);
    let needs_canonical = |uses: usize, bytes: usize, quotes: [&str; 2]| {
        let mut paths = Paths::default();
        for _ in 0..uses {
            paths.add(Path { text: "a".into(), steps: vec![Step::name("a")] });
        }
        let call = format!("{{\"a\": {}{}{}}}", quotes[0], " ".repeat(bytes - 2), quotes[1]);
        paths.find(&call).unwrap().needs_canonical()
    };
    let bytes = MAX_COPIED_BYTES / USES;
    for brackets in [["{", "}"], ["[", "]"]] {
        assert!(!needs_canonical(USES, bytes, brackets), "{brackets:?}");
        assert!(needs_canonical(USES, bytes + 1, brackets), "{brackets:?}");
        assert!(needs_canonical(USES + 1, bytes, brackets), "{brackets:?}");
    }
    assert!(!needs_canonical(2 * USES, bytes, ["\"", "\""]), "a string is as long when it is written");
}
