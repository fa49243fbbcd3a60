//! Makes the request of a claimed delivery from its payload, within the budget of bytes. Nothing is sent here, so every
//! error has a certain ending: the delivery failed, or goes back to `waiting`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio_util::sync::CancellationToken;
use tracing::{Span, error};

use super::budget::{Budget, Share, is_small};
use super::secrets::Ready;
use super::signing::Signing;
use crate::domain::call::Call;
use crate::domain::claim::{Payload, SentRequest};
use crate::domain::delivery::{Ending, Failure, Outcome};
use crate::domain::problem::{Code, Field, Problem};
use crate::domain::request::Request;
use crate::vault::digest_of;
use crate::webhook::SendGate;

/// A rendered request, and what goes with it.
pub(super) struct Rendered {
    /// The rendered request.
    pub(super) request: Request,
    /// What history keeps of the request.
    pub(super) sent: SentRequest,
    /// The share of the budget for the body, held as long as the body is. Small deliveries have none.
    pub(super) body_share: Option<Share>,
}

/// Renders a request, and signs it if it is to be signed. A large request waits for its share of the bodies, and is rendered
/// on a blocking thread, so that it does not hold up other tasks. `text_share` comes back as soon as the text is dropped. The wait ends when the
/// `send_gate` closes or `cut` is cancelled.
///
/// # Errors
/// Returns the ending of the delivery if nothing will be sent.
pub(super) async fn render(
    payload: Payload,
    text_share: Option<Share>,
    ready: Ready,
    budget: &Budget,
    send_gate: &SendGate,
    cut: &CancellationToken,
) -> Result<Rendered, Ending> {
    let text = text_of(payload, budget.max_call_bytes()).map_err(|problem| failed(problem.to_string()))?;
    let bound = ready.template.body_bound(text.len());
    if is_small(text.len(), bound) {
        return guarded(|| render_now(&text, &ready));
    }
    let share_and_permit = async { (budget.body(bound).await, budget.permit_to_render().await) };
    let (body_share, permit) = tokio::select! {
        biased;
        () = cut.cancelled() => return Err(Ending::Unsent),
        () = send_gate.closes() => return Err(Ending::Unsent),
        got = share_and_permit => got,
    };
    let span = Span::current();
    let task = tokio::task::spawn_blocking(move || {
        let rendered = span.in_scope(|| guarded(|| render_now(&text, &ready)));
        drop((text, text_share, permit));
        rendered
    });
    // The rendering is abandoned only if the runtime shuts down.
    let mut rendered = task.await.unwrap_or(Err(Ending::Unsent))?;
    rendered.body_share = body_share;
    if let Some(share) = &mut rendered.body_share {
        share.shrink_to(rendered.request.body.as_ref().map_or(0, String::len));
    }
    Ok(rendered)
}

/// The call's text, or the problem because of which there is none.
fn text_of(payload: Payload, max_call_bytes: usize) -> Result<String, Problem> {
    let problem = |code, message: String| Err(Problem::new(code, Field::Call, message));
    match payload {
        Payload::Text(text) => Ok(text),
        Payload::Gone => problem(
            Code::BadCall,
            "the payload is no longer in the outbox (its partition was dropped), or is a call of another agent"
                .to_owned(),
        ),
        Payload::TooLarge(bytes) => problem(
            Code::TooLarge,
            format!("the call has {bytes} bytes, more than the {max_call_bytes} of --max-call-bytes"),
        ),
        Payload::Unreadable => {
            problem(Code::BadCall, "the database cannot give the call, or not as Unicode text".to_owned())
        }
    }
}

fn render_now(text: &str, ready: &Ready) -> Result<Rendered, Problem> {
    let action = ready.template.action()?;
    let (mut request, masked) = action.render_with_head(Call::of_any_length(text), &ready.secrets)?;
    let head = masked.as_ref().unwrap_or(&request).head();
    let sent = SentRequest {
        method: request.method,
        url: action.recorded_url().to_owned(),
        body_bytes: request.body.as_ref().map(String::len),
        body_digest: request.body.as_ref().map(|body| digest_of(body, ready.digests.as_deref())),
        head_digest: ready.digests.as_ref().map(|key| key.head_digest(head)),
        unresolved: std::mem::take(&mut request.unresolved),
    };
    // Here, because a large body is signed as slowly as it is rendered.
    if let Signing::Signed(signer, message_id) = &ready.signing {
        signer.sign(&mut request, *message_id);
    }
    Ok(Rendered { request, sent, body_share: None })
}

/// Renders. A problem is a failure, and so is a panic, which is a defect of postcall: it is certain that nothing was
/// sent.
fn guarded(render: impl FnOnce() -> Result<Rendered, Problem>) -> Result<Rendered, Ending> {
    match catch_unwind(AssertUnwindSafe(render)) {
        Ok(rendered) => rendered.map_err(|problem| failed(problem.to_string())),
        Err(_panic) => {
            error!("rendering a request panicked; its delivery is recorded as failed");
            Err(failed("an internal error ended the rendering; nothing was sent".to_owned()))
        }
    }
}

pub(super) fn failed(detail: String) -> Ending {
    Ending::Final(Outcome::Failed { kind: Failure::Render, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_rendering_is_a_failure_and_no_doubt() {
        let ended = guarded(|| panic!("a defect")).err();
        assert!(matches!(ended, Some(Ending::Final(Outcome::Failed { kind: Failure::Render, .. }))), "{ended:?}");
    }

    #[test]
    fn a_call_that_was_not_fetched_is_told_by_its_reason() {
        let code = |payload| text_of(payload, 100).unwrap_err().code;
        assert_eq!(code(Payload::TooLarge(101)), Code::TooLarge);
        assert_eq!(code(Payload::Gone), Code::BadCall);
        assert_eq!(code(Payload::Unreadable), Code::BadCall);
    }
}
