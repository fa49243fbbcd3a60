//! Whatever a call holds, it stays at the place that the template gave it. Whatever a template holds, nothing panics.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use postcall::domain::action::{ActionSpec, DEFAULT_TIMEOUT_MS, Method};
use postcall::domain::call::Call;
use postcall::domain::problem::Problem;
use postcall::domain::request::Request;
use postcall::render::CompiledAction;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use url::Url;

fn spec(url: &str, headers: Option<&str>, body: Option<&str>) -> ActionSpec {
    ActionSpec {
        method: Method::Post,
        url: url.to_owned(),
        timeout_ms: DEFAULT_TIMEOUT_MS,
        headers: headers.map(str::to_owned),
        body: body.map(str::to_owned),
        client_certificate: None,
    }
}

fn rendered(action: &CompiledAction, value: &Value) -> Result<Request, Problem> {
    action.render(Call::new(&value.to_string()).unwrap())
}

fn render(spec: &ActionSpec, value: &Value) -> Request {
    rendered(&CompiledAction::compile(spec).unwrap(), value).unwrap()
}

/// Strings that try to leave their place, and any others.
fn hostile_text() -> impl Strategy<Value = String> {
    let pieces = [
        "\"",
        "\\",
        "}",
        "{",
        "]",
        ",",
        ":",
        "${x}",
        "${",
        "\r\n",
        "\0",
        "&",
        "=",
        "#",
        "?",
        "/",
        "..",
        ".",
        "%2e",
        "2e",
        "@",
        "//",
        "e",
        "true",
        "null",
        "0",
        "-",
        " ",
        "\u{7f}",
        "\u{2028}",
        "é",
        "漢",
        "\t",
        "+",
        "'",
        "evil.example",
    ];
    prop_oneof![
        3 => prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..6).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
        1 => prop::num::f64::NORMAL.prop_map(|number| number.to_string()),
    ]
}

fn hostile_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => hostile_text().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((hostile_text(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A call with some of the names that the templates here ask for.
fn hostile_call() -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(vec!["x", "y", "z"]), hostile_value()), 0..4)
        .prop_map(|entries| entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A body to be, with placeholders.
#[derive(Clone, Debug)]
enum Shape {
    Literal(&'static str),
    /// A string with these pieces in it.
    Text(Vec<&'static str>),
    Bare(&'static str),
    List(Vec<Shape>),
    Object(Vec<Shape>),
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["1", "-0.5e3", "true", "null", "{}", "[]"]).prop_map(Shape::Literal),
        prop::collection::vec(
            prop::sample::select(vec!["${x}", "${ y }", "${z['a b'].0}", "a", "\\\\", "\\\"", "\\${x}", "$${x}", "{"]),
            0..5
        )
        .prop_map(Shape::Text),
        prop::sample::select(vec!["${x}", "${ y }", "${z[\"a\"]}"]).prop_map(Shape::Bare),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Shape::List),
            prop::collection::vec(inner, 0..4).prop_map(Shape::Object),
        ]
    })
}

impl Shape {
    fn template(&self) -> String {
        let join = |items: Vec<String>| items.join(" ,\n");
        match self {
            Shape::Literal(text) | Shape::Bare(text) => (*text).to_owned(),
            Shape::Text(pieces) => format!("\"{}\"", pieces.concat()),
            Shape::List(items) => format!("[{}]", join(items.iter().map(Shape::template).collect())),
            Shape::Object(items) => {
                let entry = |(index, item): (usize, &Shape)| format!("\"k{index}\": {}", item.template());
                format!("{{{}}}", join(items.iter().enumerate().map(entry).collect()))
            }
        }
    }

    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Shape::Literal(text), value) => serde_json::from_str::<Value>(text).unwrap() == *value,
            (Shape::Text(_), Value::String(_)) | (Shape::Bare(_), _) => true,
            (Shape::List(items), Value::Array(values)) => {
                items.len() == values.len() && items.iter().zip(values).all(|(item, value)| item.holds(value))
            }
            (Shape::Object(items), Value::Object(values)) => {
                let key = |index: usize| values.get(&format!("k{index}"));
                items.len() == values.len()
                    && items.iter().enumerate().all(|(index, item)| key(index).is_some_and(|value| item.holds(value)))
            }
            _ => false,
        }
    }
}

fn tricky_template() -> impl Strategy<Value = String> {
    let pieces = [
        "${",
        "}",
        "\\",
        "\"",
        "'",
        "{",
        "[",
        "]",
        ",",
        ":",
        "${x}",
        "${y.z}",
        "${x['",
        "']}",
        "\\${",
        "$",
        "$$",
        " ",
        "\n",
        "\t",
        "\u{0}",
        "1",
        "-",
        "0",
        ".",
        "e",
        "true",
        "null",
        "\"a\":",
        "{\"k\":",
        "\\u",
        "d83d",
        "\\n",
        "é",
        "/",
        "..",
        "%2e",
        "%",
        "?",
        "#",
        "http://",
        "https://h",
        "@",
        "&",
        "=",
        "//",
    ];
    prop_oneof![
        4 => prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..14).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
    ]
}

/// URL templates most of which compile; all placeholders are `${x}` or `${y}`.
fn url_template() -> impl Strategy<Value = String> {
    let hosts = ["https://api.example.com", "HTTP://Bücher.example:80", "https://127.1:8443", "http://[::1]"];
    let pieces = [
        "/", "${x}", "${y}", "a", ".", "%", "%2", "%2e", "'", "\"", " ", "é", "|", "^", "`", "{", "[", ";", ":", "@",
        "~x", "\\${", "$", "?", "&", "=", "<", "+",
    ];
    let rest = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat());
    (prop::sample::select(hosts.to_vec()), prop::sample::select(vec!["", "/", "?", "#", "/a/"]), rest)
        .prop_map(|(host, delimiter, rest)| format!("{host}{delimiter}{rest}"))
}

/// What filling a URL template plainly, and leaving all the rest to the `url` crate, would give.
fn filled_plainly(template: &str, call: &Value) -> Url {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let value = |name: &str| {
        let text = match call.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        utf8_percent_encode(&text, RESERVED).to_string()
    };
    let literal = "\u{1}";
    let filled = template.trim().replace("\\${", literal).replace("${x}", &value("x")).replace("${y}", &value("y"));
    // The `#` keeps a blank before an empty last value from being trimmed: only the template's own ends are.
    let mut url = Url::parse(&(filled.replace(literal, "${") + "#")).unwrap();
    url.set_fragment(None);
    url
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_value_changes_the_structure_of_a_body(shape in shape(), values in hostile_call()) {
        let body = render(&spec("https://h/", None, Some(&shape.template())), &values).body.unwrap();
        let parsed: Value = serde_json::from_str(&body).unwrap();
        prop_assert!(shape.holds(&parsed), "{} became {body}", shape.template());
    }

    #[test]
    fn a_value_in_a_string_of_a_body_is_read_back_unchanged(text in hostile_text()) {
        let body = render(&spec("https://h/", None, Some("{\"${x}\": [\"${x}\", \"<${x}>\"]}")), &json!({"x": text}));
        let expected = json!({&text: [&text, format!("<{text}>")]});
        prop_assert_eq!(serde_json::from_str::<Value>(&body.body.unwrap()).unwrap(), expected);
    }

    #[test]
    fn no_value_adds_a_header_or_a_control_character(values in hostile_call()) {
        let template = r#"{"A": "${x}", "b": "-${y}${z.0}-", "c": 1, "D": "\u00e9"}"#;
        let headers = render(&spec("https://h/", Some(template), Some("{}")), &values).headers;
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        prop_assert_eq!(names, ["a", "b", "c", "d", "content-type"]);
        for (_, value) in &headers {
            prop_assert!(!value.chars().any(char::is_control) && !value.starts_with(' ') && !value.ends_with(' '));
        }
    }

    #[test]
    fn no_value_adds_a_segment_or_a_parameter(x in hostile_text(), y in hostile_value()) {
        let template = "https://api.example.com:8443/a/-${x}/b?q=${y}&r=${x}#${x}";
        let request = render(&spec(template, None, None), &json!({"x": x.clone() + "-", "y": y}));
        let url = Url::parse(&request.url).unwrap();
        prop_assert_eq!(url.host_str(), Some("api.example.com"));
        prop_assert_eq!((url.port(), url.path_segments().unwrap().count(), url.fragment()), (Some(8443), 3, None));
        let parameters: Vec<_> = url.query_pairs().collect();
        prop_assert_eq!(parameters.len(), 2);
        prop_assert_eq!((parameters[0].0.as_ref(), parameters[1].0.as_ref()), ("q", "r"));
        prop_assert_eq!(parameters[1].1.as_ref(), x + "-");
    }

    #[test]
    fn the_url_is_what_the_url_crate_would_make_of_it_and_its_host_the_template_s(
        template in url_template(),
        values in hostile_call(),
    ) {
        let Ok(action) = CompiledAction::compile(&spec(&template, None, None)) else { return Ok(()) };
        let Ok(request) = rendered(&action, &values) else { return Ok(()) };
        let plain = filled_plainly(&template, &values);
        prop_assert_eq!(request.url.as_str(), plain.as_str(), "{}", template);
        let harmless = filled_plainly(&template, &json!({"x": "1", "y": "1"}));
        let url = Url::parse(&request.url).unwrap();
        prop_assert_eq!(url.origin(), harmless.origin());
        prop_assert_eq!(url.path().matches('/').count(), harmless.path().matches('/').count(), "{}", template);
    }

    #[test]
    fn no_template_panics_and_what_compiles_renders_to_json(
        url in prop_oneof![tricky_template(), Just("https://h/".to_owned())],
        headers in prop_oneof![tricky_template(), Just(String::new())],
        body in tricky_template(),
        values in hostile_call(),
    ) {
        match CompiledAction::compile(&spec(&url, Some(&headers), Some(&body))) {
            Err(problems) => prop_assert!(!problems.is_empty()),
            Ok(action) => if let Ok(request) = rendered(&action, &values) {
                prop_assert!(serde_json::from_str::<Value>(&request.body.unwrap()).is_ok(), "{}", body);
            }
        }
    }

    #[test]
    fn a_body_without_placeholders_compiles_exactly_if_it_is_json(body in tricky_template()) {
        let body = body.replace("${", "$ ");
        let body = if body.trim().is_empty() { "0" } else { &body };
        let compiled = CompiledAction::compile(&spec("https://h/", None, Some(body))).is_ok();
        prop_assert_eq!(compiled, serde_json::from_str::<Value>(body).is_ok(), "{}", body);
    }
}
