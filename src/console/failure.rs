//! What is said where a page, or a part of it, cannot be shown: the cause and the cure, and nothing of the inside. What
//! exactly happened stands in the log.

use askama::Template;
use http::{HeaderValue, StatusCode, header};
use tracing::warn;

use super::answer::Answer;
use super::form::MOST_FORM_BYTES;
use super::frame;
use super::gate::{LONGEST_ADDRESS, Refusal, Takes};
use super::live::MOST_VIEWERS;
use super::people::{LinkRefused, NoVisitor, Role};
use super::words;
use crate::domain::chain::chain;
use crate::domain::sealed_version::Unopened;
use crate::store::StoreError;

/// The database user that the console needs for what is not a call's content or a template.
pub(super) const READER: &str = "a database user with the role postcall_auditor or postcall_publisher";

/// Why a page cannot be shown.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The request was not admitted.
    Refused(Refusal),
    /// The address takes these methods only.
    Method(Takes),
    /// What was sent is no form.
    NoForm,
    /// What was sent is too large.
    TooLarge,
    /// What was sent did not arrive in time.
    TooSlowToArrive,
    /// An export is asked for in a version of HTTP whose clients could not see that it was broken off.
    OldHttp,
    /// There is no visitor.
    NoVisitor(NoVisitor),
    /// A form came from somebody who is not logged in, or not any more.
    LoggedOut,
    /// The visitor sees one agent only.
    OneAgentOnly,
    /// The visitor's role may not do this.
    NeedsRole(Role),
    /// The console only reads, or has no name that could be recorded.
    ReadOnly,
    /// The link shows nothing.
    Link(LinkRefused),
    /// The change was not made: a sentence for people.
    NotDone(String),
    /// There is no such page.
    NoPage,
    /// There is no such thing: a sentence for people.
    Missing(String),
    /// The address asks for something that cannot be: a sentence for people.
    Wrong(String),
    /// Others use all sessions.
    Busy,
    /// As many as may follow the live tail do.
    Crowded,
    /// A statement took too long.
    TooSlow,
    /// The database does not answer.
    Away,
    /// The database could not be opened so far.
    NotOpened,
    /// An export of all databases would lack what one of them has: its name, and why it cannot be read.
    Incomplete { database: String, why: &'static str },
    /// The server takes no changes, because it is a standby, for example.
    ReadOnlyServer,
    /// The database user lacks a right.
    Forbidden,
    /// Something else.
    Defect,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::from(&error)
    }
}

impl From<&StoreError> for Trouble {
    fn from(error: &StoreError) -> Trouble {
        let trouble = match error {
            error if error.is_forbidden() => return Trouble::Forbidden,
            StoreError::EarlierDispatcher | StoreError::Sealing(_) | StoreError::OtherKeys(_) => {
                return Trouble::NotDone(format!("Nothing was published: {error}."));
            }
            error if error.is_read_only() => return Trouble::ReadOnlyServer,
            error if error.is_about_time() => Trouble::TooSlow,
            error if error.is_about_what_is_stored() || error.hides_rows() => Trouble::Defect,
            _ => Trouble::Away,
        };
        // The driver's text quotes no row.
        warn!(error = %chain(error), "a page cannot be shown");
        trouble
    }
}

impl From<&Unopened> for Trouble {
    fn from(unopened: &Unopened) -> Trouble {
        Trouble::NotDone(format!("{}.", unopened.why()))
    }
}

impl From<askama::Error> for Trouble {
    fn from(error: askama::Error) -> Trouble {
        warn!(error = %chain(&error), "a page cannot be written");
        Trouble::Defect
    }
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage<'t> {
    here: words::Here,
    title: &'static str,
    cause: &'t str,
    cure: String,
}

impl Trouble {
    /// The page that says so.
    pub(super) fn into_answer(self) -> Answer {
        let status = self.status();
        let (title, cause, cure) = self.told();
        let page = FailurePage { here: words::Here::Nowhere, title, cause: &cause, cure };
        // If even this page cannot be written, its words go out without it.
        let answer = match page.render() {
            Ok(html) => Answer::page(status, html),
            Err(_) => Answer::text(status, title),
        };
        match self {
            Trouble::Method(takes) => answer.with(header::ALLOW, HeaderValue::from_static(takes.allowed())),
            // The rest of the body is not read, so the connection cannot go on.
            Trouble::NoForm | Trouble::TooLarge | Trouble::TooSlowToArrive => {
                answer.with(header::CONNECTION, HeaderValue::from_static("close"))
            }
            Trouble::Busy | Trouble::Crowded | Trouble::Away | Trouble::NotOpened | Trouble::Incomplete { .. } => {
                answer.with(header::RETRY_AFTER, HeaderValue::from_static("5"))
            }
            _ => answer,
        }
    }

    /// What it is, in a few words.
    pub(super) fn title(&self) -> &'static str {
        self.told().0
    }

    fn status(&self) -> StatusCode {
        match self {
            Trouble::Refused(Refusal::Host) => StatusCode::MISDIRECTED_REQUEST,
            Trouble::Refused(Refusal::Method) | Trouble::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Trouble::NoForm => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Trouble::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Trouble::TooSlowToArrive => StatusCode::REQUEST_TIMEOUT,
            Trouble::Refused(Refusal::TooLong) => StatusCode::URI_TOO_LONG,
            Trouble::OldHttp => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Trouble::Refused(Refusal::Foreign | Refusal::CrossSite)
            | Trouble::Forbidden
            | Trouble::NoVisitor(_)
            | Trouble::LoggedOut
            | Trouble::OneAgentOnly
            | Trouble::NeedsRole(_)
            | Trouble::ReadOnly
            | Trouble::Link(LinkRefused::Forged | LinkRefused::Over) => StatusCode::FORBIDDEN,
            Trouble::NotDone(_) | Trouble::ReadOnlyServer => StatusCode::CONFLICT,
            Trouble::NoPage | Trouble::Missing(_) => StatusCode::NOT_FOUND,
            Trouble::Wrong(_) => StatusCode::BAD_REQUEST,
            Trouble::Busy
            | Trouble::Crowded
            | Trouble::TooSlow
            | Trouble::Away
            | Trouble::NotOpened
            | Trouble::Incomplete { .. }
            | Trouble::Link(LinkRefused::NoClock) => StatusCode::SERVICE_UNAVAILABLE,
            Trouble::Defect => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Title, cause and cure.
    fn told(&self) -> (&'static str, String, String) {
        let told = self.told_of_visitor().or_else(|| self.told_of_request()).or_else(|| self.told_of_database());
        told.unwrap_or_else(|| self.told_of_page())
    }

    /// Those that are about who asks.
    fn told_of_visitor(&self) -> Option<(&'static str, String, String)> {
        let (title, cause, cure) = match self {
            Trouble::NoVisitor(NoVisitor::LogIn) | Trouble::LoggedOut => (
                "Not logged in",
                "You are not logged in, or not any more. Nothing was changed.",
                "Log in on another page of this browser, go back to the form, and send it again: what you typed is still there.",
            ),
            Trouble::NoVisitor(NoVisitor::NotByProxy) => (
                "Not by the proxy",
                "The request does not come from the proxy that says who visits.",
                "Use the public address of the console. If this is the proxy: --proxy-from names its network.",
            ),
            Trouble::NoVisitor(NoVisitor::Unnamed) => (
                "Nobody named",
                "The proxy does not say who you are.",
                "Log in at the proxy. If you have: it sets the header that --proxy-user-header names, once.",
            ),
            Trouble::NoVisitor(NoVisitor::WithoutRole) => (
                "No role",
                "You have no role in the console.",
                "Ask its operator for one: viewer, auditor, operator or publisher.",
            ),
            Trouble::OneAgentOnly => (
                "One agent only",
                "Your link shows one agent and its deliveries, and changes nothing.",
                "Ask whoever gave you the link.",
            ),
            Trouble::NeedsRole(role) => {
                let cause = format!("Your role may not do this. It needs the role {role}. Nothing was changed.");
                return Some((
                    "A role is missing",
                    cause,
                    "Ask somebody who has it, or the operator of the console.".to_owned(),
                ));
            }
            Trouble::ReadOnly => (
                "Reading only",
                "This console changes nothing.",
                "Change things by the command line, or start the console with --write.",
            ),
            Trouble::Link(LinkRefused::Over) => {
                ("The link is over", "The time of this link is over.", "Ask for a new one.")
            }
            Trouble::Link(LinkRefused::Forged) => (
                "No such link",
                "This is not a link of this console, or it was changed on its way.",
                "Copy the whole link, or ask for a new one.",
            ),
            _ => return None,
        };
        Some((title, cause.to_owned(), cure.to_owned()))
    }

    /// Those that are about how it was asked.
    fn told_of_request(&self) -> Option<(&'static str, String, String)> {
        let (title, cause, cure) = match self {
            Trouble::Refused(Refusal::Host) => (
                "Not this host",
                "The request names another host than the one that the console listens on.",
                "Open it as 127.0.0.1 or localhost, with the port that it printed. Through a tunnel, use the same port at \
                 both ends. A console with --public-url is reached by that address only.",
            ),
            Trouble::Refused(Refusal::Method) | Trouble::Method(Takes::Reading) => (
                "Reading only",
                "This address only shows something, and answers GET and HEAD.",
                "Use the forms of the console's pages.",
            ),
            Trouble::Method(Takes::Both | Takes::Form) => (
                "Not this way",
                "This address takes a form of a page of the console.",
                "Go back to the page, and send its form.",
            ),
            Trouble::NoForm => (
                "Not a form",
                "What was sent is not a form as browsers send one.",
                "Use the forms of the console's pages.",
            ),
            Trouble::TooLarge => {
                let cause = format!("The form has more than {} KiB.", MOST_FORM_BYTES / 1024);
                return Some(("Too large", cause, "Shorten what you typed. Nothing was changed.".to_owned()));
            }
            Trouble::TooSlowToArrive => {
                ("It did not arrive", "The form did not arrive in time.", "Send it again. Nothing was changed.")
            }
            Trouble::Refused(Refusal::CrossSite) => (
                "Not from another site",
                "The form was not sent by a page of the console, or the browser does not say where it comes from. Nothing was \
                 changed.",
                "Open the page of the console, and send its form from there.",
            ),
            Trouble::Refused(Refusal::TooLong) => {
                let cause = format!("The address is longer than {LONGEST_ADDRESS} bytes.");
                return Some(("Address too long", cause, "Give fewer or shorter criteria.".to_owned()));
            }
            Trouble::Refused(Refusal::Foreign) => (
                "Not from another site",
                "Another site has asked for this as a part of its own page.",
                "Follow a link to the console, or type its address.",
            ),
            _ => return None,
        };
        Some((title, cause.to_owned(), cure.to_owned()))
    }

    /// Those that are about a database as a whole.
    fn told_of_database(&self) -> Option<(&'static str, String, String)> {
        let (title, cause, cure) = match self {
            Trouble::Away => (
                "The database does not answer",
                "The console is running, and gets no answer from its database.",
                "Reload the page when the database is back; the console need not be restarted. Its log has the error.",
            ),
            Trouble::NotOpened | Trouble::Link(LinkRefused::NoClock) => (
                "This database is not served",
                "It could not be opened since the console was started. This is tried again every few seconds.",
                "The standard error of the console says why. Reload the page when that is mended; the console need not be restarted.",
            ),
            Trouble::Incomplete { database, why } => {
                let cause = format!("The deliveries of {} would be missing. {why}.", words::shown(database));
                let cure = "Export each of the others alone: the page of its deliveries has the links. Or try again when this one is \
                            back.";
                return Some(("It would not be whole", cause, cure.to_owned()));
            }
            Trouble::ReadOnlyServer => (
                "This server takes no changes",
                "It is a standby, which follows another server, or it was set to read only. Nothing was changed.",
                "Change it on the server that a standby follows: by the command line, or by a console that names that one.",
            ),
            _ => return None,
        };
        Some((title, cause.to_owned(), cure.to_owned()))
    }

    /// The others.
    fn told_of_page(&self) -> (&'static str, String, String) {
        let (title, cause, cure) = match self {
            Trouble::OldHttp => (
                "Not over HTTP/1.0",
                "An export is as long as its result. Over HTTP/1.0, nobody would see if it were cut off in the middle.",
                "Use HTTP/1.1. A proxy in between may need to be told: for nginx, proxy_http_version 1.1.",
            ),
            Trouble::NoPage => ("No such page", "The console has no page with this address.", "Begin at the overview."),
            Trouble::Missing(what) => ("Not found", what.as_str(), "Search for it among the deliveries or the agents."),
            Trouble::Wrong(what) => ("Something in it is wrong", what.as_str(), "Correct the address or the form."),
            Trouble::NotDone(why) => ("Not done", why.as_str(), "Go back, and look at it again."),
            Trouble::Busy => (
                "Busy",
                "Other pages are being read, and none of the console's sessions with the database came free in time.",
                "Reload the page in a moment.",
            ),
            Trouble::Crowded => {
                let cause = format!("{MOST_VIEWERS} browsers follow the live tail already, and no more may.");
                return ("Too many viewers", cause, "Reload the page to see what is newer.".to_owned());
            }
            Trouble::TooSlow => (
                "It takes too long",
                "The database did not finish within 5 seconds.",
                "Narrow the search: name an agent, a state, or a shorter time. If the overview says so, too, somebody may \
                 hold a snapshot open: docs/alerts.md tells how to find it.",
            ),
            Trouble::Forbidden if frame::current().only.is_some() => (
                "A link does not show this",
                "Your link shows one agent and its deliveries, and not this.",
                "Ask whoever gave you the link.",
            ),
            Trouble::Forbidden if frame::current().has_roles => (
                "A right is missing",
                "Your role in the console may not do this.",
                "Ask somebody who has a role with more rights.",
            ),
            Trouble::Forbidden => {
                let cause = "The console's database user may not read this.".to_owned();
                return ("A right is missing", cause, format!("Start the console with {READER}."));
            }
            _ => (
                "This cannot be shown",
                "Something in the database, or in this program, is not as it should be.",
                "The console's log has the error. `postcall check-invariants` checks the database.",
            ),
        };
        (title, cause.to_owned(), cure.to_owned())
    }
}

/// That something is not shown for want of a right, and who has it, in the language of whoever asks: of links and roles to those
/// who come by one, and of the console's database user only to those who start it.
pub(super) fn withheld(needed: &str) -> String {
    let frame = frame::current();
    let role = match needed {
        READER => Role::Auditor,
        _ => Role::Publisher,
    };
    if frame.only.is_some() {
        "Your link does not show this. Ask whoever gave it to you.".to_owned()
    } else if frame.has_roles {
        format!("Your role in the console may not read this. It needs the role {role}.")
    } else {
        format!("The console's database user may not read this. It needs {needed}.")
    }
}
