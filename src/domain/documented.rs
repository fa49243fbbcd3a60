//! The call as the platform's documentation describes it: which paths it has, and what values they have.
//!
//! A customer's call may have more. So what stands here is good for advice, and never for refusing anything.

use super::nearest::nearest;

/// What a documented path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, or a value whose type the documentation leaves open.
    Text,
    /// A number.
    Number,
    /// An object with these values and no others.
    Object(&'static [Entry]),
    /// An object with these values, and with others that customers choose.
    Open(&'static [Entry]),
    /// An array whose elements are such values.
    List(&'static Kind),
}

/// A name in a documented object, and what it leads to.
pub type Entry = (&'static str, Kind);

use Kind::{List, Number, Object, Open, Text};

/// The documented call.
pub const CALL: Kind = Object(&[
    ("analysis", Object(&[("results", Open(&[("summary", Text)]))])),
    (
        "callInfo",
        Object(&[
            ("from", Text),
            ("to", Text),
            ("type", Text),
            ("recording", Text),
            ("callSid", Text),
            ("endReason", Text),
            ("provider", Text),
        ]),
    ),
    ("outcome", Text),
    ("agent", Text),
    ("duration", Number),
    ("price", Number),
    ("beginTimestamp", Number),
    (
        "context",
        Open(&[
            ("caller", Text),
            ("callee", Text),
            ("callSid", Text),
            ("currentDate", Text),
            ("currentDateISO", Text),
            ("currentTime", Text),
            ("currentTimeISO", Text),
            ("timeOfDay", Text),
        ]),
    ),
    (
        "stats",
        Object(&[
            ("cache", Open(&[])),
            ("interruptions", Open(&[])),
            ("latency", Open(&[("llm", Number), ("tts", Number)])),
            ("turns", Number),
        ]),
    ),
    ("transcript", List(&Object(&[("role", Text), ("content", Text), ("timestamp", Number)]))),
]);

/// A sample of a documented call, for those who have none yet. docs/actions.md shows it.
pub const SAMPLE: &str = include_str!("sample_call.json");

/// What is known about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The documentation has it.
    Documented(Kind),
    /// It leads into an object whose names customers choose.
    Chosen,
    /// No documented call has it. `meant` is a documented path, or one that a customer may have chosen, if there is one like it.
    Unknown {
        /// The path that was probably meant, as it is written in a placeholder.
        meant: Option<String>,
    },
}

/// Looks up a path by the names of its steps; the index of an array is a name of digits.
pub fn look_up(steps: &[&str]) -> Known {
    match follow(steps) {
        Some(known) => known,
        None => Known::Unknown { meant: leaf(steps).or_else(|| corrected(steps)) },
    }
}

/// What an exact path leads to; `None` if the documentation excludes it.
fn follow(steps: &[&str]) -> Option<Known> {
    let mut kind = CALL;
    for step in steps {
        kind = match kind {
            Object(entries) => entry(entries, step)?,
            Open(entries) => match entry(entries, step) {
                Some(kind) => kind,
                None => return Some(Known::Chosen),
            },
            List(element) if is_index(step) => *element,
            List(_) | Text | Number => return None,
        };
    }
    Some(Known::Documented(kind))
}

/// The path with each name replaced by the one that is most like it, if the documentation then has it.
fn corrected(steps: &[&str]) -> Option<String> {
    let mut kind = CALL;
    let mut path = Vec::new();
    for step in steps {
        let (name, next) = match kind {
            Object(entries) => {
                let name = alike(entries, step)?;
                (name, entry(entries, name)?)
            }
            Open(entries) => (*step, entry(entries, step).unwrap_or(Open(&[]))),
            List(element) if is_index(step) => (*step, *element),
            List(_) | Text | Number => return None,
        };
        path.push(name);
        kind = next;
    }
    Some(written(&path))
}

/// The documented path of a name that was written without what stands before it: `callInfo.from` for `from`.
fn leaf(steps: &[&str]) -> Option<String> {
    let [name] = steps else { return None };
    let Object(roots) = CALL else { return None };
    let below = |(root, kind): &Entry| match kind {
        Object(entries) | Open(entries) => same(entries, name).map(|name| written(&[root, name])),
        Text | Number | List(_) => None,
    };
    roots.iter().find_map(below)
}

/// The documented name that is the same but for letter case, or else the one that is most like it.
fn alike(entries: &'static [Entry], name: &str) -> Option<&'static str> {
    same(entries, name).or_else(|| nearest(name, entries.iter().map(|(name, _)| *name)))
}

fn same(entries: &'static [Entry], name: &str) -> Option<&'static str> {
    entries.iter().map(|(name, _)| *name).find(|other| other.eq_ignore_ascii_case(name))
}

fn entry(entries: &'static [Entry], name: &str) -> Option<Kind> {
    entries.iter().find(|(other, _)| *other == name).map(|(_, kind)| *kind)
}

fn is_index(step: &str) -> bool {
    !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit())
}

/// A path as it is written in a placeholder.
pub fn written(steps: &[&str]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            _ if is_index(step) && !path.is_empty() => path.push_str(&format!("[{step}]")),
            _ if step.chars().all(|c| c.is_alphanumeric() || "_-".contains(c)) => {
                let dot = if path.is_empty() { "" } else { "." };
                path.push_str(&format!("{dot}{step}"));
            }
            _ => path.push_str(&format!("['{step}']")),
        }
    }
    path
}

/// The paths of the documented call that lead to values, and to those objects and arrays that can be sent as a whole because
/// what is in them is not documented or is many, each as it is written in a placeholder.
pub fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    add_paths(&CALL, &mut Vec::new(), &mut paths);
    paths
}

fn add_paths(kind: &Kind, steps: &mut Vec<&'static str>, paths: &mut Vec<String>) {
    if matches!(kind, Text | Number | List(_) | Open(_)) {
        paths.push(written(steps));
    }
    let below: Vec<Entry> = match kind {
        Object(entries) | Open(entries) => entries.to_vec(),
        List(element) => vec![("0", **element)],
        Text | Number => Vec::new(),
    };
    for (name, kind) in below {
        steps.push(name);
        add_paths(&kind, steps, paths);
        steps.pop();
    }
}

/// The names at the root of a documented call.
pub fn roots() -> impl Iterator<Item = &'static str> {
    let entries = match CALL {
        Object(entries) | Open(entries) => entries,
        Text | Number | List(_) => &[],
    };
    entries.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(path: &str) -> Option<String> {
        match look_up(&path.split('.').collect::<Vec<_>>()) {
            Known::Unknown { meant } => meant,
            known => panic!("{path}: {known:?}"),
        }
    }

    #[test]
    fn each_documented_path_leads_where_the_documentation_says_and_the_sample_has_it() {
        let sample: serde_json::Value = serde_json::from_str(SAMPLE).unwrap();
        let paths = paths();
        assert!(
            ["callInfo.from", "transcript", "transcript[0].role", "context"]
                .iter()
                .all(|path| paths.contains(&(*path).to_owned()))
        );
        for path in paths {
            let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
            assert!(sample.pointer(&pointer).is_some(), "{path}");
            let steps: Vec<&str> = pointer[1..].split('/').collect();
            assert!(matches!(look_up(&steps), Known::Documented(_)), "{path}");
        }
    }

    #[test]
    fn the_roots_are_the_names_with_which_the_documented_paths_begin() {
        let begins: std::collections::BTreeSet<String> =
            paths().iter().map(|path| path.split(['.', '[']).next().unwrap().to_owned()).collect();
        assert_eq!(roots().map(str::to_owned).collect::<std::collections::BTreeSet<_>>(), begins);
    }

    #[test]
    fn what_was_probably_meant_is_a_path_that_the_documentation_has() {
        let cases = [
            ("callinfo.from", Some("callInfo.from")),
            ("CallInfo.From", Some("callInfo.from")),
            ("callInfo.callsid", Some("callInfo.callSid")),
            ("callInfo.recordin", Some("callInfo.recording")),
            ("Context.Order ID", Some("context['Order ID']")),
            ("transcipt.0.content", Some("transcript[0].content")),
            ("durration", Some("duration")),
            ("from", Some("callInfo.from")),
            ("callsid", Some("callInfo.callSid")),
            ("lead", None),
            ("callinfo.whatever", None),
            ("duration.seconds", None),
            ("transcript.length", None),
        ];
        for (path, expected) in cases {
            assert_eq!(meant(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn what_customers_name_themselves_may_be_there() {
        for path in ["context.leadId", "context.order.id", "analysis.results.budget", "stats.latency.stt"] {
            assert_eq!(look_up(&path.split('.').collect::<Vec<_>>()), Known::Chosen, "{path}");
        }
        assert_eq!(look_up(&["transcript", "0", "timestamp"]), Known::Documented(Number));
        assert_eq!(look_up(&["context", "caller"]), Known::Documented(Text));
        assert!(matches!(look_up(&["stats"]), Known::Documented(Object(_))));
    }

    /// The documentation's call, as the tests of rendering have it.
    const DOCUMENTED: &str = include_str!("../../tests/it/data/rendering_cases.json");

    #[test]
    fn the_documented_call_has_every_path_and_its_type_and_no_other() {
        let cases: serde_json::Value = serde_json::from_str(DOCUMENTED).unwrap();
        compare(CALL, &cases["default_call"], "");
    }

    fn compare(kind: Kind, value: &serde_json::Value, path: &str) {
        match kind {
            Object(entries) => {
                let names = |names: &mut dyn Iterator<Item = &str>| {
                    names.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
                };
                let object = value.as_object().unwrap();
                let documented = names(&mut object.keys().map(String::as_str));
                assert_eq!(documented, names(&mut entries.iter().map(|(name, _)| *name)), "{path}");
                entries.iter().for_each(|(name, kind)| compare(*kind, &value[name], &format!("{path}.{name}")));
            }
            Open(entries) => {
                assert!(value.is_object(), "{path}");
                entries.iter().for_each(|(name, kind)| compare(*kind, &value[name], &format!("{path}.{name}")));
            }
            List(element) => value.as_array().unwrap().iter().for_each(|value| compare(*element, value, path)),
            Number => assert!(value.is_number(), "{path}"),
            Text => assert!(value.is_string(), "{path}"),
        }
    }
}
