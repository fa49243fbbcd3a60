//! Opens the secrets that the templates of a claim name, and keeps them for a few seconds.
//!
//! Only versions whose templates name a secret cost anything here. A change of a secret takes effect after [`FRESH`] at the
//! latest, whoever made it and however: nothing has to be told to a dispatcher.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::blocked::OnceAMinute;
use super::kept::Kept;
use super::signing::Signing;
use super::templates::Template;
use crate::domain::chain::chain;
use crate::domain::claim::VersionKey;
use crate::domain::secret::{Absence, MAX_BYTES, MAX_CERTIFICATE_BYTES, MAX_NAMED, SecretValue, Secrets};
use crate::store::StoreError;
use crate::store::secrets::NamedSecret;
use crate::store::session::Session;
use crate::vault::{DigestKey, Keyring, Owner};

/// How long opened secrets are used before they are read again.
const FRESH: Duration = Duration::from_secs(5);
/// How many versions keep their secrets at most, each [`MAX_NAMED`] of [`MAX_BYTES`] at most, and a certificate. The least recently used leaves
/// first, and an opened secret that is not used is gone with the next one that needs its place.
const CAPACITY: usize = 64 * 1024 * 1024 / (MAX_NAMED * MAX_BYTES + MAX_CERTIFICATE_BYTES);
/// For how many versions one statement reads secrets: 2 MiB at most.
const PORTION: usize = 8;

/// The templates of a version, and the secrets that they name.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) template: Template,
    pub(super) secrets: Arc<Secrets>,
    /// How the delivery is signed; [`Signing::Unsigned`] for a version that stands for no delivery yet.
    pub(super) signing: Signing,
    /// Makes the digests that history keeps of the request; without it, that of the body is a SHA-256, and there is none of the head.
    pub(super) digests: Option<Arc<DigestKey>>,
}

/// The opened secrets. They belong to the claimer alone, so they need no lock.
pub(super) struct SecretCache {
    keys: Option<Arc<Keyring>>,
    digests: Option<Arc<DigestKey>>,
    kept: Kept<VersionKey, Arc<Secrets>>,
    none: Arc<Secrets>,
    unopened: OnceAMinute,
}

impl SecretCache {
    pub(super) fn new(keys: Option<Arc<Keyring>>) -> SecretCache {
        SecretCache {
            digests: keys.as_ref().map(|keys| keys.digest_key()),
            keys,
            kept: Kept::at_most(CAPACITY),
            none: Arc::new(Secrets::NONE),
            unopened: OnceAMinute::default(),
        }
    }

    /// Adds its secrets to each of these templates. If a secret cannot be read or opened, only the deliveries that need it
    /// fail.
    ///
    /// # Errors
    /// Returns the database's error, unless it is about what is stored.
    pub(super) async fn complete(
        &mut self,
        session: &mut Session,
        templates: HashMap<VersionKey, Template>,
    ) -> Result<HashMap<VersionKey, Ready>, StoreError> {
        let mut ready = HashMap::with_capacity(templates.len());
        let (mut missing, now) = (Vec::new(), Instant::now());
        for (key, template) in templates {
            let names_none = template.secrets().is_empty();
            let kept = if names_none { Some(self.none.clone()) } else { self.kept.get(&key, now) };
            match kept {
                Some(secrets) => drop(ready.insert(key, self.ready(template, secrets))),
                None => missing.push((key, template)),
            }
        }
        for portion in missing.chunks(PORTION) {
            let read = self.read(session, portion).await?;
            let read_at = Instant::now();
            for ((key, template), secrets) in portion.iter().zip(read) {
                let secrets = Arc::new(secrets);
                self.kept.put(*key, secrets.clone(), read_at, Some(FRESH));
                ready.insert(*key, self.ready(template.clone(), secrets));
            }
        }
        Ok(ready)
    }

    fn ready(&self, template: Template, secrets: Arc<Secrets>) -> Ready {
        Ready { template, secrets, signing: Signing::Unsigned, digests: self.digests.clone() }
    }

    /// Reads and opens the secrets of each of these versions, in their order.
    async fn read(
        &mut self,
        session: &mut Session,
        versions: &[(VersionKey, Template)],
    ) -> Result<Vec<Secrets>, StoreError> {
        let mut damaged = Vec::new();
        let loaded = match load(session, versions).await {
            // One of the versions is at fault. Each is read alone, so that the others do not fail for it.
            Err(error) if error.is_about_what_is_stored() => {
                let mut loaded = Vec::new();
                for version in versions {
                    match load(session, std::slice::from_ref(version)).await {
                        Err(error) if error.is_about_what_is_stored() => {
                            warn!(error = %chain(&error), "secrets cannot be read");
                            damaged.push(version.0);
                        }
                        alone => loaded.extend(alone?),
                    }
                }
                loaded
            }
            together => together?,
        };
        let otherwise = |key| if damaged.contains(key) { Absence::Damaged } else { Absence::NotSet };
        let secrets: Vec<Secrets> = versions.iter().map(|one| self.opened(one, &loaded, otherwise(&one.0))).collect();
        let is_unopened = |secrets: &&Secrets| match secrets {
            Secrets::Masked => false,
            Secrets::Opened(all) => all.iter().any(|(_, one)| one.as_ref().is_err_and(|why| why.concerns_operator())),
        };
        let unopened = secrets.iter().filter(is_unopened).count();
        if let Some(count) = self.unopened.due(unopened, Instant::now()) {
            warn!(
                count,
                "actions have secrets that cannot be opened; their deliveries fail. Is --key-file what it should be? See \
                 `postcall history --error-kind render`"
            );
        }
        Ok(secrets)
    }

    fn opened(&self, version: &(VersionKey, Template), loaded: &[NamedSecret], otherwise: Absence) -> Secrets {
        let (key, template) = version;
        let open = |name: &str| {
            let found = loaded.iter().find(|one| one.action_id == key.action_id && one.name == name);
            let value = found.map_or(Err(otherwise), |one| self.open(one));
            // What no template can name is not kept, unless it is the certificate.
            value.and_then(|value| value.fitting(template.client_certificate() == Some(name)))
        };
        Secrets::Opened(template.secrets().into_iter().map(|name| (name.to_owned(), open(name))).collect())
    }

    fn open(&self, secret: &NamedSecret) -> Result<SecretValue, Absence> {
        let keys = self.keys.as_ref().ok_or(Absence::NoKey)?;
        keys.open(Owner { agent: &secret.agent, name: &secret.name }, &secret.sealed)
    }
}

/// Reads the secrets that these versions name, as they are stored.
async fn load(session: &mut Session, versions: &[(VersionKey, Template)]) -> Result<Vec<NamedSecret>, StoreError> {
    let named = |(key, template): &(VersionKey, Template)| {
        template.secrets().into_iter().map(|name| (key.action_id, name.to_owned())).collect::<Vec<_>>()
    };
    let wanted: Vec<(i64, String)> = versions.iter().flat_map(named).collect();
    let asked: Vec<(i64, &str)> = wanted.iter().map(|(action_id, name)| (*action_id, &**name)).collect();
    session.load_secrets(&asked).await
}
