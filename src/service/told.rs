//! What a person has done, in one sentence, whichever interface they use.

use uuid::Uuid;

use crate::domain::delivery::Finding;
use crate::domain::pause::{MOST_PAUSES, NamedTarget};
use crate::domain::visible::visible;
use crate::store::publish::{Published, Switched};
use crate::store::resolve::Resolution;

/// The state of an action in a sentence.
fn state(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

/// An action in a sentence.
fn action(agent: &str, name: &str) -> String {
    format!("{} {}", visible(agent), visible(name))
}

/// What publishing did.
pub fn published(agent: &str, name: &str, enabled: bool, published: Published) -> String {
    let (action, state) = (action(agent, name), state(enabled));
    match published {
        Published::New { version } => format!("published {action} version {version} ({state})"),
        Published::Same { version, switched: false } => {
            format!("{action} version {version} is the same already; nothing was published ({state}, as before)")
        }
        Published::Same { version, switched: true } => {
            format!("{action} version {version} is the same already; nothing was published, but it is now {state}")
        }
    }
}

/// What enabling or disabling did; `None` if there is no such action.
pub fn switched(agent: &str, name: &str, enabled: bool, switched: Switched) -> Option<String> {
    let (action, state) = (action(agent, name), state(enabled));
    match switched {
        Switched::Changed => Some(format!("{action} is now {state}")),
        Switched::Already => Some(format!("{action} was {state} already")),
        Switched::NoSuchAction => None,
    }
}

/// What recording a finding did.
///
/// # Errors
/// Why it was not recorded.
pub fn resolved(id: Uuid, finding: Finding, by: &str, resolution: &Resolution) -> Result<String, String> {
    Err(match resolution {
        Resolution::Resolved => return Ok(format!("{id} is resolved as {}, says {}", finding.state(), visible(by))),
        Resolution::NotUnknown { state } => format!("{id} is {state}: only what is unknown can be resolved"),
        Resolution::AlreadyResolved => format!("{id} was resolved before"),
        Resolution::Replayed { replay } => {
            format!("{id} was replayed as {replay}, which tells more about the message; nothing is recorded")
        }
        Resolution::JustEnded => format!("{id} ended as unknown at this moment"),
        Resolution::NoSuchDelivery => format!("there is no delivery {id}"),
    })
}

/// What pausing did.
pub fn paused(target: &NamedTarget) -> String {
    format!(
        "{} is paused; what waits for it is sent once it is resumed. Dispatchers know it within about two seconds",
        visible(&target.to_string())
    )
}

/// What is said of a host that no action goes to.
pub fn unused(target: &NamedTarget) -> String {
    format!("no action goes to {} at present; is it spelt as in the actions' URLs?", visible(&target.to_string()))
}

/// Why there cannot be one pause more.
pub fn too_many_pauses() -> String {
    format!(
        "not paused: {MOST_PAUSES} pauses are active, and there cannot be more; resume what need not be paused any longer"
    )
}
