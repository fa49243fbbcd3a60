//! A part of a page, or why it is not shown.

use super::failure::{Trouble, withheld};
use crate::store::StoreError;

/// A part of a page, or why it is not shown. A part that is missing does not keep the rest from being shown.
pub(super) enum Part<T> {
    Shown(T),
    Withheld(String),
}

impl<T> Part<T> {
    /// The part that `result` gives. It is withheld if a right is missing, for which `needed` is needed, or if it takes
    /// too long.
    ///
    /// # Errors
    /// Any other trouble: then the rest could not be shown, either.
    pub(super) fn of(result: Result<T, StoreError>, needed: &str) -> Result<Part<T>, Trouble> {
        match result.map_err(Trouble::from) {
            Ok(part) => Ok(Part::Shown(part)),
            Err(Trouble::Forbidden) => Ok(Part::Withheld(withheld(needed))),
            Err(Trouble::TooSlow) => {
                Ok(Part::Withheld("The database did not finish this part within 5 seconds.".to_owned()))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// The part that is not read, because others have taken the time of the page.
    pub(super) fn left_out() -> Part<T> {
        Part::Withheld("This part was not read, because the database was slow with the others.".to_owned())
    }

    /// The same part in another form.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Part<U> {
        match self {
            Part::Shown(part) => Part::Shown(change(part)),
            Part::Withheld(why) => Part::Withheld(why),
        }
    }

    /// The part, if it is shown.
    pub(super) fn shown(&self) -> Option<&T> {
        match self {
            Part::Shown(part) => Some(part),
            Part::Withheld(_) => None,
        }
    }
}
