//! Signing of an agent's requests: enabled, its key rotated, and the signatures of a test.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::keys;
use crate::domain::secret::Absence;
use crate::domain::signature::Scheme;
use crate::store::signing::{NewKey, NotAdded, SigningChange, StoredKey};
use crate::store::{Store, StoreError};
use crate::vault::{KeyOwner, Keyring, SealError, Signer, SigningKeys};

/// A key that signs from now on.
#[derive(Debug)]
pub struct Begun {
    /// How it signs.
    pub scheme: Scheme,
    /// What receivers need to verify: a secret that is told this one time, or a public key.
    pub for_receiver: Zeroizing<String>,
    /// How many keys it has replaced that go on signing for a while.
    pub older: usize,
}

/// Why the signing of an agent was not changed.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// It is enabled.
    #[error(
        "the requests of this agent are signed already: `postcall action signing rotate` gives it a new key, and `disable` ends it"
    )]
    Enabled,
    /// It is not enabled.
    #[error("the requests of this agent are not signed: `postcall action signing enable` begins it")]
    NotEnabled,
    /// The current key is of a kind that this release does not know.
    #[error("the key of this agent is of a kind that this release does not know")]
    UnknownScheme,
    /// No key can be made.
    #[error("no key can be made")]
    Seal(#[from] SealError),
    /// The database did not add the key.
    #[error(transparent)]
    NotAdded(#[from] NotAdded),
}

impl From<StoreError> for NotChanged {
    fn from(error: StoreError) -> NotChanged {
        NotChanged::NotAdded(NotAdded::Store(error))
    }
}

/// Signs the requests of an agent from now on, with a new key.
///
/// # Errors
/// Nothing was changed.
pub async fn enable(
    store: &Store,
    keyring: &Keyring,
    change: &SigningChange<'_>,
    scheme: Scheme,
) -> Result<Begun, NotChanged> {
    if !store.signing_keys(change.agent).await?.is_empty() {
        return Err(NotChanged::Enabled);
    }
    add(store, keyring, change, scheme, Before { current: None, keep_seconds: 0 }).await
}

/// Gives an agent a new key of the same kind. The keys before it go on signing beside it for `keep_seconds`.
///
/// # Errors
/// Nothing was changed.
pub async fn rotate(
    store: &Store,
    keyring: &Keyring,
    change: &SigningChange<'_>,
    keep_seconds: u32,
) -> Result<Begun, NotChanged> {
    let keys = store.signing_keys(change.agent).await?;
    let current = keys.first().ok_or(NotChanged::NotEnabled)?;
    let scheme = Scheme::named(&current.scheme).ok_or(NotChanged::UnknownScheme)?;
    let mut begun = add(store, keyring, change, scheme, Before { current: Some(current.id), keep_seconds }).await?;
    begun.older = if keep_seconds == 0 { 0 } else { keys.len() };
    Ok(begun)
}

/// The keys before a new one.
struct Before {
    current: Option<Uuid>,
    keep_seconds: u32,
}

async fn add(
    store: &Store,
    keyring: &Keyring,
    change: &SigningChange<'_>,
    scheme: Scheme,
    before: Before,
) -> Result<Begun, NotChanged> {
    keys::admit(store, keyring).await?;
    let id = Uuid::now_v7();
    let made = keyring.new_signing_key(KeyOwner { agent: change.agent, id }, scheme)?;
    let new = NewKey {
        id,
        scheme,
        public_key: made.public_key.as_deref(),
        sealed: &made.sealed,
        replaces: before.current,
        keep_older_seconds: before.keep_seconds,
    };
    store.add_signing_key(change, &new).await?;
    Ok(Begun { scheme, for_receiver: made.for_receiver, older: 0 })
}

/// Opens the keys with which a test is signed. That they are read is recorded before.
///
/// # Errors
/// The database's error; within it, why a key cannot be opened. A test is never sent unsigned instead.
pub(super) async fn opened(
    store: &Store,
    keyring: &Keyring,
    agent: &str,
    (by, reason): (&str, &str),
) -> Result<Result<Signer, Absence>, StoreError> {
    let found = store.signing_keys_for_test(agent, by, reason).await?;
    let known_at = Instant::now();
    let open = |key: &StoredKey| {
        keyring.open_signing_key(KeyOwner { agent, id: key.id }, &key.scheme, &key.sealed).map(Arc::new)
    };
    Ok(match found.keys.iter().map(open).collect::<Result<Vec<_>, _>>() {
        Ok(keys) if keys.is_empty() => Err(Absence::NotSet),
        keys => keys.map(|keys| Signer::new(Arc::new(SigningKeys::new(keys)), found.now, known_at)),
    })
}
