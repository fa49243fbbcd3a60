//! Which secrets an action needs and its agent does not have.

use crate::domain::action::ActionSpec;
use crate::render::CompiledAction;
use crate::store::{Store, StoreError};

/// The names of the secrets that the templates of `spec` name and `agent` does not have.
pub async fn unset(store: &Store, agent: &str, spec: &ActionSpec) -> Result<Vec<String>, StoreError> {
    let names =
        CompiledAction::compile(spec).map(|action| action.secrets().into_iter().map(str::to_owned).collect::<Vec<_>>());
    match names {
        Ok(names) if !names.is_empty() => store.unset_secrets(agent, &names).await,
        _ => Ok(Vec::new()),
    }
}
