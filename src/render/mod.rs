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
//! typed     warns of secrets that are typed
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
pub mod typed;
mod url;
mod url_text;
pub mod used;
mod value;

use std::fmt;

use self::body::Body;
use self::headers::Headers;
use self::json::Unreadable;
use self::json::canonical::canonical;
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
        self.render_with_head(call, secrets).map(|(request, _masked)| request)
    }

    /// As [`CompiledAction::render_with`], and beside it the request without its body as [`CompiledAction::render`] makes it, with its
    /// secrets masked; `None` if URL and headers have none, so that they are the same.
    ///
    /// # Errors
    /// As [`CompiledAction::render_with`].
    pub fn render_with_head(&self, call: Call<'_>, secrets: &Secrets) -> Result<(Request, Option<Request>), Problem> {
        let text = call.text();
        if self.sends_whole_call() && self.paths.is_empty() {
            // Then the pass that copies the call is the only one.
            return Ok((self.certified(self.fill(&self.paths.unread(text))?, secrets)?, None));
        }
        let found = self.find(text)?;
        let (request, masked) = if found.needs_canonical() {
            self.fill_twice(self.find(&canonical(text))?, secrets)?
        } else {
            self.fill_twice(found, secrets)?
        };
        Ok((self.certified(request, secrets)?, masked))
    }

    fn fill_twice<'c>(&self, found: Found<'c>, secrets: &'c Secrets) -> Result<(Request, Option<Request>), Problem> {
        let found = found.with(secrets)?;
        let request = self.fill(&found)?;
        let masked = if self.paths.has_secrets() { Some(self.head(&found.with(&Secrets::Masked)?)?) } else { None };
        Ok((request, masked))
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
        let mut request = self.head(found)?;
        request.body = match &self.body {
            _ if !self.method.has_body() => None,
            Body::Template(template) => Some(template.render(found)?),
            Body::WholeCall => {
                let text = found.text();
                Some(body::whole_call(text).map_err(|reason| bad_call(text, &reason))??)
            }
        };
        request.unresolved = bounded_unresolved(found.missing());
        Ok(request)
    }

    /// The request without its body.
    fn head(&self, found: &Found<'_>) -> Result<Request, Problem> {
        let url = self.url.render(found)?;
        let mut headers = self.headers.render(found)?;
        if self.method.has_body() && !headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
            headers.push((CONTENT_TYPE.to_owned(), "application/json".to_owned()));
        }
        let (method, timeout_ms) = (self.method, self.timeout_ms);
        Ok(Request { method, url, headers, body: None, timeout_ms, unresolved: Vec::new(), client_certificate: None })
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
mod tests;
