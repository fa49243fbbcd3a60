//! Tests of what an action as a whole promises: its problems, its secrets and the requests that it renders.

use super::*;

fn spec(method: Method, url: &str, headers: &str, body: &str) -> ActionSpec {
    let (headers, body) = (Some(headers.to_owned()), Some(body.to_owned()));
    ActionSpec { method, url: url.to_owned(), timeout_ms: 15_000, headers, body, client_certificate: None }
}

fn certified(spec: ActionSpec, name: &str) -> ActionSpec {
    ActionSpec { client_certificate: Some(name.to_owned()), ..spec }
}

fn render(spec: &ActionSpec, call: &str) -> Result<Request, Problem> {
    CompiledAction::compile(spec).unwrap().render(Call::new(call)?)
}

#[test]
fn the_first_problem_of_each_field_is_told_in_the_order_of_the_fields() {
    let problems = CompiledAction::compile(&spec(Method::Get, "ftp://\\", "[${}]", "{,,}")).unwrap_err();
    let found: Vec<_> = problems.iter().map(|problem| (problem.field, problem.code)).collect();
    let expected =
        [(Field::Url, Code::BadUrl), (Field::Headers, Code::BadPlaceholder), (Field::Body, Code::InvalidJsonBody)];
    assert_eq!(found, expected);
}

#[test]
fn what_was_not_found_is_named_once_in_the_order_of_the_fields() {
    let action = spec(Method::Post, "https://h/?${ u }&${z}", "{\"h\": ${h}, \"u\": \"${u}\"}", "[${b['x']}, ${h}]");
    assert_eq!(render(&action, "{\"z\": null}").unwrap().unresolved, ["u", "h", "b['x']"]);
    let get = ActionSpec { method: Method::Get, ..action };
    assert_eq!(render(&get, "{\"z\": null}").unwrap().unresolved, ["u", "h"]);
}

#[test]
fn a_request_names_few_of_many_paths_that_found_nothing_and_the_action_all() {
    let names: Vec<String> = (0..300).map(|number| format!("missing_{number}")).collect();
    let body = format!("[{}]", names.iter().map(|name| format!("${{{name}}}")).collect::<Vec<_>>().join(","));
    let action = CompiledAction::compile(&spec(Method::Post, "https://h/?${missing_7}", "", &body)).unwrap();
    let call = Call::new("{}").unwrap();
    let told = action.render(call).unwrap().unresolved;
    assert_eq!((told.len(), told[0].as_str(), told[32].as_str()), (33, "missing_7", "… and 268 more"));
    assert_eq!(action.unresolved(call).unwrap().len(), names.len());
}

#[test]
fn a_secret_is_escaped_for_its_place_and_a_call_can_neither_name_nor_shadow_one() {
    let action =
        spec(Method::Post, "https://h/${secret.K}?k=${secret.K}", "{\"a\": \"${secret.K}\"}", "[\"${secret.K}\"]");
    let action = CompiledAction::compile(&action).unwrap();
    assert_eq!(action.secrets(), ["K"]);
    let call = Call::new(r#"{"secret": {"K": "of the call"}, "a": "${secret.K}"}"#).unwrap();
    let value = crate::domain::secret::SecretValue::new("a\"/\n&${x}");
    let sent = action.render_with(call, &Secrets::Opened(vec![("K".to_owned(), Ok(value))])).unwrap();
    assert_eq!(sent.url, "https://h/a%22%2F%0A%26%24%7Bx%7D?k=a%22%2F%0A%26%24%7Bx%7D");
    assert_eq!(sent.headers[0].1, "a\"/ &${x}");
    assert_eq!(sent.body.as_deref(), Some(r#"["a\"/\n&${x}"]"#));
    assert!(sent.unresolved.is_empty());
    let shown = action.render(call).unwrap();
    assert_eq!(shown.url, "https://h/••• secret.K?k=••• secret.K");
    assert_eq!((&*shown.headers[0].1, shown.body.as_deref()), ("••• secret.K", Some("[\"••• secret.K\"]")));
    assert_eq!(action.recorded_url(), "https://h/…?k=…");
    let refused = action.render_with(call, &Secrets::NONE).unwrap_err();
    assert!(refused.code == Code::NoSecret && refused.message.contains("`K`"), "{refused:?}");
}

#[test]
fn what_is_no_call_is_refused_at_its_place_before_anything_else() {
    let actions = [
        spec(Method::Post, "https://h/", "", ""),
        spec(Method::Post, "https://h/${x}", "", "[${y}]"),
        spec(Method::Get, "https://h/", "", ""),
    ];
    for action in actions {
        for (text, position) in [("{\"a\":\n é}", Some((2, 2))), ("", Some((1, 1))), ("[1]", None), ("null", None)] {
            let problem = render(&action, text).unwrap_err();
            let found = problem.position.map(|position| (position.line, position.column));
            assert_eq!((problem.code, problem.field, found), (Code::BadCall, Field::Call, position), "{text}");
        }
    }
}

#[test]
fn a_call_may_be_rendered_on_any_thread() {
    fn movable<T: Send + Sync + 'static>() {}
    movable::<CompiledAction>();
    movable::<Request>();
}

#[test]
fn a_body_without_content_type_gets_the_one_of_json_and_no_body_gets_none() {
    let headers = |method, template: &str| {
        render(&spec(method, "https://h/", template, "{}"), "{}").unwrap().headers.into_iter().collect::<Vec<_>>()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let json = pair("content-type", "application/json");
    assert_eq!(headers(Method::Post, "{\"a\": 1}"), [pair("a", "1"), json.clone()]);
    assert_eq!(headers(Method::Put, "{\"Content-TYPE\": \"text/x\"}"), [pair("content-type", "text/x")]);
    assert_eq!(headers(Method::Post, "{\"content-type\": null}"), [json]);
    assert_eq!(headers(Method::Get, "{\"a\": 1}"), [pair("a", "1")]);
}

#[test]
fn no_problem_repeats_a_value_of_the_call() {
    let call = r#"{"s": "Aditi", "o": {"s": "Aditi"}, "d": "."}"#;
    let actions = [
        spec(Method::Post, "https://h/${o}", "", ""),
        spec(Method::Post, "https://h/.${d}", "", ""),
        spec(Method::Post, "https://h/", "{\"a\": ${o}}", ""),
        spec(Method::Post, "https://h/", "{\"a\": 1${s}}", ""),
        spec(Method::Post, "https://h/", "", "[1${s}]"),
    ];
    for action in actions {
        let problem = render(&action, call).unwrap_err();
        assert!(!format!("{problem:?}").contains("Aditi"), "{problem:?}");
        assert!(problem.position.is_some(), "{problem:?}");
    }
}

#[test]
fn an_action_names_as_many_secrets_as_the_limit_and_no_more() {
    let names =
        |count: usize| (0..count).map(|number| format!("\"${{secret.S{number}}}\"")).collect::<Vec<_>>().join(",");
    let action = |count: usize| spec(Method::Post, "https://h/", "", &format!("[{}]", names(count)));
    assert_eq!(CompiledAction::compile(&action(MAX_NAMED)).unwrap().secrets().len(), MAX_NAMED);
    for past in [action(MAX_NAMED + 1), action(MAX_NAMED + 2), certified(action(MAX_NAMED), "C")] {
        let problems = CompiledAction::compile(&past).unwrap_err();
        assert_eq!((problems[0].code, problems[0].field, problems.len()), (Code::TooLarge, Field::Action, 1));
    }
}

#[test]
fn the_secret_of_a_certificate_is_named_among_the_others_once() {
    let action = || spec(Method::Post, "https://h/", "", "[\"${secret.K}\"]");
    let named = |spec: &ActionSpec| {
        let action = CompiledAction::compile(spec).unwrap();
        (action.secrets().join(" "), action.client_certificate().map(str::to_owned))
    };
    assert_eq!(named(&action()), ("K".to_owned(), None));
    assert_eq!(named(&certified(action(), "C")), ("K C".to_owned(), Some("C".to_owned())));
    assert_eq!(named(&certified(action(), "K")), ("K".to_owned(), Some("K".to_owned())));
}

#[test]
fn a_certificate_needs_a_url_that_is_not_plain() {
    for (url, is_plain) in
        [("https://h/", false), ("http://h/", true), (" HTTP://${h}/", true), ("${x}", false), ("é", false)]
    {
        let problem = certificate_without_tls(Some(url), Some("C"));
        assert_eq!(
            problem.map(|problem| (problem.code, problem.field)),
            is_plain.then_some((Code::BadAction, Field::Action)),
            "{url}"
        );
        assert_eq!(certificate_without_tls(Some(url), None), None, "{url}");
    }
    assert_eq!(certificate_without_tls(None, Some("C")), None);
    let plain = spec(Method::Post, "http://h/", "", "");
    assert!(CompiledAction::compile(&plain).is_ok());
    assert_eq!(CompiledAction::compile(&certified(plain, "C")).unwrap_err()[0].code, Code::BadAction);
}

#[test]
fn of_an_action_that_could_not_be_read_in_whole_the_templates_that_there_are_are_checked() {
    let problems = |url, headers, body| -> Vec<_> {
        CompiledAction::problems(url, headers, body).into_iter().map(|problem| (problem.field, problem.code)).collect()
    };
    let url = (Field::Url, Code::BadScheme);
    let header = (Field::Headers, Code::BadPlaceholder);
    let body = (Field::Body, Code::InvalidJsonBody);
    assert_eq!(problems(Some("ftp://h/"), Some("{\"a\": \"${}\"}"), Some("{,,}")), [url, header, body]);
    assert_eq!(problems(None, None, Some("{,,}")), [body]);
    assert_eq!(problems(Some("ftp://h/"), None, None), [url]);
    assert_eq!(problems(Some("https://h/"), Some("{}"), Some("{}")), []);
    assert_eq!(problems(None, None, None), []);
}

#[test]
fn only_a_body_that_is_sent_takes_room_and_can_hold_secrets() {
    let about = |method, body: &str| {
        let action = CompiledAction::compile(&spec(method, "https://h/${secret.K}", "", body)).unwrap();
        (action.body_bound(900), action.body_has_secrets())
    };
    assert_eq!(about(Method::Post, "[1, 2]"), ("[1, 2]".len(), false));
    assert_eq!(about(Method::Post, ""), (1_200, false));
    let (bound, has_secrets) = about(Method::Put, "[\"${secret.K}\", ${x}]");
    assert!(bound > 1_800 && has_secrets, "{bound}");
    for body in ["[1, 2]", "", "[\"${secret.K}\"]"] {
        assert_eq!(about(Method::Get, body), (0, false), "{body}");
    }
}

#[test]
fn a_value_of_the_call_is_encoded_in_the_url_that_is_shown_and_only_the_mask_of_a_secret_is_not() {
    let action = spec(Method::Post, "https://h/${secret.K}/${x}?k=${secret.K}&x=${x}", "", "");
    let shown = render(&action, r#"{"x": "a/&"}"#).unwrap().url;
    assert_eq!(shown, "https://h/••• secret.K/a%2F%26?k=••• secret.K&x=a%2F%26");
}
