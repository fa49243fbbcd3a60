//! What is asked of all of several databases at once. Each has a time of its own in which it answers, and they all run together: so
//! those that do not answer delay what the others say by that time, and no more, however many they are.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{Instrument, error_span};

use super::databases::{Database, Databases, Place};
use super::failure::Trouble;
use super::notes::Notes;
use super::people::{Visit, Visitor};

/// How long one database may take to answer what is asked of all, with all its statements.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(3);

/// A visitor at all databases.
pub(super) struct All<'s> {
    pub(super) visitor: &'s Visitor,
    pub(super) databases: &'s Databases,
    pub(super) notes: &'s Notes,
}

/// A visitor at one of them, as long as its place for a page is held.
pub(super) struct Entered<'s> {
    pub(super) visit: Visit<'s>,
    _place: Place<'s>,
}

/// A database, and what it answered.
pub(super) type Answered<'s, T> = (&'s Database, Result<T, Trouble>);

impl<'s> All<'s> {
    /// What each database answers to this question, in the order in which they were given.
    pub(super) async fn ask<T, A>(&self, question: impl Fn(&'s Database) -> A) -> Vec<Answered<'s, T>>
    where
        A: Future<Output = Result<T, Trouble>>,
    {
        let asked = self.databases.all().iter().map(Arc::as_ref).map(|database: &'s Database| {
            // What is logged of it says which it is.
            let span = error_span!("asking", database = database.name());
            let answer = timeout(ANSWER_TIME, question(database)).instrument(span);
            async move { (database, answer.await.unwrap_or(Err(Trouble::Away))) }
        });
        futures_util::future::join_all(asked).await
    }

    /// The visitor at this database, once there is a place for a page of it.
    ///
    /// # Errors
    /// If it could not be opened so far, or there is no place.
    pub(super) async fn enter(&self, database: &'s Database) -> Result<Entered<'s>, Trouble> {
        let stores = database.stores()?;
        let place = database.place().await?;
        Ok(Entered { visit: Visit::new(self.visitor.clone(), stores, self.notes), _place: place })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::console::people::{Role, Scope};

    #[tokio::test(start_paused = true)]
    async fn databases_that_do_not_answer_delay_the_others_by_one_time_however_many_they_are() {
        let names = (0..64).map(|number| number.to_string()).collect();
        let (databases, notes) = (Databases::several(names, None), Notes::default());
        let visitor =
            Visitor { name: None, role: Role::Publisher, scope: Scope::Everything, database: None, has_session: false };
        let all = All { visitor: &visitor, databases: &databases, notes: &notes };
        let begun = Instant::now();
        let answers = all.ask(async |database: &Database| match database.name() {
            Some("7") => Ok(7),
            _ => std::future::pending().await,
        });
        let answers = answers.await;
        assert_eq!(begun.elapsed(), ANSWER_TIME);
        let answered: Vec<_> =
            answers.iter().filter_map(|(database, answer)| Some((database.name(), answer.as_ref().ok()?))).collect();
        assert_eq!((answered, answers.len()), (vec![(Some("7"), &7)], 64));
        assert!(answers.iter().all(|(_, answer)| matches!(answer, Ok(7) | Err(Trouble::Away))));
    }
}
