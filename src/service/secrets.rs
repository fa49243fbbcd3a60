//! The secrets that an action's templates name: which of them its agent does not have, and their values for a test.

use crate::domain::action::ActionSpec;
use crate::domain::secret::{Absence, Secrets};
use crate::render::CompiledAction;
use crate::store::secrets::Opening;
use crate::store::{Store, StoreError};
use crate::vault::{Keyring, Owner};

/// The names of the secrets that the templates of `spec` name. None, if they are not well formed.
pub fn named(spec: &ActionSpec) -> Vec<String> {
    CompiledAction::compile(spec)
        .map(|action| action.secrets().into_iter().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// The names of the secrets that the templates of `spec` name and `agent` does not have.
pub async fn unset(store: &Store, agent: &str, spec: &ActionSpec) -> Result<Vec<String>, StoreError> {
    let names = named(spec);
    if names.is_empty() { Ok(Vec::new()) } else { store.unset_secrets(agent, &names).await }
}

/// Opens these secrets for a test, which is recorded before they are read.
pub(super) async fn opened(store: &Store, keys: &Keyring, opening: &Opening<'_>) -> Result<Secrets, StoreError> {
    let found = store.secrets_for_test(opening).await?;
    let open = |name: &String| {
        let sealed = found.iter().find(|(known, _)| known == name);
        sealed
            .ok_or(Absence::NotSet)
            .and_then(|(_, sealed)| keys.open(Owner { agent: opening.agent, name: name.as_str() }, sealed))
    };
    Ok(Secrets::Opened(opening.names.iter().map(|name| (name.clone(), open(name))).collect()))
}
