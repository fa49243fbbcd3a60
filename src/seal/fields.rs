//! The fields of a leaf: which ones each kind of row has, in which order, and what each holds. docs/auditing.md lists
//! them for those who check with programs of their own.

use crate::domain::seal::Kind;

/// What a field holds, and so how its value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A UUID: its 16 bytes.
    Id,
    /// An integer: in decimal digits.
    Number,
    /// A time: microseconds since 1970 in UTC, in decimal digits.
    Time,
    /// A text: its bytes in UTF-8.
    Text,
    /// Bytes as they are.
    Bytes,
    /// True or false: `1` or `0`.
    Flag,
    /// Texts: of each its length as LEB128, and its bytes.
    Texts,
}

use Holds::{Bytes, Flag, Id, Number, Text, Texts, Time};

/// The fields of a delivery.
const DELIVERY: &[(&str, Holds)] = &[
    ("delivery_id", Id),
    ("call_id", Id),
    ("claim", Id),
    ("action_id", Number),
    ("created_at", Time),
    ("claimed_at", Time),
    ("finished_at", Time),
    ("action_version", Number),
    ("dispatcher_id", Number),
    ("latency_ms", Number),
    ("dns_ms", Number),
    ("connected_ms", Number),
    ("head_ms", Number),
    ("request_bytes", Number),
    ("response_bytes", Number),
    ("response_code", Number),
    ("agent", Text),
    ("state", Text),
    ("error_kind", Text),
    ("error_detail", Text),
    ("call_sid", Text),
    ("method", Text),
    ("url", Text),
    ("request_sha256", Bytes),
    ("response_sha256", Bytes),
    ("body_end", Text),
    ("unresolved", Texts),
    ("request_head_hmac", Bytes),
];

/// The fields of a late result or a finding.
const RESOLUTION: &[(&str, Holds)] = &[
    ("delivery_id", Id),
    ("source", Text),
    ("state", Text),
    ("resolved_by", Text),
    ("reason", Text),
    ("resolved_at", Time),
    ("db_user", Text),
    ("method", Text),
    ("url", Text),
    ("request_bytes", Number),
    ("request_sha256", Bytes),
    ("unresolved", Texts),
    ("error_kind", Text),
    ("error_detail", Text),
    ("response_code", Number),
    ("response_bytes", Number),
    ("response_sha256", Bytes),
    ("body_end", Text),
    ("latency_ms", Number),
    ("dns_ms", Number),
    ("connected_ms", Number),
    ("head_ms", Number),
    ("request_head_hmac", Bytes),
];

/// How many fields a delivery has. The database takes no slice of an earlier release, which would seal rows without the newest ones.
pub const DELIVERY_FIELDS: i16 = DELIVERY.len() as i16;

/// The fields of a row of this kind. The number of a field is its place, counted from 1; places never change.
pub fn fields(kind: Kind) -> &'static [(&'static str, Holds)] {
    match kind {
        Kind::Delivery => DELIVERY,
        Kind::LateResult | Kind::Finding => RESOLUTION,
        Kind::Replay => &[
            ("delivery_id", Id),
            ("replay_of", Id),
            ("message_id", Id),
            ("replayed_by", Text),
            ("reason", Text),
            ("created_at", Time),
            ("db_user", Text),
        ],
        Kind::Version => &[
            ("action_id", Number),
            ("version", Number),
            ("agent", Text),
            ("name", Text),
            ("method", Text),
            ("timeout_ms", Number),
            ("published_at", Time),
            ("published_by", Text),
            ("db_user", Text),
            ("reason", Text),
            ("digest", Bytes),
        ],
        Kind::Switch => &[
            ("switch_id", Number),
            ("action_id", Number),
            ("enabled", Flag),
            ("switched_at", Time),
            ("switched_by", Text),
            ("db_user", Text),
            ("reason", Text),
        ],
        Kind::Pause => &[
            ("pause_id", Number),
            ("agent", Text),
            ("action_id", Number),
            ("host", Text),
            ("reason", Text),
            ("paused_by", Text),
            ("paused_at", Time),
            ("db_user", Text),
        ],
        Kind::PauseEnd => {
            &[("pause_id", Number), ("reason", Text), ("resumed_by", Text), ("resumed_at", Time), ("db_user", Text)]
        }
        Kind::Pruning => &[("pruning_id", Number), ("history_begins", Time), ("pruned_at", Time), ("db_user", Text)],
    }
}
