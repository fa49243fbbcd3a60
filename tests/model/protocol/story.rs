//! A counterexample, told so that people can read it.

use std::fmt;

use super::actions::Action;
use super::explore::ENDLESS;

/// The steps that lead to something that must not be.
#[derive(Debug)]
pub struct Story<'a> {
    pub title: &'a str,
    pub steps: Vec<Action>,
    /// Whether the last step leads back to where it all was before.
    pub circle: bool,
    /// What is wrong at the end.
    pub end: &'a str,
}

impl fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.title)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>4}. {step}", number + 1)?;
        }
        if self.circle {
            writeln!(f, "      And so on: the last step leads back to where everything was before.")?;
        }
        if !self.circle && self.end == ENDLESS {
            writeln!(f, "      Nothing further happens, and not everything has ended.")?;
        }
        writeln!(f, "      And so it does not hold: {}.", self.end)
    }
}
