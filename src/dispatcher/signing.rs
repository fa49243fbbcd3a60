//! Opens the keys that sign requests, and keeps them opened.
//!
//! A claim says for each delivery which key is the current one of its agent, if its requests are signed: so what is claimed after a
//! change of signing was committed heeds it. A key never changes, so keys are kept by their ids, and read once; with a key that has
//! been replaced and still signs they are read again at its end. Agents whose requests are not signed cost nothing here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;
use uuid::Uuid;

use super::blocked::OnceAMinute;
use super::kept::Kept;
use crate::domain::chain::chain;
use crate::domain::claim::{Claimed, ClaimedSigning};
use crate::domain::secret::Absence;
use crate::domain::signature::MAX_KEYS;
use crate::store::StoreError;
use crate::store::session::Session;
use crate::store::signing::LoadedKey;
use crate::vault::{KeyOwner, Keyring, Signer, SigningKey, SigningKeys};

/// How many agents keep their keys opened at most, each [`MAX_KEYS`] of less than 1 KiB. The least recently used leaves first.
const CAPACITY: usize = 4_096;
/// Of how many agents one statement reads the keys: each has [`MAX_KEYS`] of a few hundred bytes.
const PORTION: usize = 256;
/// How long it is remembered that keys cannot be opened. They may be encrypted anew with a key that the dispatcher has.
const UNOPENED: Duration = Duration::from_secs(5);

/// The keys of an agent, or why they cannot be opened.
type Opened = Result<Arc<SigningKeys>, Absence>;

/// How a claimed delivery is signed.
#[derive(Clone, Debug)]
pub(super) enum Signing {
    /// It is not.
    Unsigned,
    /// By this signer, with this `webhook-id`.
    Signed(Signer, Uuid),
    /// It is to be signed, and cannot be. It must not be sent.
    Unopened(Absence),
    /// The key that its claim found is gone. It must not be sent, and the next claim says how it is signed.
    Outdated,
}

/// The keys of one claim.
pub(super) struct Signers {
    opened: HashMap<Uuid, Opened>,
    known_at: Instant,
}

impl Signers {
    /// How a delivery of this claim is signed.
    pub(super) fn signing(&self, claimed: &Claimed) -> Signing {
        let Some(ClaimedSigning { key, at }) = claimed.signing else { return Signing::Unsigned };
        match self.opened.get(&key) {
            Some(Ok(keys)) => Signing::Signed(Signer::new(keys.clone(), at, self.known_at), claimed.message_id),
            Some(Err(absence)) => Signing::Unopened(*absence),
            None => Signing::Outdated,
        }
    }
}

/// The opened keys. They belong to the claimer alone, so they need no lock.
pub(super) struct SigningCache {
    keyring: Option<Arc<Keyring>>,
    /// By the id of an agent's current key.
    kept: Kept<Uuid, Opened>,
    unopened: OnceAMinute,
}

impl SigningCache {
    pub(super) fn new(keyring: Option<Arc<Keyring>>) -> SigningCache {
        SigningCache { keyring, kept: Kept::at_most(CAPACITY), unopened: OnceAMinute::default() }
    }

    /// The keys of all agents whose current keys are these. If keys cannot be read or opened, only the deliveries that need them fail.
    ///
    /// # Errors
    /// Returns the database's error, unless it is about what is stored.
    pub(super) async fn signers(
        &mut self,
        session: &mut Session,
        current: impl Iterator<Item = Uuid>,
    ) -> Result<Signers, StoreError> {
        let known_at = Instant::now();
        let (mut opened, mut missing) = (HashMap::new(), Vec::new());
        for id in current.collect::<HashSet<_>>() {
            match self.kept.get(&id, known_at) {
                Some(keys) => drop(opened.insert(id, keys)),
                None => missing.push(id),
            }
        }
        for portion in missing.chunks(PORTION) {
            let read = self.read(session, portion).await?;
            let read_at = Instant::now();
            for (id, keys, left) in read {
                self.kept.put(id, keys.clone(), read_at, left);
                opened.insert(id, keys);
            }
        }
        self.report(opened.values().filter(|keys| keys.is_err()).count());
        Ok(Signers { opened, known_at })
    }

    /// Reads and opens the keys of these agents, and says for how long they are as they are. Agents whose current key is another one by
    /// now are left out.
    async fn read(
        &self,
        session: &mut Session,
        current: &[Uuid],
    ) -> Result<Vec<(Uuid, Opened, Option<Duration>)>, StoreError> {
        let mut read = Vec::with_capacity(current.len());
        let loaded = match session.load_signing_keys(current).await {
            // One of them is at fault. Each is read alone, so that the others do not fail for it.
            Err(error) if error.is_about_what_is_stored() => {
                let mut loaded = Vec::new();
                for id in current {
                    match session.load_signing_keys(&[*id]).await {
                        Err(error) if error.is_about_what_is_stored() => {
                            warn!(error = %chain(&error), "a signing key cannot be read");
                            read.push((*id, Err(Absence::Damaged), Some(UNOPENED)));
                        }
                        alone => loaded.extend(alone?),
                    }
                }
                loaded
            }
            together => together?,
        };
        for of_one in loaded.chunk_by(|one, next| one.current == next.current) {
            let opened: Opened = of_one
                .iter()
                .take(MAX_KEYS)
                .map(|one| self.open(one))
                .collect::<Result<Vec<_>, _>>()
                .map(|keys| Arc::new(SigningKeys::new(keys)));
            let left = match &opened {
                Ok(_) => of_one.iter().filter_map(|one| one.left).min(),
                Err(_) => Some(UNOPENED),
            };
            read.push((of_one[0].current, opened, left));
        }
        Ok(read)
    }

    fn open(&self, LoadedKey { key, .. }: &LoadedKey) -> Result<Arc<SigningKey>, Absence> {
        let keyring = self.keyring.as_ref().ok_or(Absence::NoKey)?;
        keyring.open_signing_key(KeyOwner { agent: &key.agent, id: key.id }, &key.scheme, &key.sealed).map(Arc::new)
    }

    fn report(&mut self, unopened: usize) {
        if let Some(count) = self.unopened.due(unopened, Instant::now()) {
            warn!(
                count,
                "agents have signing keys that cannot be opened; their deliveries fail, and nothing is sent unsigned. Is --key-file \
                 what it should be? See `postcall history --error-kind render`"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::action::Method;
    use crate::domain::claim::{ClaimToken, Payload, VersionKey};
    use crate::domain::request::Request;
    use crate::domain::signature::Scheme;
    use crate::vault::new_key_line;

    fn claimed(key: Option<Uuid>) -> Claimed {
        let at = DateTime::from_timestamp(1_700_000_000, 900_000_000).unwrap();
        Claimed {
            token: ClaimToken::new(Uuid::nil(), Uuid::nil()),
            message_id: Uuid::max(),
            version: VersionKey { action_id: 1, version: 1 },
            enabled: true,
            waited: Duration::ZERO,
            payload: Payload::Gone,
            signing: key.map(|key| ClaimedSigning { key, at }),
        }
    }

    #[test]
    fn what_is_to_be_signed_is_unsigned_in_no_case() {
        let [known, closed, gone] = [1, 2, 3].map(Uuid::from_u128);
        let keys = Arc::new(SigningKeys::new(Vec::new()));
        let opened = HashMap::from([(known, Ok(keys)), (closed, Err(Absence::NoKey))]);
        let signers = Signers { opened, known_at: Instant::now() };
        assert!(matches!(signers.signing(&claimed(None)), Signing::Unsigned));
        assert!(matches!(signers.signing(&claimed(Some(known))), Signing::Signed(..)));
        assert!(matches!(signers.signing(&claimed(Some(closed))), Signing::Unopened(Absence::NoKey)));
        assert!(matches!(signers.signing(&claimed(Some(gone))), Signing::Outdated));
    }

    #[test]
    fn the_time_of_sending_is_that_of_the_claim_and_what_has_passed_since() {
        let keyring = Keyring::parse(&new_key_line().unwrap()).unwrap();
        let owner = KeyOwner { agent: "a", id: Uuid::nil() };
        let new = keyring.new_signing_key(owner, Scheme::Symmetric).unwrap();
        let key = keyring.open_signing_key(owner, Scheme::Symmetric.as_str(), &new.sealed).unwrap();
        let keys = Arc::new(SigningKeys::new(vec![Arc::new(key)]));
        let ago = Instant::now().checked_sub(Duration::from_millis(30_200)).unwrap();
        let signers = Signers { opened: HashMap::from([(Uuid::nil(), Ok(keys))]), known_at: ago };
        let Signing::Signed(signer, id) = signers.signing(&claimed(Some(Uuid::nil()))) else { panic!("it is signed") };
        let mut request = Request {
            method: Method::Get,
            url: "https://h/".to_owned(),
            headers: vec![],
            body: None,
            timeout_ms: 1,
            unresolved: vec![],
            client_certificate: None,
        };
        signer.sign(&mut request, id);
        assert_eq!(request.headers[0], ("webhook-timestamp".to_owned(), "1700000031".to_owned()));
        assert!(request.headers[1].1.starts_with("v1,"));
    }
}
