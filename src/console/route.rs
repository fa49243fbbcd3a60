//! Which page a path names.

use super::assets::Asset;
use super::gate::Takes;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use crate::service::export::Form;

/// The path of the style sheet. It holds a digest of its content, so that browsers may keep it.
pub(super) fn style_path() -> &'static str {
    static PATH: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        use sha2::{Digest, Sha256};
        format!("/style-{}.css", hex::encode(&Sha256::digest(STYLE)[..8]))
    });
    &PATH
}

/// The style sheet.
pub(super) const STYLE: &str = include_str!("templates/style.css");

/// The icon.
pub(super) const ICON: &str = include_str!("templates/icon.svg");

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Home,
    Deliveries,
    Delivery(Uuid),
    /// A whole result of the page of deliveries.
    DeliveriesExport(Form),
    Calls,
    Audit,
    /// A whole result of the page of acts.
    AuditExport(Form),
    Agents,
    Agent(String),
    /// The live tail.
    Live,
    /// Where people log in.
    LogIn,
    LogOut,
    /// A link that shows one agent, by its token.
    Link(String),
    /// The versions of an action.
    Versions,
    /// The form of an action: what is sent, to be published.
    EditAction,
    /// Checks the form while it is typed.
    CheckAction,
    /// Enables or disables an action.
    Switch,
    /// Pauses or resumes.
    Pause,
    /// The last tests of an agent.
    Tests,
    /// One test of an action.
    Test(Uuid),
    /// The form that tests an action.
    TestAction,
    /// Replays one delivery.
    Replay,
    /// Replays what a search finds.
    ReplayMany,
    /// Records a finding.
    Resolve,
    /// Records a finding about what a search finds.
    ResolveMany,
    Health,
    Style,
    Asset(Asset),
    /// The small picture beside the title; browsers also ask for it by a name of their own.
    Icon,
}

/// What the path of a request names, and in which of several databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The database whose page it is; `None` for what is no page of one of several databases.
    pub(super) database: Option<String>,
    pub(super) route: Route,
}

impl Address {
    /// What the path of a request names; `None` if it names nothing.
    pub(super) fn of(path: &str) -> Option<Address> {
        let Some(below) = path.strip_prefix("/in/") else {
            return Some(Address { database: None, route: Route::of(path)? });
        };
        // Without a slash behind the name, it is the overview all the same.
        let (name, rest) = below.find('/').map_or((below, "/"), |slash| below.split_at(slash));
        let (database, route) = (decoded(name)?, Route::of(rest)?);
        let is_of_one = !database.is_empty() && !route.is_of_the_console();
        is_of_one.then_some(Address { database: Some(database), route })
    }
}

impl Route {
    /// Whether it belongs to the console, whichever databases it serves.
    pub(super) fn is_of_the_console(&self) -> bool {
        matches!(
            self,
            Route::LogIn
                | Route::LogOut
                | Route::Link(_)
                | Route::Health
                | Route::Style
                | Route::Asset(_)
                | Route::Icon
        )
    }

    /// Which methods it takes.
    pub(super) fn takes(&self) -> Takes {
        match self {
            Route::Home
            | Route::Deliveries
            | Route::Delivery(_)
            | Route::DeliveriesExport(_)
            | Route::Calls
            | Route::Audit
            | Route::AuditExport(_)
            | Route::Agents
            | Route::Agent(_)
            | Route::Live
            | Route::Link(_)
            | Route::Versions
            | Route::Tests
            | Route::Test(_)
            | Route::Health
            | Route::Style
            | Route::Asset(_)
            | Route::Icon => Takes::Reading,
            Route::LogIn | Route::EditAction | Route::TestAction | Route::ReplayMany | Route::ResolveMany => {
                Takes::Both
            }
            Route::LogOut | Route::CheckAction | Route::Switch | Route::Pause | Route::Replay | Route::Resolve => {
                Takes::Form
            }
        }
    }

    /// What the path of a request names; `None` if it names nothing.
    pub(super) fn of(path: &str) -> Option<Route> {
        // Split before it is decoded: a slash that is encoded belongs to a name.
        let segments: Vec<String> = path.strip_prefix('/')?.split('/').map(decoded).collect::<Option<_>>()?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments[..] {
            [""] => Some(Route::Home),
            ["deliveries"] => Some(Route::Deliveries),
            ["deliveries", id] => id.parse().ok().map(Route::Delivery),
            ["deliveries.csv"] => Some(Route::DeliveriesExport(Form::Csv)),
            ["deliveries.jsonl"] => Some(Route::DeliveriesExport(Form::JsonLines)),
            ["calls"] => Some(Route::Calls),
            ["audit"] => Some(Route::Audit),
            ["audit.csv"] => Some(Route::AuditExport(Form::Csv)),
            ["audit.jsonl"] => Some(Route::AuditExport(Form::JsonLines)),
            ["agents"] => Some(Route::Agents),
            ["agents", agent] if !agent.is_empty() => Some(Route::Agent(agent.to_owned())),
            ["live"] => Some(Route::Live),
            ["log-in"] => Some(Route::LogIn),
            ["log-out"] => Some(Route::LogOut),
            ["link", token] => Some(Route::Link(token.to_owned())),
            ["versions"] => Some(Route::Versions),
            ["tests"] => Some(Route::Tests),
            ["tests", id] => id.parse().ok().map(Route::Test),
            ["change", "action"] => Some(Route::EditAction),
            ["change", "check"] => Some(Route::CheckAction),
            ["change", "enabled"] => Some(Route::Switch),
            ["change", "pause"] => Some(Route::Pause),
            ["change", "replay"] => Some(Route::Replay),
            ["change", "replay-many"] => Some(Route::ReplayMany),
            ["change", "resolve"] => Some(Route::Resolve),
            ["change", "resolve-many"] => Some(Route::ResolveMany),
            ["change", "test"] => Some(Route::TestAction),
            ["health"] => Some(Route::Health),
            ["icon.svg" | "favicon.ico"] => Some(Route::Icon),
            _ if path == style_path() => Some(Route::Style),
            _ => Asset::at(path).map(Route::Asset),
        }
    }
}

/// A segment of a path as text. `None` if it is not UTF-8, or has a NUL, which no text in the database has.
fn decoded(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    (!text.contains('\0')).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_one_of_several_databases_stands_below_its_name_and_the_console_s_own_do_not() {
        let of = |path| Address::of(path).map(|Address { database, route }| (database.unwrap_or_default(), route));
        assert_eq!(of("/in/north/"), Some(("north".to_owned(), Route::Home)));
        assert_eq!(of("/in/north"), Some(("north".to_owned(), Route::Home)));
        assert_eq!(of("/in/h%3A1%2Fd/calls"), Some(("h:1/d".to_owned(), Route::Calls)));
        assert_eq!(of("/in/north/agents/in%2Fx"), Some(("north".to_owned(), Route::Agent("in/x".to_owned()))));
        assert_eq!(of("/calls"), Some((String::new(), Route::Calls)));
        for path in ["/in/", "/in//", "/in", "/in/a/log-in", "/in/a/health", "/in/a/in/b/", "/in/a/link/x", "/in/%00/"]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn each_page_has_one_path_and_whatever_else_is_asked_for_has_none() {
        let id = "0192f0c1-0000-7000-8000-000000000001";
        let agent = |name: &str| Some(Route::Agent(name.to_owned()));
        assert_eq!(Route::of("/"), Some(Route::Home));
        assert_eq!(Route::of("/deliveries"), Some(Route::Deliveries));
        assert_eq!(Route::of(&format!("/deliveries/{id}")), id.parse().ok().map(Route::Delivery));
        assert_eq!(Route::of("/agents/a%2Fb%20%C3%A9"), agent("a/b é"));
        assert_eq!(Route::of("/agents/..%2f..%2fetc"), agent("../../etc"), "a name, and no path");
        assert_eq!(Route::of(style_path()), Some(Route::Style));
        for path in [
            "",
            "//",
            "/deliveries/",
            "/deliveries/..%2f",
            "/deliveries/../health",
            "/deliveries/%00",
            "/agents/%00",
            "/agents/%ff",
            "/agents/",
            "/agents/a/b",
            "/%64eliveries/x",
            "/style.css",
            "/etc/passwd",
            "*",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
