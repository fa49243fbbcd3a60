//! The phases of a claimed delivery, as types: [`Claimed`] holds the right to send, [`ClaimToken`] the right to finish, and
//! each is used up by the next step. A delivery that nobody claimed cannot be finished, and none can be finished twice.

use uuid::Uuid;

use super::action::Method;
use super::delivery::{Ending, Outcome, Timing};

/// One published version of one action: what compiled templates are cached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionKey {
    /// The action.
    pub action_id: i64,
    /// Its version, from 1.
    pub version: i32,
}

/// A delivery whose claim is committed: whoever has this value, and nobody else, may send it, once.
#[derive(Debug)]
pub struct Claimed {
    /// The right to finish it.
    pub token: ClaimToken,
    /// What the receiver sees as `webhook-id`; a replay carries that of the first delivery.
    pub message_id: Uuid,
    /// The version to send.
    pub version: VersionKey,
    /// Whether the action was still enabled when it was claimed.
    pub enabled: bool,
    /// The call, as far as it could be had.
    pub payload: Payload,
}

/// The call of a claimed delivery.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload {
    /// Its text, as the platform wrote it.
    Text(String),
    /// It is gone from the outbox.
    Gone,
    /// Its text has so many bytes, which are more than were asked for; it was not fetched.
    TooLarge(u64),
    /// It is there, and the database cannot give it, or not as Unicode text.
    Unreadable,
}

impl Payload {
    /// Bytes of the text, as far as it was fetched.
    pub fn bytes(&self) -> usize {
        match self {
            Payload::Text(text) => text.len(),
            Payload::Gone | Payload::TooLarge(_) | Payload::Unreadable => 0,
        }
    }
}

/// The right to finish one claimed delivery. Not `Clone`: finishing uses it up.
#[derive(Debug, PartialEq, Eq)]
pub struct ClaimToken {
    delivery_id: Uuid,
    claim: Uuid,
}

impl ClaimToken {
    /// The right that the claim `claim` gives on `delivery_id`.
    pub fn new(delivery_id: Uuid, claim: Uuid) -> ClaimToken {
        ClaimToken { delivery_id, claim }
    }

    /// The delivery it is on.
    pub fn delivery_id(&self) -> Uuid {
        self.delivery_id
    }

    /// The claim that gave it.
    pub fn claim(&self) -> Uuid {
        self.claim
    }

    /// Uses the token up: into history by an outcome, or back to waiting if nothing was sent.
    pub fn complete(self, ending: Ending, record: AttemptRecord) -> Completion {
        match ending {
            Ending::Final(outcome) => {
                Completion::Finished(Finished { token: self, outcome, record, texts: Texts::Kept })
            }
            Ending::Unsent => Completion::Unsent(self),
        }
    }
}

/// What becomes of a claimed delivery.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every value is the large one; a box would cost each an allocation"
)]
pub enum Completion {
    /// It goes into history.
    Finished(Finished),
    /// It goes back to waiting.
    Unsent(ClaimToken),
}

impl Completion {
    /// The delivery it is about.
    pub fn delivery_id(&self) -> Uuid {
        match self {
            Completion::Finished(finished) => finished.token.delivery_id,
            Completion::Unsent(token) => token.delivery_id,
        }
    }
}

/// A delivery with its outcome, to be recorded.
#[derive(Debug)]
pub struct Finished {
    /// The right to record it.
    pub token: ClaimToken,
    /// What is known.
    pub outcome: Outcome,
    /// What else history tells.
    pub record: AttemptRecord,
    /// Whether its texts are recorded.
    pub texts: Texts,
}

/// Whether the texts of an outcome are recorded with it. State, kind, code, times and digests always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// As [`super::kept`] says.
    Kept,
    /// The database refused the outcome with them: without the call's provider id and the names of placeholders that
    /// found nothing, and with stand-ins for the URL and the detail.
    Refused,
}

/// What history tells beside the outcome; all of it is absent for a delivery that got nowhere.
#[derive(Debug, Default)]
pub struct AttemptRecord {
    /// What was sent, or was about to be.
    pub sent: Option<Sent>,
    /// When what happened; `None` if no attempt was made.
    pub timing: Option<Timing>,
}

/// What history keeps of a request.
#[derive(Debug)]
pub struct Sent {
    /// The method.
    pub method: Method,
    /// The rendered URL, masked by [`super::mask::url`].
    pub url: String,
    /// Bytes of the body, if there was one.
    pub body_bytes: Option<usize>,
    /// SHA-256 of the body, if there was one.
    pub body_sha256: Option<[u8; 32]>,
    /// Placeholders that found nothing.
    pub unresolved: Vec<String>,
}
