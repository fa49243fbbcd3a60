//! `postcall secret rekey`: encrypts everything that the database keeps encrypted with the first key of the key file, so that the other
//! keys of the file can go. It works in portions beside dispatchers and people; if it is stopped, the next run goes on.

use uuid::Uuid;

use super::{CliError, print_line};
use crate::domain::secret::{Absence, Sealed};
use crate::domain::visible::visible;
use crate::store::sealed_versions::StoredVersion;
use crate::store::secrets::Wrapped;
use crate::store::signing::StoredKey;
use crate::store::{Store, StoreError};
use crate::vault::{KeyOwner, Keyring, Owner};

/// How many of those that cannot be opened are named, of each kind.
const MOST_NAMED: usize = 20;
/// How many of them are encrypted between two lines of progress.
const BATCH: i64 = 100;

/// What is kept encrypted: all of it has a key of its own, which a key of the key file encrypts.
trait Encrypted: Sized {
    /// What several of them are called.
    const NAME: &'static str;
    /// The place of one of them among all; the default one is before the first.
    type Place: Default;

    /// Reads the next portion behind a place of those that are not encrypted with `key_id`.
    async fn next(store: &Store, key_id: &str, after: &Self::Place) -> Result<Vec<Self>, StoreError>;
    /// Its place.
    fn place(&self) -> Self::Place;
    /// Which one it is, and whose.
    fn described(&self) -> String;
    /// Encrypts its key with the first key, or says why it cannot be opened.
    fn encrypted_anew(&self, keys: &Keyring) -> Result<Sealed, Absence>;
    /// Stores that. Returns whether it was replaced: somebody may have changed or removed it in the meantime.
    async fn replace(&self, store: &Store, new: &Sealed) -> Result<bool, StoreError>;
}

/// What was done with all of one kind.
struct Done {
    name: &'static str,
    encrypted: usize,
    /// How many could not be opened.
    unopened: usize,
}

/// Encrypts everything with the first key, and prints what was done.
///
/// # Errors
/// Returns an error if something is left that needs another key, or if the database does not answer.
pub(super) async fn run(keys: &Keyring, store: &Store) -> Result<(), CliError> {
    eprintln!(
        "everything is encrypted with the key {} from now on: a dispatcher whose key file lacks it fails its deliveries",
        keys.first_id()
    );
    let keys_that_sign = all::<StoredKey>(keys, store).await?;
    let secrets = all::<Wrapped>(keys, store).await?;
    let versions = all::<StoredVersion<Sealed>>(keys, store).await?;
    let remaining = left::<Wrapped>(keys, store).await?
        + left::<StoredKey>(keys, store).await?
        + left::<StoredVersion<Sealed>>(keys, store).await?;
    let others = [&keys_that_sign, &versions].into_iter().filter(|done| done.encrypted > 0);
    let others: String = others.map(|done| format!(" and {} {}", done.encrypted, done.name)).collect();
    let done = format!("{} {}{others}", secrets.encrypted, secrets.name);
    if remaining == 0 {
        return print_line(&format!(
            "{done} are encrypted with the first key, and none is left: the other keys can go"
        ));
    }
    let unopened = secrets.unopened + keys_that_sign.unopened + versions.unopened;
    Err(CliError::Problem(format!(
        "{done} are encrypted with the first key; at least {remaining} are left. Keep the other keys. {}",
        match unopened {
            0 => "Run it again".to_owned(),
            some => format!("{some} cannot be opened (they are named above, {MOST_NAMED} of each kind at most)"),
        }
    )))
}

/// Encrypts all of one kind.
async fn all<E: Encrypted>(keys: &Keyring, store: &Store) -> Result<Done, CliError> {
    let mut done = Done { name: E::NAME, encrypted: 0, unopened: 0 };
    let mut after = E::Place::default();
    loop {
        let portion = E::next(store, keys.first_id(), &after).await?;
        let Some(last) = portion.last() else { return Ok(done) };
        after = last.place();
        for one in &portion {
            match one.encrypted_anew(keys) {
                Ok(sealed) => done.encrypted += usize::from(one.replace(store, &sealed).await?),
                Err(absence) => {
                    done.unopened += 1;
                    if done.unopened <= MOST_NAMED {
                        eprintln!("not opened: {} ({})", visible(&one.described()), why(absence));
                    }
                }
            }
        }
        let Done { name, encrypted, unopened } = &done;
        eprintln!("{encrypted} {name} encrypted with the first key, {unopened} could not be opened");
    }
}

/// Why something cannot be opened, whatever it is.
fn why(absence: Absence) -> &'static str {
    match absence {
        Absence::NotSet | Absence::NoKey | Absence::UnknownKey => "the key file lacks the key that it needs",
        Absence::Damaged | Absence::OnlyCertificate => "it was changed in the database",
    }
}

/// How many of one kind are left, of those of a portion.
async fn left<E: Encrypted>(keys: &Keyring, store: &Store) -> Result<usize, StoreError> {
    Ok(E::next(store, keys.first_id(), &E::Place::default()).await?.len())
}

impl Encrypted for Wrapped {
    const NAME: &'static str = "secrets";
    type Place = (String, String);

    async fn next(store: &Store, key_id: &str, (agent, name): &Self::Place) -> Result<Vec<Self>, StoreError> {
        store.secrets_to_rewrap(key_id, (agent, name), BATCH).await
    }

    fn place(&self) -> Self::Place {
        (self.agent.clone(), self.name.clone())
    }

    fn described(&self) -> String {
        format!("the secret {} of {}", self.name, self.agent)
    }

    fn encrypted_anew(&self, keys: &Keyring) -> Result<Sealed, Absence> {
        keys.rewrap(Owner { agent: &self.agent, name: &self.name }, &self.sealed)
    }

    // Who has set it in the meantime may have used another key: so the next run looks at it again.
    async fn replace(&self, store: &Store, new: &Sealed) -> Result<bool, StoreError> {
        store.rewrap_secret(self, new).await
    }
}

impl Encrypted for StoredKey {
    const NAME: &'static str = "signing keys";
    type Place = Uuid;

    async fn next(store: &Store, key_id: &str, after: &Uuid) -> Result<Vec<Self>, StoreError> {
        store.signing_keys_to_rewrap(key_id, *after, BATCH).await
    }

    fn place(&self) -> Uuid {
        self.id
    }

    fn described(&self) -> String {
        format!("the key {} that signs for {}", self.id, self.agent)
    }

    fn encrypted_anew(&self, keys: &Keyring) -> Result<Sealed, Absence> {
        keys.rewrap(KeyOwner { agent: &self.agent, id: self.id }, &self.sealed)
    }

    async fn replace(&self, store: &Store, new: &Sealed) -> Result<bool, StoreError> {
        store.rewrap_signing_key(self.id, new).await
    }
}

impl Encrypted for StoredVersion<Sealed> {
    const NAME: &'static str = "sealed versions of actions";
    type Place = (i64, i32);

    async fn next(store: &Store, key_id: &str, after: &Self::Place) -> Result<Vec<Self>, StoreError> {
        store.versions_to_rewrap(key_id, *after, BATCH).await
    }

    fn place(&self) -> Self::Place {
        (self.action_id, self.version)
    }

    fn described(&self) -> String {
        format!("version {} of the action {} of {}", self.version, self.name, self.agent)
    }

    fn encrypted_anew(&self, keys: &Keyring) -> Result<Sealed, Absence> {
        keys.rewrap_version(self.owner(), &self.content)
    }

    async fn replace(&self, store: &Store, new: &Sealed) -> Result<bool, StoreError> {
        store.rewrap_version(self, new).await
    }
}
