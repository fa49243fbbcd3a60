//! One claimed delivery: from its call and its template to an ending. Never touches the database.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::templates::Template;
use crate::domain::call::Call;
use crate::domain::claim::{Claimed, Sent, Settled, Story};
use crate::domain::delivery::{Doubt, Ending, Failure, Outcome};
use crate::domain::mask;
use crate::domain::problem::{Code, Field, Problem};
use crate::domain::request::Request;
use crate::render::call_sid;
use crate::webhook::{Fence, Webhook};

/// Attempts a claimed delivery and settles it. Behind a closed `fence` it does not begin; `cut` ends it early.
///
/// A defect of ours that panics must not leave the delivery without an end. It may have happened with the request on
/// its way, so it is a doubt.
pub(super) async fn attempt(
    claimed: Claimed,
    template: Template,
    webhook: &Webhook,
    fence: &Fence,
    cut: &CancellationToken,
) -> Settled {
    let Claimed { hold, message_id, enabled, call, .. } = claimed;
    if !enabled {
        // Read all the same, so that history finds it by the provider's id.
        let call_sid = call.and_then(|text| Call::new(&text).ok().and_then(call_sid));
        return hold.settle(Ending::Final(Outcome::Skipped), Story { call_sid, ..Story::default() });
    }
    let attempted =
        AssertUnwindSafe(render_and_send(call, template, message_id, webhook, fence, cut)).catch_unwind().await;
    let (ending, story) = attempted.unwrap_or_else(|_| {
        let detail = "an internal error ended the attempt; nobody knows how far it came".to_owned();
        (Ending::Final(Outcome::Unknown { kind: Doubt::DispatcherLost, detail }), Story::default())
    });
    hold.settle(ending, story)
}

async fn render_and_send(
    call: Option<String>,
    template: Template,
    message_id: Uuid,
    webhook: &Webhook,
    fence: &Fence,
    cut: &CancellationToken,
) -> (Ending, Story) {
    let mut story = Story::default();
    let request = match render(call, &template, &mut story) {
        Ok(request) => request,
        Err(problem) => {
            let outcome = Outcome::Failed { kind: Failure::Render, detail: problem.to_string() };
            return (Ending::Final(outcome), story);
        }
    };
    story.sent = Some(summary(&request));
    let attempt = webhook.send(&request, message_id, fence, cut.cancelled()).await;
    // The client, too, may find that there is nothing to send: then nothing was attempted that could have a latency.
    let attempted = !matches!(attempt.ending, Ending::Final(Outcome::Failed { kind: Failure::Render, .. }));
    story.timing = attempted.then_some(attempt.timing);
    (attempt.ending, story)
}

fn render(call: Option<String>, template: &Template, story: &mut Story) -> Result<Request, Problem> {
    let text = call.ok_or_else(|| {
        Problem::new(Code::BadCall, Field::Call, "the payload is no longer in the outbox: its partition was dropped")
    })?;
    let call = Call::new(&text)?;
    story.call_sid = call_sid(call);
    template.as_ref().as_ref().map_err(Problem::clone)?.render(call)
}

/// What history keeps of a request.
fn summary(request: &Request) -> Sent {
    Sent {
        method: request.method,
        url: mask::url(&request.url),
        body_bytes: request.body.as_ref().map(String::len),
        body_sha256: request.body.as_ref().map(|body| Sha256::digest(body).into()),
        unresolved: request.unresolved.clone(),
    }
}
