//! One delivery: its story, what was sent, and what came back.

use askama::Template;
use uuid::Uuid;

use super::story::{Step, When, command, outcome, steps};
use super::written;
use crate::console::answer::Answer;
use crate::console::failure::{READER, Trouble};
use crate::console::frame;
use crate::console::marked::{Piece, pieces};
use crate::console::part::Part;
use crate::console::people::{Role, Visit};
use crate::console::words::{Here, LONGEST_TEXT, Mark, agent_address, number, shown, shown_lines};
use crate::domain::body_digest;
use crate::domain::delivery::{BodyEnd, ResolutionSource, State};
use crate::domain::request::Gaps;
use crate::service::past_request::{MaskedRequest, PastRequest, render_again_within};
use crate::service::waiting::{Hold, holds};
use crate::store::history::{HistoryRow, ReplayLink};

/// The largest call that is rendered again, in bytes. `postcall show` has no such limit.
const MOST_CALL_BYTES: i64 = 4 * 1024 * 1024;
/// The most replays of one message that are shown.
const MOST_REPLAYS: usize = 20;
/// Who may read calls.
const CALL_READER: &str = "a database user that may read postcall.outbox and the templates, such as the schema's owner";

#[derive(Template)]
#[template(path = "delivery.html")]
struct DeliveryPage {
    here: Here,
    id: Uuid,
    state: Mark,
    outcome: String,
    command: Option<String>,
    /// What holds it back, if it waits.
    holds: Part<Vec<Hold>>,
    is_waiting: bool,
    agent: String,
    agent_address: String,
    action: String,
    facts: Vec<Fact>,
    steps: Vec<Step>,
    replays_withheld: Option<String>,
    sent_title: &'static str,
    sent: Sent,
    sent_facts: Vec<Fact>,
    answer: Vec<Fact>,
    /// Whether it can be resolved, and whether it can be replayed, by this visitor.
    may_resolve: bool,
    may_replay: bool,
}

/// A name and a value.
struct Fact {
    name: &'static str,
    value: String,
    link: Option<String>,
}

impl Fact {
    fn new(name: &'static str, value: Option<impl ToString>) -> Option<Fact> {
        value.map(|value| Fact { name, value: shown(&value.to_string()).into_owned(), link: None })
    }
}

/// The request, as far as it can be shown.
struct Sent {
    line: Option<Vec<Piece>>,
    headers: Vec<(String, Vec<Piece>)>,
    body: Option<(Vec<Piece>, usize)>,
    notice: Option<String>,
    warning: Option<String>,
}

pub(super) async fn page(id: Uuid, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let (row, store) = visit.delivery(id).await?;
    let replays: Part<Vec<ReplayLink>> = Part::of(store.replays_of(id, MOST_REPLAYS).await, READER)?;
    let holds = Part::of(holds(store, &row).await, READER)?;
    let sent = render_again_within(store, &row, MOST_CALL_BYTES).await;
    let replays_withheld = if let Part::Withheld(why) = &replays { Some(why.clone()) } else { None };
    let links = replays.shown().map(Vec::as_slice).unwrap_or_default();
    let may = visit.may(Role::Operator) && links.is_empty() && row.state.is_final();
    written(&DeliveryPage {
        may_resolve: may && row.state == State::Unknown,
        may_replay: may,
        here: Here::Deliveries,
        id,
        state: row.state.into(),
        outcome: outcome(&row),
        command: command(&row, links),
        holds,
        is_waiting: row.state == State::Waiting,
        agent: shown(&row.agent).into_owned(),
        agent_address: agent_address(&row.agent),
        action: shown(&row.action).into_owned(),
        facts: facts(&row),
        steps: steps(&row, links),
        replays_withheld,
        sent_title: sent_title(&row),
        sent: Sent::of(&row, sent),
        sent_facts: sent_facts(&row),
        answer: answer_facts(&row),
    })
}

fn sent_title(row: &HistoryRow) -> &'static str {
    match row.state {
        _ if row.resolved_from == Some(ResolutionSource::Person) => "What was sent, or a part of it",
        State::Waiting => "What would be sent now",
        State::Failed | State::Skipped => "What would have been sent; nothing was",
        State::Unknown => "What was sent, or a part of it",
        State::Sending | State::Delivered | State::Rejected => "What was sent",
    }
}

fn facts(row: &HistoryRow) -> Vec<Fact> {
    let others = frame::inside(&format!("/deliveries?q={}", row.call_id));
    [
        Fact::new("call SID", row.call_sid.as_ref()),
        Fact::new("call id", Some(row.call_id)).map(|fact| Fact { link: Some(others), ..fact }),
        Fact::new("webhook-id", Some(row.message_id)),
        Fact::new("version", row.action_version),
        Fact::new("replay of", row.replay_of)
            .map(|fact| Fact { link: Some(frame::inside(&format!("/deliveries/{}", fact.value))), ..fact }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The digest of a body, with its name.
fn digest_of_body(recorded: &str) -> Option<Fact> {
    let (name, digest) = body_digest::in_words(recorded);
    Fact::new(if name == "SHA-256" { "SHA-256 of the body" } else { "HMAC-SHA256 of the body" }, Some(digest))
}

/// The digest of method, URL and headers.
fn digest_of_head(recorded: &str) -> Option<Fact> {
    Fact::new("HMAC-SHA256 of URL and headers", Some(body_digest::in_words(recorded).1))
}

fn sent_facts(row: &HistoryRow) -> Vec<Fact> {
    [
        Fact::new("body", row.request_bytes.map(|bytes| format!("{} bytes", number(bytes.into())))),
        row.request_head_hmac.as_deref().and_then(digest_of_head),
        row.request_sha256.as_deref().and_then(digest_of_body),
        Fact::new("placeholders that found nothing", row.unresolved.as_ref().map(|paths| paths.join(", "))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn answer_facts(row: &HistoryRow) -> Vec<Fact> {
    let end = row.body_end.map_or("", BodyEnd::as_str);
    // What it ended with stays beside what was learnt later.
    let earlier = row.resolved_from.is_some();
    [
        Fact::new("status", row.response_code),
        Fact::new("body", row.response_bytes.map(|bytes| format!("{} bytes, {end}", number(bytes.into())))),
        row.response_sha256.as_deref().and_then(digest_of_body),
        Fact::new("error", row.error_kind),
        Fact::new("detail", row.error_detail.as_ref()),
        Fact::new("error at first", row.recorded_error_kind.filter(|_| earlier)),
        Fact::new("detail at first", row.recorded_error_detail.as_ref().filter(|_| earlier)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Why headers and body are not shown to those who may not read the call, in their language.
fn no_content() -> String {
    let frame = frame::current();
    let why = if frame.only.is_some() {
        "your link shows what became of the delivery, and not what is in it.".to_owned()
    } else if frame.has_roles {
        "they are made from the call, which your role may not read.".to_owned()
    } else {
        format!("the console's database user may read history only. They need {CALL_READER}.")
    };
    format!("Headers and body are not shown: {why}")
}

impl Sent {
    fn of(row: &HistoryRow, sent: PastRequest) -> Sent {
        let recorded = row.method.as_ref().zip(row.url.as_ref());
        let line = recorded.map(|(method, url)| pieces(&format!("{method} {url}"), &[], own));
        let nothing = Sent { line, headers: Vec::new(), body: None, notice: None, warning: None };
        let notice = match sent {
            PastRequest::Rendered { request, gaps, compared } => {
                return Sent {
                    line: Some(request_line(&request, &gaps)),
                    headers: marked_headers(&request, &gaps),
                    body: request.body.as_deref().map(|body| marked_body(body, &gaps)),
                    notice: compared.not_compared().map(sentence),
                    warning: compared.difference().map(sentence),
                };
            }
            PastRequest::Refused(problem) => format!("Nothing: {}.", shown(&problem.to_string())),
            PastRequest::Gone(reason) => format!("It cannot be rendered again: {reason}."),
            PastRequest::TooLarge { bytes } => {
                format!("The call has {} bytes. `postcall show {}` renders it.", number(bytes), row.delivery_id)
            }
            PastRequest::Forbidden => no_content(),
        };
        Sent { notice: Some(notice), ..nothing }
    }
}

/// The method and the URL of a request.
pub(super) fn request_line(request: &MaskedRequest, gaps: &Gaps) -> Vec<Piece> {
    let method = Piece { text: format!("{} ", request.method), gap: None };
    std::iter::once(method).chain(pieces(&request.url, &gaps.url, own)).collect()
}

/// The headers of a request.
pub(super) fn marked_headers(request: &MaskedRequest, gaps: &Gaps) -> Vec<(String, Vec<Piece>)> {
    let of_header = |index| gaps.headers.get(index).map(Vec::as_slice).unwrap_or_default();
    let headers = request.headers.iter().enumerate();
    headers.map(|(index, (name, value))| (own(name), pieces(value, of_header(index), own))).collect()
}

/// The body of a request, and how many bytes of it are left out.
pub(super) fn marked_body(body: &str, gaps: &Gaps) -> (Vec<Piece>, usize) {
    let text = &body[..body.floor_char_boundary(LONGEST_TEXT)];
    (pieces(text, &gaps.body, |part| shown_lines(part).0), body.len() - text.len())
}

/// Words with a capital letter and a period.
fn sentence(words: &str) -> String {
    let (first, rest) = words.split_at(words.chars().next().map_or(0, char::len_utf8));
    format!("{}{rest}.", first.to_uppercase())
}

fn own(text: &str) -> String {
    shown(text).into_owned()
}
