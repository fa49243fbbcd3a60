//! Which keys of operators are in use, so that nothing is encrypted with a key that nobody else has.

use crate::domain::sealed_version::OperatorKeys;
use crate::store::{Store, StoreError};

/// Whether something may be encrypted with these keys: not if none of them has encrypted anything in this database, although something
/// is encrypted there. Then they are probably those of another database, and no dispatcher could open it.
///
/// # Errors
/// [`StoreError::OtherKeys`], or the database's.
pub async fn admit(store: &Store, keys: &dyn OperatorKeys) -> Result<(), StoreError> {
    let ids = keys.ids();
    match store.is_encrypted_with(&ids).await? {
        Some(false) => Err(StoreError::OtherKeys(ids)),
        Some(true) | None => Ok(()),
    }
}
