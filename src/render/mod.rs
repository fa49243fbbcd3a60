//! Rendering: makes a request from an action's templates and a call.
//!
//! An action is compiled once for each version. This finds every problem that does not depend on a call. The compiled
//! action then renders any number of calls, and fails only for reasons that depend on the call. Nothing here uses a
//! clock, a random number, a database or a socket: the same action and call always give the same request.
//!
//! ```text
//! ActionSpec ──compile──▶ CompiledAction ──render(call)──▶ Request
//!
//! source    the text to which positions refer      placeholder  reads `${path}` in a template
//! tokens    the tokens of a JSON template         path         the path in a placeholder
//! syntax    checks that those tokens are JSON     body         compiles and fills the body
//! headers   compiles and fills the headers        header_name  the names that a header may have
//! url_text  splits and checks a URL template      url          compiles and fills the URL
//! json      reads a call in place                 paths        finds all paths of an action in one pass
//! value     writes a value of the call            output       the target: encodings and size limit
//! limits    the size limits                       diagnostic   shows a problem to people
//! advice    warns of what is probably a slip       gaps         where a rendered request lacks values
//! ```
//!
//! A call is never parsed into a tree. Besides its text, rendering holds only the request and one position in the text
//! for each path of the action. A call is copied once only if one of its objects has a name twice, or if it is mostly
//! white space.
//!
//! No value is expanded a second time, and no value can leave its place: it cannot add a key to a body, a header, a
//! segment to a path or a parameter to a query, and it never chooses the host.

pub mod advice;
mod body;
pub mod diagnostic;
mod gaps;
mod header_name;
mod headers;
mod json;
pub mod limits;
mod output;
mod path;
mod paths;
mod placeholder;
mod source;
mod syntax;
mod tokens;
mod url;
mod url_text;
pub mod used;
mod value;

use std::fmt;

use self::body::Body;
use self::headers::Headers;
use self::json::Unreadable;
use self::json::canonical::canonical;
use self::limits::MAX_COPIED_BYTES;
use self::paths::{Found, Paths};
use self::url::UrlTemplate;
use crate::domain::action::{ActionSpec, Method};
use crate::domain::call::Call;
use crate::domain::problem::{Code, Field, Problem};
use crate::domain::request::{Request, bounded_unresolved};
use crate::domain::secret::{Absence, MAX_NAMED, Secrets};

/// An action whose templates are valid, ready to render calls.
pub struct CompiledAction {
    method: Method,
    timeout_ms: u32,
    paths: Paths,
    url: UrlTemplate,
    headers: Headers,
    body: Body,
    client_certificate: Option<String>,
}

/// Without the templates: tokens are typed into them.
impl fmt::Debug for CompiledAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledAction")
            .field("method", &self.method)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

impl CompiledAction {
    /// Compiles the templates of `spec`. A body is checked even if the method is GET, which sends no body.
    ///
    /// # Errors
    /// The first problem of each field, in the order URL, headers, body. The list is never empty.
    pub fn compile(spec: &ActionSpec) -> Result<CompiledAction, Vec<Problem>> {
        let mut paths = Paths::default();
        let url = url::compile(&spec.url, &mut paths);
        let headers = headers::compile(spec.headers.as_deref(), &mut paths);
        // If no body is sent, the body's paths are not looked up.
        let mut unused = Paths::default();
        let body = body::compile(spec.body.as_deref(), if spec.method.has_body() { &mut paths } else { &mut unused });
        let (method, timeout_ms, client_certificate) = (spec.method, spec.timeout_ms, spec.client_certificate.clone());
        match (url, headers, body) {
            (Ok(url), Ok(headers), Ok(body)) => {
                let action = CompiledAction { method, timeout_ms, paths, url, headers, body, client_certificate };
                action.problem(spec).map_or(Ok(action), |problem| Err(vec![problem]))
            }
            (url, headers, body) => Err([url.err(), headers.err(), body.err()].into_iter().flatten().collect()),
        }
    }

    /// What is wrong with an action whose templates are valid.
    fn problem(&self, spec: &ActionSpec) -> Option<Problem> {
        if self.secrets().len() > MAX_NAMED {
            let message = format!("the action names more than {MAX_NAMED} secrets");
            return Some(Problem::new(Code::TooLarge, Field::Action, message));
        }
        certificate_without_tls(Some(&spec.url), spec.client_certificate.as_deref())
    }

    /// The problems of those templates that there are: of an action that could not be read in whole. They are those of
    /// [`CompiledAction::compile`], and beside the first problem of the headers a few more.
    pub fn problems(url: Option<&str>, headers: Option<&str>, body: Option<&str>) -> Vec<Problem> {
        let mut paths = Paths::default();
        let url = url.and_then(|url| url::compile(url, &mut paths).err());
        let headers = headers::compile_all(headers, &mut paths).err().unwrap_or_default();
        let body = body::compile(body, &mut paths).err();
        url.into_iter().chain(headers).chain(body).collect()
    }

    /// The largest number of bytes that the body for a call of `call_bytes` bytes can have. This is what rendering can
    /// hold besides the call, the URL and the headers, which have limits of their own. It is known before the call is
    /// read, and is often far more than the body's real size.
    ///
    /// A call in which an object has a name twice, or which is mostly white space, is also copied, which takes up to
    /// ten times `call_bytes` while it is rendered.
    pub fn body_bound(&self, call_bytes: usize) -> usize {
        if self.method.has_body() { self.body.bound(call_bytes) } else { 0 }
    }

    /// Renders the request for `call`. [`Request::unresolved`] names the placeholders that found no value, in the order
    /// URL, headers, body. The placeholders of a body that GET does not send are not looked up.
    ///
    /// `content-type: application/json` is added to a request with a body if the author's headers give no
    /// `content-type`. An author's `content-type` with the value `null` is dropped like any other header, so the
    /// default is added then, too.
    ///
    /// The time is in proportion to the size of the call: a call of megabytes takes milliseconds, and should not be
    /// rendered on a thread on which other tasks wait.
    ///
    /// Secrets are masked: this is what people may see. [`CompiledAction::render_with`] makes what is sent.
    ///
    /// # Errors
    /// [`Code::BadCall`] for a call that is not JSON, not an object, or nested deeper than 127 levels; otherwise the
    /// first problem that this call causes. Nothing may be sent then. The message contains no value of the call.
    pub fn render(&self, call: Call<'_>) -> Result<Request, Problem> {
        self.render_with(call, &Secrets::Masked)
    }

    /// As [`CompiledAction::render`], with the values of `secrets` in place. A secret is written as any other string of its
    /// place. `secret` is no name of the call: what a call has under it is never looked up.
    ///
    /// # Errors
    /// As [`CompiledAction::render`], and [`Code::NoSecret`] if a secret has no value.
    pub fn render_with(&self, call: Call<'_>, secrets: &Secrets) -> Result<Request, Problem> {
        let text = call.text();
        if self.sends_whole_call() && self.paths.is_empty() {
            // Then the pass that copies the call is the only one.
            return self.certified(self.fill(&self.paths.unread(text))?, secrets);
        }
        let found = self.find(text)?;
        let request = if found.has_a_name_twice() || found.bytes_to_copy() > MAX_COPIED_BYTES {
            self.fill(&self.find(&canonical(text))?.with(secrets)?)?
        } else {
            self.fill(&found.with(secrets)?)?
        };
        self.certified(request, secrets)
    }

    /// The request with the client's certificate, if the action names one.
    fn certified(&self, mut request: Request, secrets: &Secrets) -> Result<Request, Problem> {
        if let Some(name) = &self.client_certificate {
            let problem = |absence: Absence| Problem::new(Code::NoSecret, Field::Action, absence.told(name));
            request.client_certificate = secrets.certificate(name).map_err(problem)?;
        }
        Ok(request)
    }

    /// Whether a secret is part of the body, so that a masked body is not the one that is sent.
    pub fn body_has_secrets(&self) -> bool {
        self.method.has_body() && self.body.has_secrets()
    }

    /// The names of the secrets that the request needs, each once; at most [`MAX_NAMED`].
    pub fn secrets(&self) -> Vec<&str> {
        let mut names = self.paths.secrets();
        names.extend(self.client_certificate.as_deref().filter(|name| !names.contains(name)));
        names
    }

    /// The name of the secret that holds the client's certificate.
    pub fn client_certificate(&self) -> Option<&str> {
        self.client_certificate.as_deref()
    }

    /// The paths of all placeholders that find no value in `call`, in the same order as in [`CompiledAction::render`],
    /// but without a limit.
    ///
    /// # Errors
    /// [`Code::BadCall`], as for [`CompiledAction::render`].
    pub fn unresolved(&self, call: Call<'_>) -> Result<Vec<String>, Problem> {
        Ok(self.find(call.text())?.missing().map(str::to_owned).collect())
    }

    /// What history keeps of the URL: nothing of the call, and of the author's text no more than
    /// [`crate::domain::mask::recorded_url`] keeps.
    pub fn recorded_url(&self) -> &str {
        self.url.recorded()
    }

    fn sends_whole_call(&self) -> bool {
        self.method.has_body() && matches!(self.body, Body::WholeCall)
    }

    fn find<'c>(&'c self, text: &'c str) -> Result<Found<'c>, Problem> {
        self.paths.find(text).map_err(|reason| bad_call(text, &reason))
    }

    fn fill(&self, found: &Found<'_>) -> Result<Request, Problem> {
        let url = self.url.render(found)?;
        let mut headers = self.headers.render(found)?;
        let body = match &self.body {
            _ if !self.method.has_body() => None,
            Body::Template(template) => Some(template.render(found)?),
            Body::WholeCall => {
                let text = found.text();
                Some(body::whole_call(text).map_err(|reason| bad_call(text, &reason))??)
            }
        };
        if body.is_some() && !headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
            headers.push((CONTENT_TYPE.to_owned(), "application/json".to_owned()));
        }
        let unresolved = bounded_unresolved(found.missing());
        let (method, timeout_ms) = (self.method, self.timeout_ms);
        Ok(Request { method, url, headers, body, timeout_ms, unresolved, client_certificate: None })
    }
}

/// The problem of a certificate that would not be shown, because nothing asks for it.
pub fn certificate_without_tls(url: Option<&str>, client_certificate: Option<&str>) -> Option<Problem> {
    let is_plain =
        url.is_some_and(|url| url.trim_start().get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("http://")));
    let message = "`client_certificate` needs a URL that begins with https://, because only TLS asks for one";
    (is_plain && client_certificate.is_some()).then(|| Problem::new(Code::BadAction, Field::Action, message))
}

/// The problem of a text that is not a call.
fn bad_call(text: &str, reason: &Unreadable) -> Problem {
    match reason {
        Unreadable::NotAnObject => Problem::new(Code::BadCall, Field::Call, "the call is not a JSON object"),
        Unreadable::NotJson(at) => {
            let message = "the call is not readable as JSON of at most 127 levels";
            Problem::new(Code::BadCall, Field::Call, message).at(text, *at)
        }
    }
}

const CONTENT_TYPE: &str = "content-type";

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(method: Method, url: &str, headers: &str, body: &str) -> ActionSpec {
        let (headers, body) = (Some(headers.to_owned()), Some(body.to_owned()));
        ActionSpec { method, url: url.to_owned(), timeout_ms: 15_000, headers, body, client_certificate: None }
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
        let action =
            spec(Method::Post, "https://h/?${ u }&${z}", "{\"h\": ${h}, \"u\": \"${u}\"}", "[${b['x']}, ${h}]");
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
            for (text, position) in [("{\"a\":\n é}", Some((2, 2))), ("", Some((1, 1))), ("[1]", None), ("null", None)]
            {
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
}
