//! An action: what is sent for an agent's calls, as the author wrote it. The room `render` compiles it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Shortest timeout that is accepted, in milliseconds.
pub const MIN_TIMEOUT_MS: u32 = 100;
/// Longest timeout that is accepted, in milliseconds.
pub const MAX_TIMEOUT_MS: u32 = 120_000;
/// Timeout of an action without a `timeout`, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: u32 = 15_000;
/// Below this many milliseconds, a warning asks whether the author meant seconds.
pub const SUSPICIOUS_TIMEOUT_MS: u32 = 1_000;
/// The name of an action for which no name was given.
pub const DEFAULT_NAME: &str = "default";
/// Longest agent that can be stored, in characters. The database refuses calls and actions with a longer one.
pub const MAX_AGENT_CHARS: usize = 200;
/// Longest action name that can be stored, in characters.
pub const MAX_NAME_CHARS: usize = 100;

/// Returns what is wrong with the agent and the name of an action that is to be published, as sentences that say how to
/// fix it. Only the length is checked. Blanks and control characters are allowed, because the platform decides how
/// agents are named.
pub fn naming_problems(agent: &str, name: &str) -> Vec<String> {
    [("agent", agent, MAX_AGENT_CHARS), ("name", name, MAX_NAME_CHARS)]
        .into_iter()
        .filter_map(|(field, text, most)| match text.chars().count() {
            0 => Some(format!("{field}: it must not be empty")),
            count if count > most => {
                Some(format!("{field}: it has {count} characters, at most {most} can be kept: choose a shorter one"))
            }
            _ => None,
        })
        .collect()
}

/// The HTTP methods an action may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Sends no body.
    Get,
    /// Sends the body, or the whole call.
    Post,
    /// Sends the body, or the whole call.
    Put,
}

impl Method {
    /// The method as written on the request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not one of the three methods. They are case-sensitive (RFC 9110, section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not GET, POST or PUT")]
pub struct UnknownMethod;

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Method, UnknownMethod> {
        match text {
            "GET" => Ok(Method::Get),
            "POST" => Ok(Method::Post),
            "PUT" => Ok(Method::Put),
            _ => Err(UnknownMethod),
        }
    }
}

/// The content of one version of an action: the templates as written. It never changes after it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionSpec {
    /// The HTTP method.
    pub method: Method,
    /// The URL template.
    pub url: String,
    /// Deadline of the whole request, in milliseconds.
    pub timeout_ms: u32,
    /// Template whose rendered text is one JSON object.
    pub headers: Option<String>,
    /// Template whose rendered text is JSON; absent means the whole call.
    pub body: Option<String>,
}
