//! Warnings of an action: what is allowed, but is probably not what its author meant. A warning never keeps an action from
//! being published.

use std::ops::Range;

use super::closed_set::closed_set;
use super::problem::Field;

closed_set! {
    /// The stable name of a kind of warning. Programs may match on it; the sentences of a warning may change.
    pub enum WarningCode {
        /// No documented call has the path of a placeholder.
        UnknownPath = "unknown_path",
        /// `{{path}}`, as other systems write placeholders. It is sent as it is.
        LiteralBraces = "literal_braces",
        /// `$path`, as other systems write placeholders. It is sent as it is.
        LiteralDollar = "literal_dollar",
        /// Quotes around a placeholder make text of what is a number in the documented call.
        QuotedNumber = "quoted_number",
        /// Plain http, which dispatchers refuse by default.
        PlainHttp = "plain_http",
        /// An address that is not public, which dispatchers refuse by default.
        PrivateAddress = "private_address",
        /// A port that is never a web server's, which dispatchers refuse by default.
        ForbiddenPort = "forbidden_port",
        /// A host that can hardly ever be looked up.
        UnlikelyHost = "unlikely_host",
        /// A timeout so short that seconds were probably meant.
        ShortTimeout = "short_timeout",
        /// A body that the method does not send.
        UnusedBody = "unused_body",
        /// What is probably a secret is typed into a header or the URL, and would be stored in clear.
        TypedSecret = "typed_secret",
        /// A field has more warnings than are told one by one.
        MoreWarnings = "more_warnings",
    }
}

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Its stable name.
    pub code: WarningCode,
    /// The field it is in.
    pub field: Field,
    /// What is probably wrong: a sentence without its final period.
    pub message: String,
    /// What to do about it, if that can be said.
    pub hint: Option<String>,
    /// The bytes that are meant, in the field's own text; `None` if they are not a part of a template.
    pub range: Option<Range<usize>>,
}

impl Warning {
    /// A warning without a range.
    pub fn new(code: WarningCode, field: Field, message: impl Into<String>, hint: impl Into<String>) -> Warning {
        Warning { code, field, message: message.into(), hint: Some(hint.into()), range: None }
    }

    /// The same warning, about the bytes `range` of the field's text.
    pub fn at(mut self, range: Range<usize>) -> Warning {
        self.range = Some(range);
        self
    }
}
