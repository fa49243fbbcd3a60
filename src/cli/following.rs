//! `postcall history --follow`: what ends in a database, as it comes. A database that goes away is asked again until it answers,
//! and then it is read on from where it was: nothing is lost or comes twice, because what was read is only then left behind.

use std::pin::pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::CliError;
use super::databases::NamedDatabase;
use crate::service::history::{Following, Look};
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::{Store, StoreError};

/// How long is waited between two looks.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How long is waited at most before a database that is away is asked again. The wait is doubled from [`FOLLOW_EVERY`] on.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a database may take to be opened, and then for each question that it is asked, before it is said that it does not answer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(20);
/// How long a look may take before it is made again. It keeps no other database waiting, and may have much to read.
const LONGEST_LOOK: Duration = Duration::from_secs(300);

/// What follows one database.
pub(super) struct Follower<'d> {
    database: &'d NamedDatabase,
    /// What is said of it begins with this, if others are followed, too.
    name: Option<&'d str>,
    store: Store,
    /// Whether the store is opened again before the next look, because the last one failed: its connection may hang in the pool.
    is_lost: bool,
    following: Following,
    /// Whether there may be more already, so that the next look does not wait.
    is_more: bool,
    absence: Absence,
}

/// That a database does not answer.
#[derive(Default)]
struct Absence {
    /// How many looks have failed, one after the other.
    failed: u32,
    /// What was said of it last; `None` while it answers.
    said: Option<String>,
}

impl<'d> Follower<'d> {
    /// Follows what ends after `since`. It is named in what is said of it if others are followed, too.
    pub(super) fn since(
        since: DateTime<Utc>,
        filter: HistoryFilter,
        database: &'d NamedDatabase,
        store: Store,
        is_named: bool,
    ) -> Follower<'d> {
        let following = Following::since(since, filter);
        let name = is_named.then_some(&*database.name);
        Follower { database, name, store, is_lost: false, following, is_more: true, absence: Absence::default() }
    }

    /// What has ended since the beginning, as far as one look reads: possibly nothing.
    ///
    /// # Errors
    /// Those of the database: what keeps it from being read at all is no absence.
    pub(super) async fn first(&mut self) -> Result<Vec<HistoryRow>, CliError> {
        let Look { rows, is_more } = self.look().await?;
        self.answers(is_more);
        Ok(rows)
    }

    /// What has ended since the last time, once something has.
    pub(super) async fn next(&mut self) -> Vec<HistoryRow> {
        loop {
            if self.absence.failed > 0 {
                tokio::time::sleep(self.absence.wait()).await;
            } else if !self.is_more {
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
            match self.look().await {
                Ok(Look { rows, is_more }) => {
                    self.answers(is_more);
                    if !rows.is_empty() {
                        return rows;
                    }
                }
                Err(error) => {
                    self.is_lost = true;
                    self.absence.failed = self.absence.failed.saturating_add(1);
                    say_away(self.name, &mut self.absence, &error);
                }
            }
        }
    }

    async fn look(&mut self) -> Result<Look, CliError> {
        if self.is_lost {
            let opened = timeout(ANSWER_TIME, self.database.open(super::ONE_CONNECTION)).await;
            self.store = opened.unwrap_or(Err(StoreError::Unanswered(ANSWER_TIME).into()))?;
            self.is_lost = false;
        }
        let store = self.store.clone();
        let mut look = pin!(self.following.look(&store));
        let in_time = timeout(ANSWER_TIME, look.as_mut()).await;
        if let Ok(look) = in_time {
            return Ok(look?);
        }
        say_away(self.name, &mut self.absence, &StoreError::Unanswered(ANSWER_TIME).into());
        Ok(timeout(LONGEST_LOOK, look).await.unwrap_or(Err(StoreError::Unanswered(LONGEST_LOOK)))?)
    }

    /// It answers: that is said if the opposite was.
    fn answers(&mut self, is_more: bool) {
        self.is_more = is_more;
        if std::mem::take(&mut self.absence).said.is_some() {
            say(self.name, "it answers again, and is followed from where it was");
        }
    }

    /// The name of the database.
    pub(super) fn database(&self) -> &'d str {
        &self.database.name
    }
}

impl Absence {
    /// How long is waited before the database is asked again.
    fn wait(&self) -> Duration {
        let doublings = self.failed.saturating_sub(1);
        let wait = 2_u32.checked_pow(doublings).and_then(|times| FOLLOW_EVERY.checked_mul(times));
        wait.map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT))
    }

    /// What is to be said because of this error: its text, once. While a server restarts, it fails in several ways, and only the first of
    /// them is said. What it refuses, such as a password, is said as well: somebody has to do something about that.
    fn news(&mut self, error: &CliError) -> Option<String> {
        let text = error.for_people();
        let is_new = match &self.said {
            None => true,
            Some(said) => is_refusal(error) && *said != text,
        };
        is_new.then(|| self.said.insert(text).clone())
    }
}

/// Whether the server is there, and does not do what it is asked.
fn is_refusal(error: &CliError) -> bool {
    match error {
        CliError::Store(error) => error.is_answer(),
        _ => true,
    }
}

/// Says that a database does not answer, if that is news.
fn say_away(name: Option<&str>, absence: &mut Absence, error: &CliError) {
    if let Some(why) = absence.news(error) {
        say(name, &format!("{why}; asking again until it answers"));
    }
}

fn say(name: Option<&str>, what: &str) {
    match name {
        Some(name) => eprintln!("postcall: {name}: {what}"),
        None => eprintln!("postcall: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_stays_away_is_asked_less_and_less_often_and_never_less_than_twice_a_minute() {
        let seconds = |failed| Absence { failed, said: None }.wait().as_secs();
        let all: Vec<u64> = (1..=8).map(seconds).collect();
        assert_eq!(all, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(seconds(u32::MAX), 30);
    }

    #[test]
    fn an_absence_is_said_once_however_it_shows_and_a_refusal_as_well_when_it_is_another_one() {
        let mut absence = Absence::default();
        let away = |seconds| CliError::from(StoreError::Unanswered(Duration::from_secs(seconds)));
        let refused = |what: &str| CliError::Problem(what.to_owned());
        assert!(absence.news(&away(1)).is_some());
        assert_eq!(absence.news(&away(2)), None);
        assert_eq!(absence.news(&refused("newer")), Some("newer".to_owned()));
        assert_eq!(absence.news(&refused("newer")), None);
        assert_eq!(absence.news(&away(3)), None);
        assert_eq!(absence.news(&refused("older")), Some("older".to_owned()));
    }
}
