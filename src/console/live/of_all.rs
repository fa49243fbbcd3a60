//! The live tail of all of several databases. Each is read by its own reader, so one that does not answer holds up no row of another, and
//! those who follow all of them cost a database no more than those who follow it alone.

use std::sync::Arc;

use futures_util::stream::select_all;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::Receiver;

use super::event::{Event, News, told};
use super::{Beginning, EVENTS, Lifetime, MOST_RECENT, MOST_VIEWERS, Said, last_seen, viewer};
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::people::Visit;
use crate::console::together::All;
use crate::console::words::shown;

/// The most names that one sentence lists.
const MOST_NAMES: usize = 5;

/// Places for those who follow all databases.
pub(in crate::console) struct OfAll(Arc<Semaphore>);

/// One of the databases, as its viewer sees it.
struct Part {
    /// As it may be shown.
    name: String,
    /// `None` if it could not be opened so far. Whoever comes back, each minute at least, finds it when it is.
    said: Option<Said>,
}

impl Default for OfAll {
    fn default() -> OfAll {
        OfAll(Arc::new(Semaphore::new(MOST_VIEWERS)))
    }
}

impl OfAll {
    /// The stream, for one more viewer.
    ///
    /// # Errors
    /// If the visitor may not follow, or as many as may do.
    pub(in crate::console) fn answer(
        &self,
        all: &All<'_>,
        headers: &HeaderMap,
        lifetime: Lifetime,
    ) -> Result<Answer, Trouble> {
        all.visitor.may_follow()?;
        let place = Arc::clone(&self.0).try_acquire_owned().map_err(|_| Trouble::Crowded)?;
        let (mut parts, mut news, mut recent) = (Vec::new(), Vec::new(), Vec::new());
        for database in all.databases.all() {
            let name = shown(database.name().unwrap_or_default()).into_owned();
            let said = match database.stores() {
                Ok(stores) => {
                    let visit = Visit::new(all.visitor.clone(), stores, all.notes);
                    let begun: Beginning = database.live.enter(None, visit.tail()?, &lifetime.stop);
                    news.push((parts.len(), begun.news));
                    recent.extend(begun.recent);
                    Some(begun.said)
                }
                Err(_) => None,
            };
            parts.push(Part { name, said });
        }
        let (recent, has_gap) = newest(recent, last_seen(headers));
        let first = viewer::first(&sentence(&parts), has_gap, recent.iter().map(|event| &*event.located));
        let (answer, pieces) = Answer::streamed(EVENTS);
        tokio::spawn(async move {
            viewer::show(pieces, first, texts(parts, news), lifetime).await;
            drop(place);
        });
        Ok(answer)
    }
}

/// The newest of what has ended lately, in the order of its ends, and whether something may be missing between it and what was seen last.
/// Whoever comes back gets them again: which of them were seen is known of one database only. A page shows each once, by its id.
fn newest(mut recent: Vec<Arc<Event>>, last: Option<&str>) -> (Vec<Arc<Event>>, bool) {
    recent.sort_by(|a, b| (a.ended_at, &a.id).cmp(&(b.ended_at, &b.id)));
    let newest = recent.split_off(recent.len().saturating_sub(MOST_RECENT));
    let has_gap = last.is_some_and(|last| !newest.iter().any(|event| event.id == last));
    (newest, has_gap)
}

/// What comes from all of them.
fn texts(mut parts: Vec<Part>, news: Vec<(usize, Receiver<News>)>) -> impl Stream<Item = String> + Send {
    let each = news.into_iter().map(|(number, news)| viewer::all(news).map(move |next| (number, next)).boxed());
    select_all(each).map(move |(number, next)| {
        let Some(part) = parts.get_mut(number) else { return String::new() };
        match next {
            Ok(News::Ended(event)) => event.located.clone(),
            Ok(News::Said(said)) => {
                part.said = Some(said);
                sentence(&parts)
            }
            Err(lost) => told(&format!(
                "Live. {lost} events of {} came faster than they could be sent, and are missing.",
                part.name
            )),
        }
    })
}

/// What is said about all of them.
fn sentence(parts: &[Part]) -> String {
    let named = |said: Option<Said>, words: &str| {
        let names: Vec<&str> = parts.iter().filter(|part| part.said == said).map(|part| &*part.name).collect();
        let more = match names.len().saturating_sub(MOST_NAMES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let listed: Vec<&str> = names.into_iter().take(MOST_NAMES).collect();
        if listed.is_empty() { String::new() } else { format!(" {words}: {}{more}.", listed.join(", ")) }
    };
    told(
        &[
            "Live: what comes to an end appears here.".to_owned(),
            named(Some(Said::Sample), "A sample, because more comes to an end than is shown"),
            named(Some(Said::Away), "No answer, so that it comes later"),
            named(Some(Said::Forbidden), "Not shown, because a right is missing"),
            named(None, "Not shown, because it could not be opened so far"),
        ]
        .concat(),
    )
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    fn event(second: i64) -> Arc<Event> {
        let ended_at = Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(second));
        Arc::new(Event { id: second.to_string(), ended_at, text: String::new(), located: format!("{second};") })
    }

    #[test]
    fn what_has_ended_lately_in_all_is_shown_in_one_order_and_whoever_missed_some_is_told() {
        let of_two = || [[9, 12, 13].map(event), [8, 10, 11].map(event)].concat();
        let ids = |events: &[Arc<Event>]| events.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
        let (found, has_gap) = newest(of_two(), None);
        assert_eq!((ids(&found), has_gap), (["8", "9", "10", "11", "12", "13"].map(str::to_owned).to_vec(), false));
        assert!(!newest(of_two(), Some("9")).1 && newest(of_two(), Some("7")).1);
        let many: Vec<_> = (0..120).rev().map(event).collect();
        let (found, has_gap) = newest(many.clone(), Some("69"));
        assert_eq!((found.len(), &*found[0].id, has_gap), (MOST_RECENT, "70", true));
        assert!(!newest(many, Some("70")).1);
    }

    #[test]
    fn what_is_wrong_with_some_is_said_with_their_names_and_not_with_all_of_many() {
        let part = |name: &str, said| Part { name: name.to_owned(), said };
        assert_eq!(sentence(&[part("a", Some(Said::All))]), told("Live: what comes to an end appears here."));
        let mut parts = vec![part("a", Some(Said::Away)), part("b", Some(Said::All)), part("c", None)];
        let said = sentence(&parts);
        assert!(
            said.contains(" No answer, so that it comes later: a.") && said.contains("opened so far: c."),
            "{said}"
        );
        parts.extend((0..60).map(|number| part(&number.to_string(), Some(Said::Away))));
        assert!(sentence(&parts).contains(": a, 0, 1, 2, 3 and 56 more."), "{}", sentence(&parts));
    }
}
