//! Publishing an action: what is refused beyond what the database refuses, in the same words whichever interface is used.

use super::{keys, secrets};
use crate::store::publish::{Publication, Published};
use crate::store::sealed_versions::NotPublished;
use crate::store::{Store, StoreError};

/// Publishes a version as the newest one, as [`Store::publish`] does. With keys it is sealed.
///
/// # Errors
/// Nothing was published: also if it names a secret and there is no key file, or if the key file is that of another database.
pub async fn publish(store: &Store, publication: &Publication<'_>) -> Result<Published, StoreError> {
    admit(store, publication).await?;
    store.publish(publication).await
}

/// As [`publish()`], but only over the version that its author has seen, as [`Store::publish_over`] does.
///
/// # Errors
/// As [`publish()`].
pub async fn publish_over(
    store: &Store,
    publication: &Publication<'_>,
    shown: Option<i32>,
) -> Result<Option<Published>, StoreError> {
    admit(store, publication).await?;
    store.publish_over(publication, shown).await
}

async fn admit(store: &Store, publication: &Publication<'_>) -> Result<(), StoreError> {
    if let Some(keys) = store.keys() {
        return keys::admit(store, keys).await;
    }
    match secrets::named(publication.spec).into_iter().next() {
        Some(name) => Err(NotPublished::NamesASecret(name).into()),
        None => Ok(()),
    }
}
