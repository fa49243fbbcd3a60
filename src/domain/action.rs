//! An action: what is sent for an agent's calls, as the author wrote it. The room `render` compiles it.

use std::fmt;
use std::str::FromStr;

use super::closed_set::closed_set;

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

closed_set! {
    /// The HTTP methods an action may use. They are case-sensitive (RFC 9110, section 9.1).
    pub enum Method {
        /// Sends no body.
        Get = "GET",
        /// Sends the body, or the whole call.
        Post = "POST",
        /// Sends the body, or the whole call.
        Put = "PUT",
    }
}

impl Method {
    /// Whether requests of this method have a body.
    pub fn has_body(self) -> bool {
        match self {
            Method::Get => false,
            Method::Post | Method::Put => true,
        }
    }
}

/// The text is not one of the three methods. They are case-sensitive (RFC 9110, section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not GET, POST or PUT")]
pub struct UnknownMethod;

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Method, UnknownMethod> {
        Method::named(text).ok_or(UnknownMethod)
    }
}

/// The content of one version of an action: the templates as written. It never changes after it was published.
#[derive(Clone, PartialEq, Eq)]
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
    /// The secret of the agent that holds the certificate which is shown to the receiver; absent means that none is.
    pub client_certificate: Option<String>,
}

/// Without the templates: tokens are typed into them.
impl fmt::Debug for ActionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionSpec")
            .field("method", &self.method)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_and_a_name_that_are_empty_or_cannot_be_kept_are_each_told_by_their_field() {
        let (agent, name) = ("é".repeat(MAX_AGENT_CHARS), "é".repeat(MAX_NAME_CHARS));
        for (agent, name) in [("a", "n"), (&agent, &name)] {
            assert_eq!(naming_problems(agent, name), [""; 0]);
        }
        let empty = "it must not be empty";
        assert_eq!(naming_problems("", ""), [format!("agent: {empty}"), format!("name: {empty}")]);
        let told = naming_problems(&format!("{agent}a"), &format!("{name}n"));
        let [agent, name] = told.as_slice() else { panic!("{told:?}") };
        assert!(agent.starts_with("agent: it has 201 characters, at most 200 can be kept"), "{agent}");
        assert!(name.starts_with("name: it has 101 characters, at most 100 can be kept"), "{name}");
    }
}
