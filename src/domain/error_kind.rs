//! Error kinds as history has them in one column: of deliveries that failed, and of those whose outcome cannot be known.

use std::fmt;

use serde::Serialize;

use super::delivery::{Failure, State, UnknownReason};

/// What history calls an error: why a delivery failed, or why its outcome cannot be known. No name stands for two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum ErrorKind {
    /// Of a delivery that is [`State::Failed`].
    Failure(Failure),
    /// Of a delivery that is [`State::Unknown`].
    Unknown(UnknownReason),
}

impl ErrorKind {
    /// All of them: the failures, then the reasons why an outcome cannot be known.
    pub const ALL: [ErrorKind; Failure::ALL.len() + UnknownReason::ALL.len()] = {
        let mut all = [ErrorKind::Failure(Failure::ALL[0]); Failure::ALL.len() + UnknownReason::ALL.len()];
        let mut index = 0;
        while index < all.len() {
            all[index] = if index < Failure::ALL.len() {
                ErrorKind::Failure(Failure::ALL[index])
            } else {
                ErrorKind::Unknown(UnknownReason::ALL[index - Failure::ALL.len()])
            };
            index += 1;
        }
        all
    };

    /// The error kind of that name, if there is one.
    pub fn named(name: &str) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its name, as in the database and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Failure(failure) => failure.as_str(),
            ErrorKind::Unknown(reason) => reason.as_str(),
        }
    }

    /// The state of the deliveries that can have it.
    pub fn state(self) -> State {
        match self {
            ErrorKind::Failure(_) => State::Failed,
            ErrorKind::Unknown(_) => State::Unknown,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
