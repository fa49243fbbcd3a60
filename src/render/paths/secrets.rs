//! The paths that mean secrets: never looked up in a call, and filled from the secrets of the agent.

use super::{Found, Paths, Slot};
use crate::domain::problem::{Code, Field, Problem};
use crate::domain::secret::{Absence, Secrets};
use crate::render::value::Value;

impl Paths {
    /// The names of the secrets, each once.
    pub fn secrets(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.routes.iter().filter_map(|route| route.secret.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether there are any.
    pub fn has_secrets(&self) -> bool {
        self.routes.iter().any(|route| route.secret.is_some())
    }

    /// Whether this path means a secret.
    pub fn is_secret(&self, slot: Slot) -> bool {
        self.routes.get(slot.0).is_some_and(|route| route.secret.is_some())
    }
}

impl<'c> Found<'c> {
    /// Puts the values of secrets in place, or what stands for them.
    ///
    /// # Errors
    /// [`Code::NoSecret`] if a secret has no value.
    pub fn with(mut self, secrets: &'c Secrets) -> Result<Found<'c>, Problem> {
        for (route, value) in self.paths.routes.iter().zip(&mut self.values) {
            let Some(name) = &route.secret else { continue };
            let secret = match secrets {
                Secrets::Masked => Value::new(&route.mask),
                Secrets::Opened(_) => {
                    let problem = |absence: Absence| Problem::new(Code::NoSecret, Field::Action, absence.told(name));
                    Value::new(secrets.get(name).map_err(problem)?.json())
                }
            };
            *value = Some(secret);
        }
        self.masked = matches!(secrets, Secrets::Masked);
        Ok(self)
    }

    /// What is shown in place of the secret that a path means. It is no part of a URL, and is written there as it is.
    pub fn mask(&self, slot: Slot) -> Option<&'c str> {
        let secret = self.masked && self.paths.is_secret(slot);
        secret.then(|| self.value(slot).as_string().map(|raw| raw.text)).flatten()
    }
}
