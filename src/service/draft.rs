//! What a draft of an action would send for a chosen call, for editors: the request, masked, and the placeholders that found no
//! value with their places. Nothing is sent, and nothing is written.

use serde::Serialize;

use super::chosen_call::{ChosenCall, NoCall};
use super::examination::{LocatedProblem, Storage, look_at};
use super::past_request::{MaskedRequest, masked_with};
use super::preview::first;
use super::remarks::{Characters, Remark, characters, remarks};
use crate::domain::action::ActionSpec;
use crate::domain::action_file::ActionText;
use crate::domain::call::Call;
use crate::domain::problem::{Code, Field, Problem};
use crate::domain::request::Gaps;
use crate::render::CompiledAction;
use crate::render::used::placeholders;
use crate::store::Store;

/// The most bytes of a body that are shown. A body can have 5 MiB, and a page that is made anew at each pause of typing must not
/// carry them.
pub const MOST_BODY_BYTES: usize = 64 * 1024;
/// The largest number of unresolved placeholders that are told, each with its places.
pub const MOST_UNRESOLVED: usize = 100;
/// The largest number of places of one placeholder.
pub const MOST_PLACES: usize = 20;

/// A placeholder that found no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unresolved {
    /// Its path, as the author wrote it.
    pub path: String,
    /// Where it stands, in the order URL, headers, body; at most [`MOST_PLACES`].
    pub places: Vec<Place>,
}

/// A place in the text of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The field.
    pub field: Field,
    /// The characters of the field's own text.
    pub range: Characters,
}

/// What a draft would send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DraftRequest {
    /// The request, masked. The body is cut to [`MOST_BODY_BYTES`].
    pub request: MaskedRequest,
    /// Where its texts lack values, as they are shown.
    #[serde(skip)]
    pub gaps: Gaps,
    /// How many bytes the whole body has.
    pub body_bytes: Option<usize>,
    /// The placeholders that found no value, at most [`MOST_UNRESOLVED`].
    pub unresolved: Vec<Unresolved>,
    /// How many more there are.
    pub unresolved_left_out: usize,
    /// Warnings of the draft.
    pub remarks: Vec<Remark>,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum NoDraftRequest {
    /// The draft is wrong: its errors, and its warnings.
    #[error("the action is not well formed")]
    Wrong(Vec<Remark>),
    /// The call cannot be had.
    #[error(transparent)]
    NoCall(#[from] NoCall),
    /// This action cannot be rendered for this call.
    #[error("{0}")]
    Problem(Problem),
}

/// Renders a draft for a call. It reads one call at most, and writes nothing.
///
/// # Errors
/// Why there is no request. Neither a text of the call nor of the database is in it.
pub async fn draft_request(
    store: &Store,
    agent: &str,
    draft: ActionText<'_>,
    call: &ChosenCall,
) -> Result<DraftRequest, NoDraftRequest> {
    let examination = look_at(draft, Storage::with_key_file(store.keys().is_some()));
    let remarks = remarks(&examination);
    let Some(file) = examination.file else { return Err(NoDraftRequest::Wrong(remarks)) };
    debug_assert_eq!(examination.problems, Vec::<LocatedProblem<'_>>::new());
    let text = call.text(store, agent).await?.into_owned();
    // On a thread on which nothing else waits: a large call takes milliseconds.
    let rendered = tokio::task::spawn_blocking(move || rendered(&file.spec, &text)).await;
    let defect = || Problem::new(Code::BadAction, Field::Action, "an internal error ended the rendering");
    let draft = rendered.unwrap_or_else(|_| Err(defect())).map_err(NoDraftRequest::Problem)?;
    Ok(DraftRequest { remarks, ..draft })
}

fn rendered(spec: &ActionSpec, call: &str) -> Result<DraftRequest, Problem> {
    let compiled = CompiledAction::compile(spec).map_err(first)?;
    let call = Call::new(call)?;
    let (request, gaps) = compiled.render_with_gaps(call)?;
    let missing = compiled.unresolved(call)?;
    let body_bytes = request.body.as_ref().map(String::len);
    let (mut request, mut gaps) = masked_with(request, gaps);
    if let Some(body) = &mut request.body {
        body.truncate(body.floor_char_boundary(MOST_BODY_BYTES));
        gaps.body.retain(|gap| gap.range.end <= body.len());
    }
    let unresolved_left_out = missing.len().saturating_sub(MOST_UNRESOLVED);
    let unresolved = with_places(spec, missing.into_iter().take(MOST_UNRESOLVED).collect());
    Ok(DraftRequest { request, gaps, body_bytes, unresolved, unresolved_left_out, remarks: Vec::new() })
}

fn with_places(spec: &ActionSpec, missing: Vec<String>) -> Vec<Unresolved> {
    let body = spec.body.as_deref().filter(|_| spec.method.has_body());
    let templates =
        [(Field::Url, Some(spec.url.as_str())), (Field::Headers, spec.headers.as_deref()), (Field::Body, body)];
    let mut told: Vec<Unresolved> = missing.into_iter().map(|path| Unresolved { path, places: Vec::new() }).collect();
    for (field, text) in templates {
        let text = text.unwrap_or_default();
        for used in placeholders(field, text) {
            let Some(one) = told.iter_mut().find(|one| one.path == used.path) else { continue };
            if one.places.len() < MOST_PLACES {
                one.places.push(Place { field, range: characters(text, &used.range) });
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Method;
    use crate::domain::documented::SAMPLE;

    fn spec(url: &str, body: &str) -> ActionSpec {
        ActionSpec {
            method: Method::Post,
            url: url.to_owned(),
            timeout_ms: 1_000,
            headers: Some("{\"authorization\": \"Bearer ${context.no}\"}".to_owned()),
            body: Some(body.to_owned()),
            client_certificate: None,
        }
    }

    #[test]
    fn what_found_nothing_is_told_with_all_its_places_in_characters() {
        let spec = spec("https://h/é/?x=${context.no}", "[\"é${context.no}\", ${context.nor}, ${outcome}]");
        let draft = rendered(&spec, SAMPLE).unwrap();
        let place = |field, start, end| Place { field, range: Characters { start, end } };
        let no = vec![place(Field::Url, 15, 28), place(Field::Headers, 26, 39), place(Field::Body, 3, 16)];
        let nor = vec![place(Field::Body, 19, 33)];
        let expected = [("context.no", no), ("context.nor", nor)]
            .map(|(path, places)| Unresolved { path: path.to_owned(), places });
        assert_eq!(draft.unresolved, expected);
        assert_eq!(draft.request.body.as_deref(), Some("[\"é\", null, \"qualified_lead\"]"));
        assert_ne!(draft.request.headers[0].1, "Bearer ", "it is masked");
    }

    #[test]
    fn the_places_without_a_value_are_told_in_each_text_of_the_request_as_it_is_shown() {
        let headers =
            r#"{"authorization": "Bearer ${context.no}", "x-left-out": ${context.no}, "x-a": "  é${context.no}; "}"#;
        let body = "[\"é${context.no}\", ${context.nor}, ${outcome}, \"${context.nor}\"]";
        let url = "https://h/é/?key=s3cret-${context.no}&x=${context.no}${outcome}";
        let spec = ActionSpec { headers: Some(headers.to_owned()), ..spec(url, body) };
        // A name twice in what is used: the request is that of another text.
        for call in [SAMPLE, r#"{"outcome": "qualified_lead", "context": {"a": {"b": 1, "b": 2}}}"#] {
            let draft = rendered(&spec, call).unwrap();
            let (request, gaps) = (draft.request, draft.gaps);
            let before = |text: &str, gap: &crate::domain::request::Gap| {
                (text[..gap.range.start].chars().rev().take(2).collect::<String>(), text[gap.range.clone()].to_owned())
            };
            let of = |text: &str, gaps: &[_]| gaps.iter().map(|gap| before(text, gap)).collect::<Vec<_>>();
            let two = |before: &str, instead: &str| (before.to_owned(), instead.to_owned());
            assert_eq!(of(&request.url, &gaps.url), [two("**", ""), two("=x", "")], "{}", request.url);
            assert_eq!(of(&request.headers[0].1, &gaps.headers[0]), [two("**", "")]);
            assert_eq!(of(&request.headers[1].1, &gaps.headers[1]), [two("é", "")], "{:?}", request.headers);
            let expected = [two("é\"", ""), two(" ,", "null"), two("\" ", "")];
            assert_eq!(of(request.body.as_deref().unwrap(), &gaps.body), expected);
            assert_eq!(gaps.body[1].path, "context.nor");
        }
    }

    #[test]
    fn what_is_shown_of_a_draft_is_bounded() {
        let names: Vec<String> = (0..300).map(|number| format!("${{context.n{number}}}")).collect();
        let many = rendered(&spec("https://h/", &format!("[{}]", names.join(","))), "{}").unwrap();
        // The one in the headers is counted, too.
        assert_eq!((many.unresolved.len(), many.unresolved_left_out), (MOST_UNRESOLVED, 201));
        let call = format!("{{\"outcome\": \"{}\"}}", "é".repeat(MOST_BODY_BYTES));
        let large = rendered(&spec("https://h/", "[\"x${outcome}\"]"), &call).unwrap();
        assert!(large.request.body.unwrap().len() <= MOST_BODY_BYTES);
        assert_eq!(large.body_bytes, Some(2 * MOST_BODY_BYTES + 5));
        let repeated = rendered(&spec("https://h/", &format!("[{}1]", "${context.x},".repeat(50))), "{}").unwrap();
        assert_eq!(repeated.unresolved.iter().map(|one| one.places.len()).max(), Some(MOST_PLACES));
    }
}
