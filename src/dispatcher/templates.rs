//! A cache of compiled templates, by version. A version never changes, so the cache is never stale.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use lru::LruCache;
use tracing::warn;

use super::blocked::OnceAMinute;
use crate::domain::action::ActionSpec;
use crate::domain::chain::chain;
use crate::domain::claim::VersionKey;
use crate::domain::problem::{Code, Field, Problem};
use crate::domain::sealed_version::{OperatorKeys, Unopened};
use crate::render::CompiledAction;
use crate::store::StoreError;
use crate::store::actions::LoadedVersion;
use crate::store::session::Session;
use crate::vault::Keyring;

/// The compiled templates of one version, shared by the attempts that use them.
pub(super) type Template = Arc<Compiled>;

/// How many bytes of template text are kept in compiled form at most. The least recently used version leaves first. The
/// compiled form takes a few times the size of the text.
const CAPACITY_BYTES: usize = 16 * 1024 * 1024;
/// How many versions one statement loads. Each has 192 KiB of text at most. What one statement has loaded is kept, so
/// over a slow link every claim makes progress.
const PORTION: usize = 8;
/// The weight of a version without its text, in bytes.
const WEIGHT_OF_A_VERSION: usize = 1024;

/// A compiled version, or the problem because of which there is none: the version was published by a program with laxer
/// rules, or it cannot be loaded.
pub(super) struct Compiled {
    action: Result<CompiledAction, Problem>,
}

impl Compiled {
    fn new(spec: &ActionSpec) -> Compiled {
        Compiled { action: CompiledAction::compile(spec).map_err(first) }
    }

    /// Stands for a version that cannot be loaded.
    pub(super) fn unloadable() -> Compiled {
        Compiled { action: Err(unloadable()) }
    }

    /// Stands for a sealed version that cannot be opened.
    fn unopened(unopened: &Unopened) -> Compiled {
        Compiled { action: Err(Problem::new(Code::NoSecret, Field::Action, unopened.why())) }
    }

    /// The compiled action, or the problem because of which there is none.
    pub(super) fn action(&self) -> Result<&CompiledAction, Problem> {
        self.action.as_ref().map_err(Problem::clone)
    }

    /// The names of the secrets that the templates need.
    pub(super) fn secrets(&self) -> Vec<&str> {
        self.action.as_ref().map(CompiledAction::secrets).unwrap_or_default()
    }

    /// The name of the secret that holds the client's certificate.
    pub(super) fn client_certificate(&self) -> Option<&str> {
        self.action.as_ref().ok().and_then(CompiledAction::client_certificate)
    }

    /// How many bytes the body has at most for a call of `call_bytes` bytes.
    pub(super) fn body_bound(&self, call_bytes: usize) -> usize {
        self.action.as_ref().map_or(0, |action| action.body_bound(call_bytes))
    }
}

/// The cache. It belongs to the claimer alone, so it needs no lock.
pub(super) struct Templates {
    kept: LruCache<VersionKey, (Template, usize)>,
    bytes: usize,
    /// What opens sealed versions.
    keys: Option<Arc<Keyring>>,
    unopened: OnceAMinute,
}

impl Templates {
    pub(super) fn new(keys: Option<Arc<Keyring>>) -> Templates {
        Templates { kept: LruCache::unbounded(), bytes: 0, keys, unopened: OnceAMinute::default() }
    }

    /// The templates of all `keys`. Versions that are not kept yet are loaded, [`PORTION`] of them in one round trip.
    /// If a version cannot be loaded, only the deliveries that need it fail.
    ///
    /// # Errors
    /// Returns the database's error, unless it is about what a version holds.
    pub(super) async fn get(
        &mut self,
        session: &mut Session,
        keys: impl Iterator<Item = VersionKey>,
    ) -> Result<HashMap<VersionKey, Template>, StoreError> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for key in keys.collect::<HashSet<_>>() {
            match self.kept.get(&key) {
                Some((template, _)) => drop(found.insert(key, template.clone())),
                None => missing.push(key),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let keys = self.keys.clone();
        let opener = keys.as_deref().map(|keys| keys as &dyn OperatorKeys);
        for portion in missing.chunks(PORTION) {
            let loaded = match session.load_versions(portion, opener).await {
                Err(error) if error.is_about_what_is_stored() => load_one_by_one(session, portion, opener).await?,
                loaded => loaded?,
            };
            for (key, spec) in loaded {
                found.insert(key, self.compiled(key, spec));
            }
        }
        for key in missing {
            found.entry(key).or_insert_with(|| Arc::new(Compiled::unloadable()));
        }
        Ok(found)
    }

    /// The compiled version. What cannot be opened is not kept: its key may be encrypted anew at any moment.
    fn compiled(&mut self, key: VersionKey, spec: Result<ActionSpec, Unopened>) -> Template {
        let count = self.unopened.due(usize::from(spec.is_err()), Instant::now());
        if let Some(count) = count {
            warn!(
                count,
                "actions have sealed templates that cannot be opened; their deliveries fail. Is --key-file what it should be? See \
                 `postcall history --error-kind render`"
            );
        }
        match spec {
            Ok(spec) => {
                let template: Template = Arc::new(Compiled::new(&spec));
                self.keep(key, template.clone(), weight(&spec));
                template
            }
            Err(unopened) => Arc::new(Compiled::unopened(&unopened)),
        }
    }

    fn keep(&mut self, key: VersionKey, template: Template, weight: usize) {
        self.kept.put(key, (template, weight));
        self.bytes += weight;
        while self.bytes > CAPACITY_BYTES {
            let Some((_, (_, weight))) = self.kept.pop_lru() else { break };
            self.bytes -= weight;
        }
    }
}

/// Loads each version alone, and returns those that the database can return.
async fn load_one_by_one(
    session: &mut Session,
    keys: &[VersionKey],
    opener: Option<&dyn OperatorKeys>,
) -> Result<Vec<LoadedVersion>, StoreError> {
    let mut loaded = Vec::with_capacity(keys.len());
    for key in keys {
        match session.load_versions(&[*key], opener).await {
            Err(error) if error.is_about_what_is_stored() => {
                warn!(action.id = key.action_id, action.version = key.version, error = %chain(&error), "a version cannot be loaded");
            }
            one => loaded.extend(one?),
        }
    }
    Ok(loaded)
}

fn weight(spec: &ActionSpec) -> usize {
    let texts = [Some(&spec.url), spec.headers.as_ref(), spec.body.as_ref()];
    WEIGHT_OF_A_VERSION + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

/// The first of the problems. The others appear once it is corrected.
fn first(problems: Vec<Problem>) -> Problem {
    problems.into_iter().next().unwrap_or_else(unloadable)
}

fn unloadable() -> Problem {
    Problem::new(Code::BadAction, Field::Action, "this version of the action cannot be loaded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Method;

    #[test]
    fn what_is_kept_is_bounded_by_the_bytes_of_the_templates() {
        let body = Some(format!("\"{}\"", "x".repeat(60_000)));
        let spec = ActionSpec {
            method: Method::Post,
            url: "https://h/".to_owned(),
            timeout_ms: 100,
            headers: None,
            body,
            client_certificate: None,
        };
        let (mut templates, template) = (Templates::new(None), Arc::new(Compiled::new(&spec)));
        for action_id in 0..1_000 {
            templates.keep(VersionKey { action_id, version: 1 }, template.clone(), weight(&spec));
        }
        assert!(templates.bytes <= CAPACITY_BYTES);
        assert!((200..300).contains(&templates.kept.len()), "{}", templates.kept.len());
        assert!(templates.kept.contains(&VersionKey { action_id: 999, version: 1 }));
        assert!(template.body_bound(100) >= 60_000);

        let mut full = Templates::new(None);
        for (action_id, weight, expected) in [(1, CAPACITY_BYTES, 1), (2, 1, 1), (3, 1, 2)] {
            full.keep(VersionKey { action_id, version: 1 }, template.clone(), weight);
            assert_eq!(full.kept.len(), expected, "after {action_id}");
        }
    }
}
