//! Compiled templates, kept by version. A version never changes, so what is kept is never stale.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::domain::claim::VersionKey;
use crate::domain::problem::{Code, Field, Problem};
use crate::render::CompiledAction;
use crate::store::StoreError;
use crate::store::session::Session;

/// A compiled version, or why it does not compile: published by a program whose rules were laxer.
pub(super) type Template = Arc<Result<CompiledAction, Problem>>;

/// Versions kept at most, the least recently used leaving first. A template of usual size takes a few kilobytes. Evaluated
/// when it is compiled, so the unwrap cannot fail at run time.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// The cache. It belongs to the claimer alone, so it needs no lock.
pub(super) struct Templates {
    kept: LruCache<VersionKey, Template>,
}

impl Templates {
    pub(super) fn new() -> Templates {
        Templates { kept: LruCache::new(CAPACITY) }
    }

    /// The templates of all `keys`; those that are not kept yet cost one round trip together.
    pub(super) async fn get(
        &mut self,
        session: &mut Session,
        keys: impl Iterator<Item = VersionKey>,
    ) -> Result<HashMap<VersionKey, Template>, StoreError> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for key in keys {
            match self.kept.get(&key) {
                Some(template) => drop(found.insert(key, template.clone())),
                None if !missing.contains(&key) => missing.push(key),
                None => {}
            }
        }
        if !missing.is_empty() {
            for (key, spec) in session.load_versions(&missing).await? {
                let template: Template = Arc::new(CompiledAction::compile(&spec).map_err(first));
                self.kept.put(key, template.clone());
                found.insert(key, template);
            }
        }
        Ok(found)
    }
}

/// The first of the problems; the others show once it is mended.
fn first(problems: Vec<Problem>) -> Problem {
    problems.into_iter().next().unwrap_or_else(unloadable)
}

/// What stands for a version that is not there.
pub(super) fn unloadable() -> Problem {
    Problem::new(Code::BadAction, Field::Action, "this version of the action cannot be loaded")
}
