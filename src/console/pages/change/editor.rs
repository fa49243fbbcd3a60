//! What helps an author beside the form of an action: its check while they type, the variables that they can use, and the exact
//! request for a call. All of it works without a script, but for the check while typing.

use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::edit::{storage, typed};
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::form::Form;
use crate::console::marked::Piece;
use crate::console::pages::delivery::{marked_body, marked_headers, request_line};
use crate::console::people::{Role, Visit};
use crate::console::words::{Icon, Mark, Tone, number, shown};
use crate::domain::documented;
use crate::service::action_form::ActionForm;
use crate::service::chosen_call::ChosenCall;
use crate::service::draft::{DraftRequest, NoDraftRequest, draft_request};
use crate::service::examination::look_at;
use crate::service::remarks::remarks;
use crate::service::variables::variables;
use crate::store::calls::{CallFilter, CallRecord};
use crate::store::search::Patience;

/// The calls from which one is chosen.
const CALLS: usize = 10;

/// What stands beside the form.
pub(super) struct Help {
    pub(super) variables: Vec<String>,
    /// Where they come from.
    pub(super) source: String,
    /// Which call the request is for, as it was typed; empty for the sample.
    pub(super) call: String,
    pub(super) preview: Option<Preview>,
    /// The agent's latest calls, from which one is chosen; empty for those who may not read which there are.
    pub(super) calls: Vec<CallChoice>,
}

/// A call that can be chosen.
pub(super) struct CallChoice {
    pub(super) id: Uuid,
    pub(super) label: String,
}

/// The exact request, or why there is none.
pub(super) enum Preview {
    Request(RequestView),
    None(String),
}

/// A request, as it would be sent for a call.
pub(super) struct RequestView {
    pub(super) line: Vec<Piece>,
    pub(super) headers: Vec<(String, Vec<Piece>)>,
    pub(super) body: Option<Vec<Piece>>,
    pub(super) body_bytes: String,
    pub(super) is_cut: bool,
    pub(super) mark: Mark,
    /// The placeholders that found no value, each with its fields.
    pub(super) unresolved: Vec<(String, String)>,
    pub(super) left_out: usize,
}

impl Help {
    /// The variables of an agent; those of the documentation if its calls cannot be read.
    pub(super) async fn of(visit: &Visit<'_>, agent: &str, form: Option<&Form>) -> Help {
        let call = form.and_then(|form| form.text("call")).unwrap_or_default().trim().to_owned();
        let read = match visit.agent(agent) {
            Ok(store) => variables(store, agent).await.ok(),
            Err(_) => None,
        };
        let (variables, source) = match read {
            Some(known) if known.withheld || known.calls == 0 => (known.documented, "of the documentation".to_owned()),
            Some(known) => {
                let source = format!("of the documentation, and of the agent's {} latest calls", known.calls);
                (known.documented.into_iter().chain(known.seen).collect(), source)
            }
            None => (documented::paths(), "of the documentation".to_owned()),
        };
        let variables = variables.iter().map(|path| shown(path).into_owned()).collect();
        Help { variables, source, call, preview: None, calls: latest_calls(visit, agent).await }
    }

    /// The same with the request that a form would send.
    pub(super) async fn with_preview(self, visit: &Visit<'_>, agent: &str, form: &ActionForm) -> Result<Help, Trouble> {
        let chosen = match self.call.as_str() {
            "" => Ok(ChosenCall::Sample),
            id => id.parse().map(ChosenCall::Past),
        };
        let preview = match chosen {
            Err(_) => Preview::None(
                "The call: expected the id of a call, such as `postcall calls` lists, or nothing.".to_owned(),
            ),
            Ok(call) => match draft_request(visit.agent(agent)?, agent, form.text().as_str().into(), &call).await {
                Ok(draft) => Preview::Request(RequestView::of(draft)),
                Err(NoDraftRequest::NoCall(crate::service::chosen_call::NoCall::Store(error))) => {
                    return Err(error.into());
                }
                Err(refused) => Preview::None(shown(&super::sentence(&refused.to_string())).into_owned()),
            },
        };
        Ok(Help { preview: Some(preview), ..self })
    }
}

/// The latest calls of an agent. They are a help, so whatever keeps them from being read keeps nobody from the form.
pub(super) async fn latest_calls(visit: &Visit<'_>, agent: &str) -> Vec<CallChoice> {
    let Ok(store) = visit.agent(agent) else { return Vec::new() };
    let filter = CallFilter { agent: Some(agent.to_owned()), ..CallFilter::default() };
    let found = store.calls_within(&filter, None, CALLS, Patience::Glance).await;
    let choice = |call: CallRecord| {
        let sid = call.call_sid.as_deref().map(|sid| format!(", {}", shown(sid))).unwrap_or_default();
        CallChoice { id: call.call_id, label: format!("{}{sid}", call.created_at.format("%Y-%m-%d %H:%M:%S UTC")) }
    };
    found.map(|found| found.calls.into_iter().map(choice).collect()).unwrap_or_default()
}

impl RequestView {
    fn of(draft: DraftRequest) -> RequestView {
        let request = draft.request;
        let fields = |places: &[crate::service::draft::Place]| {
            let mut fields: Vec<String> = places.iter().map(|place| place.field.to_string()).collect();
            fields.dedup();
            fields.join(", ")
        };
        let is_whole = draft.unresolved.is_empty();
        let mark = match is_whole {
            true => Mark { icon: Icon::WELL, tone: Tone::Well, word: "every placeholder found a value" },
            false => Mark { icon: Icon::WARN, tone: Tone::Doubt, word: "placeholders without a value" },
        };
        let shown_bytes = request.body.as_ref().map_or(0, String::len);
        RequestView {
            line: request_line(&request, &draft.gaps),
            headers: marked_headers(&request, &draft.gaps),
            is_cut: draft.body_bytes.unwrap_or(0) > shown_bytes,
            body: request.body.as_deref().map(|body| marked_body(body, &draft.gaps).0),
            body_bytes: number(draft.body_bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(0)),
            mark,
            unresolved: draft
                .unresolved
                .iter()
                .map(|one| (shown(&one.path).into_owned(), fields(&one.places)))
                .collect(),
            left_out: draft.unresolved_left_out,
        }
    }
}

/// What `postcall action check --json` says of the form as it is.
pub(in crate::console::pages) async fn check(form: &Form, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    // The right of those who see the form.
    let storage = storage(visit.change(Role::Publisher)?.store);
    let text = typed(form)?.form.text();
    // On a thread on which nothing else waits: long templates take milliseconds.
    let found = move || json!({ "problems": remarks(&look_at(&*text, storage)) }).to_string();
    let found = tokio::task::spawn_blocking(found);
    let found = found.await.map_err(|_| Trouble::Defect)?;
    Ok(Answer::json(StatusCode::OK, found))
}
