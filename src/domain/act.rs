//! What people do, as the audit tells it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::closed_set::closed_set;

closed_set! {
    /// What a person did.
    pub enum Act {
        /// Published a version of an action.
        Published = "published",
        /// Enabled an action; a new action is enabled, or disabled, by its first version.
        Enabled = "enabled",
        /// Disabled an action.
        Disabled = "disabled",
        /// Paused an agent, an action or a host.
        Paused = "paused",
        /// Ended a pause.
        Resumed = "resumed",
        /// Replayed a delivery.
        Replayed = "replayed",
        /// Found out what had become of an unknown delivery.
        Resolved = "resolved",
        /// Tested an action, or an action file: one real request.
        Tested = "tested",
        /// Had an agent's requests signed.
        SigningEnabled = "signing_enabled",
        /// Gave an agent a new key that signs its requests.
        SigningRotated = "signing_rotated",
        /// Had an agent's requests sent unsigned again.
        SigningDisabled = "signing_disabled",
    }
}

/// Where an act stands among all acts: by its time, and among those of one moment by its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActKey {
    /// When.
    pub at: DateTime<Utc>,
    /// Its record: ASCII, without a blank.
    pub record: String,
}

/// The longest name of a record.
const LONGEST_RECORD: usize = 64;

impl fmt::Display for ActKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at.timestamp_micros(), self.record)
    }
}

/// The text is not the key of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the key of an act, as an earlier page names it")]
pub struct NoActKey;

impl FromStr for ActKey {
    type Err = NoActKey;

    fn from_str(text: &str) -> Result<ActKey, NoActKey> {
        let (micros, record) = text.split_once('-').ok_or(NoActKey)?;
        let at = micros.parse().ok().and_then(DateTime::from_timestamp_micros).ok_or(NoActKey)?;
        let is_record = record.len() <= LONGEST_RECORD && record.bytes().all(|byte| byte.is_ascii_graphic());
        if is_record { Ok(ActKey { at, record: record.to_owned() }) } else { Err(NoActKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_to_the_microsecond_and_nothing_else_is_a_key() {
        let at: DateTime<Utc> = "2026-11-28T12:00:00.123456Z".parse().unwrap();
        let key = ActKey { at, record: "replay-0192f0c1".to_owned() };
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "1", "-", "x-y", "1-a b", "99999999999999999999-a", "1-\u{202e}"] {
            assert_eq!(text.parse::<ActKey>(), Err(NoActKey), "{text}");
        }
    }
}
