//! The form that pauses or resumes something, as pages show it.

use crate::console::words::shown;
use crate::domain::pause::NamedTarget;

/// A form of `/change/pause`.
pub(in crate::console) struct PauseForm {
    pub(in crate::console) title: String,
    pub(in crate::console) order: &'static str,
    pub(in crate::console) target: &'static str,
    pub(in crate::console) agent: String,
    pub(in crate::console) name: String,
    pub(in crate::console) host: String,
}

impl PauseForm {
    /// The form that pauses this.
    pub(super) fn pause(target: &NamedTarget) -> PauseForm {
        PauseForm::of("pause", format!("Pause {}", shown(&target.to_string())), target)
    }

    /// The form that resumes this.
    pub(super) fn resume(target: &NamedTarget) -> PauseForm {
        PauseForm::of("resume", format!("Resume {}", shown(&target.to_string())), target)
    }

    /// The form that pauses a host, which is to be typed.
    pub(super) fn any_host() -> PauseForm {
        PauseForm::of("pause", "Pause a host".to_owned(), &NamedTarget::Host(String::new()))
    }

    fn of(order: &'static str, title: String, target: &NamedTarget) -> PauseForm {
        let form =
            |target| PauseForm { title, order, target, agent: String::new(), name: String::new(), host: String::new() };
        match target.clone() {
            NamedTarget::Agent(agent) => PauseForm { agent, ..form("agent") },
            NamedTarget::Action { agent, name } => PauseForm { agent, name, ..form("action") },
            NamedTarget::Host(host) => PauseForm { host, ..form("host") },
        }
    }
}
