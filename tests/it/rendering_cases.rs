//! The worked examples of the rendering rules, each with its name.

use std::collections::BTreeMap;

use postcall::domain::action::{ActionSpec, DEFAULT_TIMEOUT_MS, Method};
use postcall::domain::call::Call;
use postcall::domain::problem::Code;
use postcall::domain::request::Request;
use postcall::render::CompiledAction;
use serde::Deserialize;
use serde_json::value::RawValue;

const CASES: &str = include_str!("data/rendering_cases.json");

#[derive(Deserialize)]
struct Cases {
    // Raw, so that a call reaches the code to the letter.
    default_call: Box<RawValue>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    template_kind: Kind,
    template: Option<String>,
    call: Box<RawValue>,
    expect: Expect,
    #[serde(default)]
    also_ok: Vec<String>,
    method: Option<String>,
    #[serde(default)]
    scope: Scope,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Body,
    Url,
    Header,
}

/// Whether a header's template is the whole headers text or one header's value.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scope {
    Object,
    #[default]
    Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expect {
    Text(String),
    Error { error: String },
}

impl Case {
    fn spec(&self) -> ActionSpec {
        let mut spec = ActionSpec {
            method: self.method.as_deref().map_or(Method::Post, |method| method.parse().unwrap()),
            url: "https://api.example.com/hook".into(),
            timeout_ms: DEFAULT_TIMEOUT_MS,
            headers: None,
            body: None,
            client_certificate: None,
        };
        match (self.template_kind, self.scope) {
            (Kind::Body, _) => spec.body.clone_from(&self.template),
            (Kind::Url, _) => spec.url.clone_from(self.template.as_ref().unwrap()),
            (Kind::Header, Scope::Object) => spec.headers.clone_from(&self.template),
            (Kind::Header, Scope::Value) => spec.headers = Some(format!("{{\"x\":\"{}\"}}", self.template())),
        }
        spec
    }

    fn template(&self) -> &str {
        self.template.as_deref().unwrap()
    }

    /// What of `request` the case is about.
    fn observed(&self, request: Request) -> String {
        // An added content type is no subject of the cases of single headers.
        let own = |name: &str| self.template.as_ref().is_some_and(|text| text.to_lowercase().contains(name));
        match (self.template_kind, self.scope) {
            (Kind::Body, _) => request.body.unwrap_or_default(),
            (Kind::Url, _) => request.url,
            (Kind::Header, Scope::Value) => request.headers[0].1.clone(),
            (Kind::Header, Scope::Object) => {
                let lines = request.headers.iter().filter(|(name, _)| own(name));
                lines.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn run(&self, default_call: &str) -> Result<String, Code> {
        let call = if self.call.get() == "\"default\"" { default_call } else { self.call.get() };
        let call = Call::new(call).unwrap();
        let action = CompiledAction::compile(&self.spec()).map_err(|problems| problems[0].code)?;
        action.render(call).map(|request| self.observed(request)).map_err(|problem| problem.code)
    }

    /// What went wrong, if anything did.
    fn failure(&self, default_call: &str) -> Option<String> {
        let got = self.run(default_call);
        let holds = match (&got, &self.expect) {
            (Ok(text), Expect::Text(expected)) => text == expected || self.also_ok.contains(text),
            (Err(code), Expect::Error { error }) => code.to_string() == *error,
            _ => false,
        };
        let expected = match &self.expect {
            Expect::Text(text) => text.clone(),
            Expect::Error { error } => format!("error {error}"),
        };
        (!holds).then(|| format!("{}:\n  expected {expected}\n  got      {got:?}", self.name))
    }
}

#[test]
fn every_worked_case_holds() {
    let cases: Cases = serde_json::from_str(CASES).unwrap();
    let by_name: BTreeMap<_, _> = cases.cases.iter().map(|case| (&case.name, case)).collect();
    assert_eq!((cases.cases.len(), by_name.len()), (93, 93), "every case is run, each under a name of its own");
    let failures: Vec<_> = cases.cases.iter().filter_map(|case| case.failure(cases.default_call.get())).collect();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}
