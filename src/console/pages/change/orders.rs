//! What is done by one press: enable or disable, pause or resume, replay or resolve one delivery. To do it twice does nothing more:
//! the second time it is said that it is so already.

use uuid::Uuid;

use super::{reason, reason_if_any, sentence};
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::form::Form;
use crate::console::frame;
use crate::console::people::{Role, Visit};
use crate::console::words::{agent_address, shown};
use crate::domain::delivery::Finding;
use crate::domain::host::HostPattern;
use crate::domain::pause::NamedTarget;
use crate::service::pause::{is_unused_host, missing, told_missing};
use crate::service::replay::{Cure, Reason};
use crate::service::told;
use crate::store::pauses::{Pausing, Resuming};
use crate::store::publish::Switching;
use crate::store::replay::{ReplayOrder, Replayed};

/// Enables or disables an action.
pub(in crate::console::pages) async fn switch(form: &Form, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Operator)?;
    let (agent, name) = (form.needed("agent")?, form.needed("name")?);
    let enabled = form.is_checked("enabled");
    let reason = reason_if_any(form)?;
    let switching = Switching { agent, name, enabled, by: change.by, reason: reason.as_deref() };
    let switched = change.store.switch(&switching).await?;
    let missing = || Trouble::Missing(format!("Agent {} has no action {}.", shown(agent), shown(name)));
    let done = told::switched(agent, name, enabled, switched).ok_or_else(missing)?;
    Ok(visit.done(&agent_address(agent), sentence(&done)))
}

/// What a form names to be paused or resumed, and where that is shown.
fn target(form: &Form) -> Result<(NamedTarget, String), Trouble> {
    match form.needed("target")? {
        "agent" => {
            let agent = form.needed("agent")?;
            Ok((NamedTarget::Agent(agent.to_owned()), agent_address(agent)))
        }
        "action" => {
            let (agent, name) = (form.needed("agent")?, form.needed("name")?);
            Ok((NamedTarget::Action { agent: agent.to_owned(), name: name.to_owned() }, agent_address(agent)))
        }
        "host" => {
            let host: Result<HostPattern, _> = form.needed("host")?.trim().parse();
            let host = host.map_err(|error| Trouble::NotDone(format!("The host: {error}.")))?;
            Ok((NamedTarget::Host(host.to_string()), frame::inside("/")))
        }
        _ => Err(Trouble::Wrong("target: expected agent, action or host.".to_owned())),
    }
}

/// Pauses or resumes.
pub(in crate::console::pages) async fn pause(form: &Form, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Operator)?;
    let ((target, address), reason) = (target(form)?, reason(form)?);
    let named = shown(&target.to_string()).into_owned();
    let done = match form.needed("order")? {
        "pause" => match change.store.pause(&target, &reason, change.by).await? {
            Pausing::Paused { .. } => {
                let unused = if is_unused_host(change.store, &target).await? {
                    format!(" {}", sentence(&told::unused(&target)))
                } else {
                    String::new()
                };
                sentence(&told::paused(&target)) + &unused
            }
            Pausing::AlreadyPaused(begun) => {
                format!("{named} was paused already, by {}: {}.", shown(&begun.by), shown(&begun.reason))
            }
            Pausing::TooMany => return Err(Trouble::NotDone(sentence(&told::too_many_pauses()))),
            Pausing::NoSuchTarget => {
                let why = told_missing(&missing(change.store, &target).await?);
                return Err(Trouble::NotDone(sentence(&format!("not paused: {why}"))));
            }
            Pausing::JustResumed => {
                return Err(Trouble::NotDone(format!("{named} was paused and resumed by others at this moment.")));
            }
        },
        "resume" => match change.store.resume(&target, &reason, change.by).await? {
            Resuming::Resumed(begun) => format!("{named} is resumed; it was paused by {}.", shown(&begun.by)),
            Resuming::NotPaused => format!("{named} is not paused, or not any more."),
        },
        _ => return Err(Trouble::Wrong("order: expected pause or resume.".to_owned())),
    };
    Ok(visit.done(&address, done))
}

fn id(form: &Form) -> Result<Uuid, Trouble> {
    let id = form.needed("delivery")?;
    id.parse().map_err(|_| Trouble::Wrong("delivery: expected the id of a delivery.".to_owned()))
}

/// Replays one delivery.
pub(in crate::console::pages) async fn replay(form: &Form, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Operator)?;
    let (id, reason) = (id(form)?, reason(form)?);
    let order = ReplayOrder {
        by: change.by.to_owned(),
        reason,
        include_delivered: form.is_checked("include_delivered"),
        include_unknown: form.is_checked("include_unknown"),
    };
    let outcomes = change.store.replay_all_or_none(&[id], &order).await?;
    match outcomes.into_iter().next() {
        Some((_, Replayed::As(replay))) => {
            let done = format!("{id} was replayed as this delivery, which waits to be sent.");
            Ok(visit.done(&frame::inside(&format!("/deliveries/{replay}")), done))
        }
        Some((_, Replayed::Refused(refusal))) => {
            let Reason { words, cure } = Reason::of(&refusal);
            let cure = match cure {
                Some(Cure::IncludeUnknown) => " To send it all the same, tick “even if the receiver may have it”.",
                Some(Cure::IncludeDelivered) => " To send it all the same, tick “even if it was delivered”.",
                Some(Cure::EnableAction { .. }) => " Enable it first.",
                None => "",
            };
            Err(Trouble::NotDone(format!("{id} was not replayed: {}.{cure}", shown(&words))))
        }
        // It was to be made, and not to be judged; and there is an outcome for each delivery.
        Some((_, Replayed::Allowed)) | None => Err(Trouble::Defect),
    }
}

/// What a form says that was found out.
pub(super) fn finding(form: &Form) -> Result<Finding, Trouble> {
    let wrong = || Trouble::NotDone("Say what you found out: delivered, rejected or failed.".to_owned());
    let finding = Finding::ALL.into_iter().find(|finding| form.text("finding") == Some(finding.state().as_str()));
    finding.ok_or_else(wrong)
}

/// Records a finding.
pub(in crate::console::pages) async fn resolve(form: &Form, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Operator)?;
    let (id, reason) = (id(form)?, reason(form)?);
    let finding = finding(form)?;
    let resolution = change.store.resolve(id, finding, change.by, &reason).await?;
    match told::resolved(id, finding, change.by, &resolution) {
        Ok(done) => Ok(visit.done(&frame::inside(&format!("/deliveries/{id}")), sentence(&done))),
        Err(problem) => Err(Trouble::NotDone(sentence(&problem))),
    }
}
