//! What people did: who published, switched, paused, resumed, replayed, resolved and tested, in pages and as a whole.

use super::export::Record;
use crate::domain::act::{Act, ActKey};
use crate::domain::visible::visible;
use crate::store::acts::{ActFilter, ActRow, ActsFound};
use crate::store::{Store, StoreError};

impl Record for ActRow {
    const COLUMNS: &'static [&'static str] = &ActRow::COLUMNS;
}

/// The largest number of acts that a step through a whole result reads.
pub const STEP: usize = 500;

/// All acts that match, step by step, the newest first. What is done after the beginning does not come.
#[derive(Debug)]
pub struct WholeAudit {
    filter: ActFilter,
    after: Option<ActKey>,
    is_over: bool,
}

impl WholeAudit {
    /// The whole result, from the act behind `after` on.
    pub fn new(filter: ActFilter, after: Option<ActKey>) -> WholeAudit {
        WholeAudit { filter, after, is_over: false }
    }

    /// The next acts, at most [`STEP`]: possibly none, if many acts have to be looked at to find any; `None` after the last
    /// ones.
    ///
    /// # Errors
    /// Only those of the database.
    pub async fn step(&mut self, store: &Store) -> Result<Option<Vec<ActRow>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let ActsFound { acts, rest_after } = store.acts(&self.filter, self.after.as_ref(), STEP).await?;
        self.is_over = rest_after.is_none();
        self.after = rest_after;
        Ok(Some(acts))
    }
}

/// What something was done to, in words that go on after what was done: `version 3 of crm`, `host crm.example`.
pub fn object(row: &ActRow) -> String {
    let action = || row.action.as_deref().map_or_else(|| "an action that is not known".into(), visible);
    match row.act {
        Act::Published => format!("version {} of {}", row.version.unwrap_or_default(), action()),
        Act::Enabled | Act::Disabled => action().into_owned(),
        Act::Paused | Act::Resumed => match (&row.host, &row.action) {
            (Some(host), _) => format!("host {}", visible(host)),
            (None, Some(action)) => format!("action {}", visible(action)),
            (None, None) => "the whole agent".to_owned(),
        },
        Act::Replayed => match row.replayed_as {
            Some(replay) => format!("a delivery, as {replay}"),
            None => "a delivery".to_owned(),
        },
        Act::Resolved => {
            format!("a delivery as {}", row.resolved_as.map_or("?", |state| state.as_str()))
        }
        Act::Tested => {
            let end = row.test_state.map_or("?", |state| state.as_str());
            match row.version {
                Some(version) => format!("version {version} of {}: {end}", action()),
                None => format!("a file as {}: {end}", action()),
            }
        }
        Act::SigningEnabled | Act::SigningRotated | Act::SigningDisabled => "the whole agent".to_owned(),
    }
}

/// Who did it: the person in that person's own words, or the database user if nobody said; as the row has it, unescaped.
pub fn who(row: &ActRow) -> &str {
    row.person.as_deref().or(row.db_user.as_deref()).unwrap_or("not recorded")
}
