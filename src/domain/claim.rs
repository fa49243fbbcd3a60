//! The phases of a claimed delivery, as types: [`Claimed`] holds the right to send, and [`ClaimToken`] the right to
//! finish. The next step uses each of them up. So a delivery that was not claimed cannot be finished, and no delivery
//! can be finished twice.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::action::Method;
use super::body_digest::{BodyDigest, KeyedDigest};
use super::delivery::{Ending, Outcome, Timing};

/// One published version of one action. It is the key under which compiled templates are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionKey {
    /// The action's id.
    pub action_id: i64,
    /// Its version, from 1.
    pub version: i32,
}

/// A delivery whose claim is committed (arrow `claim`). Only the holder of this value may send the delivery, once.
#[derive(Debug)]
pub struct Claimed {
    /// The right to finish it.
    pub token: ClaimToken,
    /// What the receiver sees as `webhook-id`; a replay (arrow `replay`) carries that of the first delivery.
    pub message_id: Uuid,
    /// The version to send.
    pub version: VersionKey,
    /// Whether the action was still enabled when it was claimed.
    pub enabled: bool,
    /// How long it waited: from its creation to its claim, by the database's clock.
    pub waited: Duration,
    /// The call, or why it is missing.
    pub payload: Payload,
    /// The key with which the requests of its agent are signed; `None` if they are not.
    pub signing: Option<ClaimedSigning>,
}

/// How the requests of an agent were signed when one of them was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedSigning {
    /// The agent's current key.
    pub key: Uuid,
    /// When that was so, by the database's clock.
    pub at: DateTime<Utc>,
}

/// The call of a claimed delivery.
#[derive(PartialEq, Eq)]
pub enum Payload {
    /// Its text, as the platform wrote it.
    Text(String),
    /// It is no longer in the outbox.
    Gone,
    /// Its text has this many bytes, which is more than the limit. It was not fetched.
    TooLarge(u64),
    /// It is in the outbox, but the database cannot return it as Unicode text.
    Unreadable,
}

/// How long it is. What it holds is personal.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Payload::Gone => f.write_str("Gone"),
            Payload::TooLarge(bytes) => write!(f, "TooLarge({bytes})"),
            Payload::Unreadable => f.write_str("Unreadable"),
        }
    }
}

impl Payload {
    /// Bytes of the text; 0 if it was not fetched.
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
    /// The right to finish `delivery_id` that the claim `claim` gives.
    pub fn new(delivery_id: Uuid, claim: Uuid) -> ClaimToken {
        ClaimToken { delivery_id, claim }
    }

    /// The delivery that can be finished with it.
    pub fn delivery_id(&self) -> Uuid {
        self.delivery_id
    }

    /// The claim that gave this right.
    pub fn claim(&self) -> Uuid {
        self.claim
    }

    /// Uses the claim token up: the delivery goes into history with an outcome, or back to waiting if nothing was sent.
    pub fn complete(self, ending: Ending, record: AttemptRecord) -> Completion {
        match ending {
            Ending::Final(outcome) => {
                Completion::Finished(Finished { token: self, outcome, record, texts: Texts::Kept })
            }
            Ending::Unsent => Completion::Unsent(self),
        }
    }
}

/// What to do with a claimed delivery after its attempt.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every value is the large one; a box would cost each an allocation"
)]
pub enum Completion {
    /// It goes into history (arrow `finish`).
    Finished(Finished),
    /// It goes back to waiting (arrow `release`).
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
    /// What is known after the attempt.
    pub outcome: Outcome,
    /// What else history records.
    pub record: AttemptRecord,
    /// Whether its texts are recorded.
    pub texts: Texts,
}

/// Whether the texts of an outcome are recorded with it. State, error kind, response code, times and digests are always
/// recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// They are recorded, within the limits of [`super::kept`].
    Kept,
    /// The database refused the outcome with its texts. It is recorded without the call's provider id and the names of
    /// unresolved placeholders, and with fixed texts in place of the URL and the detail.
    Refused,
}

/// What history records beside the outcome. Both parts are absent if no request was made.
#[derive(Debug, Default)]
pub struct AttemptRecord {
    /// What was sent, or was about to be.
    pub sent: Option<SentRequest>,
    /// The times within the attempt; `None` if no attempt was made.
    pub timing: Option<Timing>,
}

/// What history keeps of a request.
#[derive(Debug)]
pub struct SentRequest {
    /// The request's method.
    pub method: Method,
    /// What history keeps of the URL: see [`super::mask::recorded_url`].
    pub url: String,
    /// Bytes of the body, if there was one.
    pub body_bytes: Option<usize>,
    /// The digest of the body, if there was one.
    pub body_digest: Option<BodyDigest>,
    /// The digest of its head, with each secret in it masked; `None` without a key. Whoever reads a plain one can try what the URL was.
    pub head_digest: Option<KeyedDigest>,
    /// Placeholders that found no value in the call.
    pub unresolved: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_completed_for_its_own_delivery_however_it_ends() {
        let (delivery, claim) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for ending in [Ending::Final(Outcome::Skipped), Ending::Unsent] {
            let token = ClaimToken::new(delivery, claim);
            assert_eq!((token.delivery_id(), token.claim()), (delivery, claim));
            assert_eq!(token.complete(ending, AttemptRecord::default()).delivery_id(), delivery);
        }
    }

    #[test]
    fn a_payload_has_the_bytes_that_were_fetched() {
        let text = Payload::Text("é€".to_owned());
        let payloads = [text, Payload::TooLarge(9), Payload::Gone, Payload::Unreadable];
        assert_eq!(payloads.map(|payload| payload.bytes()), [5, 0, 0, 0]);
    }
}
