//! Rendering reads a call without parsing it into a tree. These tests compare it with the plain way: a JSON library
//! parses the call into a tree, and values are looked up there.

use postcall::domain::action::{ActionSpec, DEFAULT_TIMEOUT_MS, Method};
use postcall::domain::call::Call;
use postcall::domain::problem::{Code, Problem};
use postcall::domain::request::Request;
use postcall::render::CompiledAction;
use proptest::prelude::*;
use serde_json::Value;

/// A JSON value with all the freedom that its text leaves: white space, spellings, names given twice.
#[derive(Clone, Debug)]
enum Json {
    Token(String),
    Array(Vec<(String, Json)>),
    /// White space, a name in quotes, its value.
    Object(Vec<(String, String, Json)>),
}

impl Json {
    fn write(&self, text: &mut String) {
        match self {
            Json::Token(token) => text.push_str(token),
            Json::Array(items) => {
                text.push('[');
                for (index, (blank, item)) in items.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    text.push_str(blank);
                    item.write(text);
                    text.push_str(blank);
                }
                text.push(']');
            }
            Json::Object(entries) => {
                text.push('{');
                for (index, (blank, name, value)) in entries.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    for part in [blank, name, blank, ":", blank] {
                        text.push_str(part);
                    }
                    value.write(text);
                    text.push_str(blank);
                }
                text.push('}');
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }
}

fn blank() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => "[ \t\r\n]{0,3}"]
}

fn string() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "b",
        "\\u0061",
        "\\u0041",
        "\\\\",
        "\\\"",
        "\\/",
        "/",
        "\\b",
        "\\f",
        "\\n",
        "\\r",
        "\\t",
        "\\u0000",
        "\\u001F",
        "\\u007f",
        "\u{7f}",
        "\\ud83d",
        "\\uDE00",
        "\\ud83d\\ude00",
        "é",
        "\\u00E9",
        "漢",
        "😀",
        "\u{2028}",
        "${a}",
        "1",
        "-0",
        "1E5",
        "true",
        "e",
        ".",
        "+",
        "\\u0031",
        "{",
        "}",
        "[",
        ",",
        ":",
        "'",
        "\\u+123",
        "\\x",
        "abcdefgh",
        "0123456789abcdef",
    ];
    // Two of them are no escapes, so that some texts are no JSON.
    let weight = |piece: &str| if matches!(piece, "\\u+123" | "\\x") { 1 } else { 40 };
    let weights = pieces.iter().map(|piece| (weight(piece), Just(*piece).boxed()));
    let piece = proptest::strategy::Union::new_weighted(weights.collect());
    prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A few names, often the same ones, in several spellings.
fn name() -> impl Strategy<Value = String> {
    let known = ["\"a\"", "\"\\u0061\"", "\"b\"", "\"0\"", "\"1\"", "\"a b\"", "\"\"", "\"c\\\"\""];
    prop_oneof![6 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => string()]
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => string(),
        3 => "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,4})?",
        1 => any::<f64>().prop_map(|number| if number.is_finite() { number.to_string() } else { "0".to_owned() }),
        2 => prop::sample::select(vec!["null", "true", "false", "{}", "[]", "-0", "1.0", "1E5", "1e+5"]).prop_map(str::to_owned),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    token().prop_map(Json::Token).prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            2 => prop::collection::vec((blank(), inner.clone()), 0..5).prop_map(Json::Array),
            3 => prop::collection::vec((blank(), name(), inner.clone()), 0..6).prop_map(Json::Object),
            // More names than are compared one by one.
            1 => prop::collection::vec((blank(), string(), token().prop_map(Json::Token)), 15..24).prop_map(Json::Object),
        ]
    })
}

/// The text of a call; now and then with a slip in it.
fn call() -> impl Strategy<Value = String> {
    let object = prop::collection::vec((blank(), name(), json()), 0..6).prop_map(Json::Object);
    let text = (blank(), object, blank()).prop_map(|(before, object, after)| before + &object.text() + &after);
    let slip = (any::<prop::sample::Index>(), "[\\x00-\\x7f]?");
    (text, prop::option::weighted(0.2, slip)).prop_map(|(text, slip)| {
        let Some((at, put)) = slip else { return text };
        let mut characters: Vec<char> = text.chars().collect();
        let at = at.index(characters.len());
        characters.splice(at..=at, put.chars());
        characters.into_iter().collect()
    })
}

/// `text` with each half of a surrogate pair that has no partner as U+FFFD, which a JSON library refuses.
fn mended(text: &str) -> String {
    let half = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let mut mended = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        mended.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match (half(rest), rest.get(6..).and_then(half)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push_str("\\uFFFD");
                rest = &rest[6..];
                continue;
            }
            _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    mended + rest
}

/// The call as a tree, if it is an object; `None` if it is no call.
fn tree(text: &str) -> Option<Value> {
    serde_json::from_str::<Value>(&mended(text)).ok().filter(Value::is_object)
}

/// One step of a path: how it is written, and where it leads.
type Step = (&'static str, fn(&Value) -> Option<&Value>);

const FIRST: [(&str, &str); 3] = [("a", "a"), ("b", "b"), ("a b", "a b")];
const STEPS: [Step; 8] = [
    (".a", |value| value.as_object()?.get("a")),
    (".b", |value| value.as_object()?.get("b")),
    ("['']", |value| value.as_object()?.get("")),
    ("['a b']", |value| value.as_object()?.get("a b")),
    (".0", |value| value.as_array().map_or_else(|| value.get("0"), |array| array.first())),
    ("[1]", |value| value.as_array().map_or_else(|| value.get("1"), |array| array.get(1))),
    ("['0']", |value| value.as_object()?.get("0")),
    ("['1']", |value| value.as_object()?.get("1")),
];

/// A path, and how it is looked up in a tree.
#[derive(Clone, Debug)]
struct Path {
    text: String,
    first: &'static str,
    steps: Vec<usize>,
}

fn path() -> impl Strategy<Value = Path> {
    (prop::sample::select(FIRST.to_vec()), prop::collection::vec(0..STEPS.len(), 0..4)).prop_map(
        |((text, first), steps)| {
            let text = steps.iter().fold(text.to_owned(), |text, step| text + STEPS[*step].0);
            Path { text, first, steps }
        },
    )
}

impl Path {
    fn find<'v>(&self, call: &'v Value) -> Option<&'v Value> {
        self.steps.iter().try_fold(call.get(self.first)?, |value, step| STEPS[*step].1(value))
    }
}

fn as_text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn as_bare(value: Option<&Value>) -> String {
    match value {
        None => "null".to_owned(),
        Some(Value::String(text))
            if serde_json::from_str::<Value>(text).is_ok_and(|inner| inner.is_number() || inner.is_boolean())
                && text.trim() == text =>
        {
            text.clone()
        }
        Some(other) => other.to_string(),
    }
}

fn render(url: &str, body: Option<&str>, call: &str) -> Result<Request, Problem> {
    let spec = ActionSpec {
        method: Method::Post,
        url: url.to_owned(),
        timeout_ms: DEFAULT_TIMEOUT_MS,
        headers: None,
        body: body.map(str::to_owned),
        client_certificate: None,
    };
    let action = CompiledAction::compile(&spec).unwrap();
    let request = action.render(Call::new(call).unwrap())?;
    let bytes = request.body.as_ref().unwrap().len();
    assert!(bytes <= action.body_bound(call.len()), "{bytes} bytes are more than was foretold");
    Ok(request)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_whole_call_is_what_a_parsed_tree_of_it_would_be_written_as(text in call()) {
        for url in ["https://h/", "https://h/?${a}"] {
            match (render(url, None, &text), tree(&text)) {
                (Ok(request), Some(tree)) => prop_assert_eq!(request.body.unwrap(), tree.to_string(), "{}", text),
                (Err(problem), None) => prop_assert_eq!(problem.code, Code::BadCall),
                (rendered, tree) => prop_assert!(false, "{}\n{:?}\n{:?}", text, rendered, tree),
            }
        }
    }

    #[test]
    fn every_value_is_the_one_that_a_parsed_tree_would_have_there(
        text in call(),
        paths in prop::collection::vec(path(), 1..6),
    ) {
        let placeholders = paths.iter().map(|path| format!("\"${{{0}}}\",${{{0}}}", path.text));
        let template = format!("[{}]", placeholders.collect::<Vec<_>>().join(","));
        match (render("https://h/", Some(&template), &text), tree(&text)) {
            (Ok(request), Some(tree)) => {
                let filled = paths.iter().map(|path| {
                    let value = path.find(&tree);
                    format!("{},{}", Value::from(as_text(value)), as_bare(value))
                });
                prop_assert_eq!(request.body.unwrap(), format!("[{}]", filled.collect::<Vec<_>>().join(",")), "{}", text);
                let mut missing: Vec<&str> = Vec::new();
                for path in paths.iter().filter(|path| path.find(&tree).is_none()) {
                    if !missing.contains(&path.text.as_str()) {
                        missing.push(&path.text);
                    }
                }
                prop_assert_eq!(request.unresolved, missing);
            }
            (Err(problem), None) => prop_assert_eq!(problem.code, Code::BadCall),
            (rendered, tree) => prop_assert!(false, "{}\n{:?}\n{:?}", text, rendered, tree),
        }
    }
}
