//! The call with which an action is tried out: the sample, a text that a person gives, or a past call of the agent.

use std::borrow::Cow;
use std::fmt;

use uuid::Uuid;

use crate::domain::action_test::CallSource;
use crate::domain::call::MAX_CALL_BYTES;
use crate::domain::documented::SAMPLE;
use crate::store::{Store, StoreError};

/// Which call.
#[derive(Clone, PartialEq, Eq)]
pub enum ChosenCall {
    /// The documented sample, which is a part of the program.
    Sample,
    /// A text that a person gives: one JSON object.
    Text(String),
    /// A past call of the agent, by its id in the outbox.
    Past(Uuid),
}

/// Without the text of the call.
impl fmt::Debug for ChosenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChosenCall::Sample => f.write_str("Sample"),
            ChosenCall::Text(text) => write!(f, "Text({} bytes)", text.len()),
            ChosenCall::Past(call_id) => write!(f, "Past({call_id})"),
        }
    }
}

/// Why there is no text of the call.
#[derive(Debug, thiserror::Error)]
pub enum NoCall {
    /// There is none with that id, or it has been pruned.
    #[error("there is no call {0} in the outbox, or no longer: `postcall calls` lists those that are there")]
    Unknown(Uuid),
    /// It is the call of another agent, whose contents are none of this one's.
    #[error("call {0} is one of another agent: choose a call of this agent (`postcall calls --agent AGENT`)")]
    OfAnotherAgent(Uuid),
    /// It is larger than what is read for this.
    #[error("call {call_id} has {bytes} bytes, more than the {MAX_CALL_BYTES} that are read: choose a smaller one")]
    TooLarge {
        /// The call.
        call_id: Uuid,
        /// Its size.
        bytes: i64,
    },
    /// The database user may not read what is in calls.
    #[error(
        "these rights do not allow reading calls: use the sample, a call file, or a database user that also has the role \
         postcall_dispatcher"
    )]
    Forbidden,
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ChosenCall {
    /// Where it comes from, as tests record it.
    pub fn source(&self) -> CallSource {
        match self {
            ChosenCall::Sample => CallSource::Sample,
            ChosenCall::Text(_) => CallSource::File,
            ChosenCall::Past(_) => CallSource::Outbox,
        }
    }

    /// The id of the past call, if it is one.
    pub fn call_id(&self) -> Option<Uuid> {
        match self {
            ChosenCall::Past(call_id) => Some(*call_id),
            ChosenCall::Sample | ChosenCall::Text(_) => None,
        }
    }

    /// The text of the call. A past call must be one of `agent`, and have at most [`MAX_CALL_BYTES`].
    ///
    /// # Errors
    /// Why there is none.
    pub async fn text(&self, store: &Store, agent: &str) -> Result<Cow<'_, str>, NoCall> {
        let call_id = match self {
            ChosenCall::Sample => return Ok(Cow::Borrowed(SAMPLE)),
            ChosenCall::Text(text) => return Ok(Cow::Borrowed(text)),
            ChosenCall::Past(call_id) => *call_id,
        };
        let call = store.call(call_id).await?.ok_or(NoCall::Unknown(call_id))?;
        if call.agent != agent {
            return Err(NoCall::OfAnotherAgent(call_id));
        }
        // A call from before its size was kept has none. It is read, as it is to be shown.
        let bytes = call.call_bytes.map_or(0, i64::from);
        if usize::try_from(bytes).is_ok_and(|bytes| bytes > MAX_CALL_BYTES) {
            return Err(NoCall::TooLarge { call_id, bytes });
        }
        match store.payload(call_id).await {
            Ok(payload) => payload.map(Cow::Owned).ok_or(NoCall::Unknown(call_id)),
            Err(error) if error.is_forbidden() => Err(NoCall::Forbidden),
            Err(error) => Err(error.into()),
        }
    }
}
