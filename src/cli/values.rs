//! The closed sets of the domain as values of arguments: by the names that they have everywhere else.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::domain::act::Act;
use crate::domain::delivery::{Finding, State};
use crate::domain::error_kind::ErrorKind;

impl ValueEnum for State {
    fn value_variants<'a>() -> &'a [State] {
        &State::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

impl ValueEnum for ErrorKind {
    fn value_variants<'a>() -> &'a [ErrorKind] {
        &ErrorKind::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

impl ValueEnum for Act {
    fn value_variants<'a>() -> &'a [Act] {
        &Act::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

impl ValueEnum for Finding {
    fn value_variants<'a>() -> &'a [Finding] {
        &Finding::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Finding::Delivered => "The receiver took it",
            Finding::Rejected => "The receiver had it and refused it",
            Finding::Failed => "It never reached the receiver",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}
