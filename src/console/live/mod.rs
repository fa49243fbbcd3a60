//! The live tail: what comes to an end, as it comes, by server-sent events.
//!
//! One reader asks the database for all viewers, and only while there are any. What it finds goes to all of them at once,
//! through a channel of so many events; whoever reads more slowly than they come loses some, and is told so.
//!
//! Each of several databases has a reader of its own. Those who follow all of them are viewers of each ([`of_all`]).

mod event;
mod of_all;
mod viewer;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(super) use event::Line;
pub(super) use of_all::OfAll;

use super::answer::Answer;
use super::failure::Trouble;
use crate::domain::chain::chain;
use crate::service::tail::Tail;
use crate::store::{Store, StoreError};
use event::{Event, News};

/// The most viewers of a database, and of all of several. Each holds a connection of a browser.
pub(super) const MOST_VIEWERS: usize = 16;
/// Between two looks at the database, and after one that failed.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
const AFTER_A_FAILURE: Duration = Duration::from_secs(5);
/// How long a look may take: a server that is frozen never answers.
const LOOK_TIME: Duration = Duration::from_secs(10);
/// The events that wait for a slow viewer. It loses those before them.
const MOST_WAITING: usize = 128;
/// The last events, for those who come, and for those who come back.
const MOST_RECENT: usize = 50;
/// How long the reader goes on without viewers: a browser comes back within that time if its connection has ended.
const LINGERING: Duration = Duration::from_secs(5);

/// How long the connection of a request lives.
#[derive(Clone, Debug)]
pub(super) struct Lifetime {
    /// When it is closed.
    pub(super) until: Instant,
    /// When the console ends.
    pub(super) stop: CancellationToken,
}

/// All viewers, and what they see.
pub(super) struct Live {
    /// Its name, if it is one of several.
    name: Option<String>,
    /// What stands before the addresses in its rows.
    root: String,
    places: Arc<Semaphore>,
    events: broadcast::Sender<News>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_read: bool,
    recent: VecDeque<Arc<Event>>,
    said: Said,
}

/// What is said about the tail as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Said {
    /// Everything that ends is shown.
    #[default]
    All,
    /// More ends than is shown.
    Sample,
    /// The database cannot be read.
    Away,
    /// The database user may not read it.
    Forbidden,
}

/// What the stream is.
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// The event that a browser has seen last, if it comes back.
fn last_seen(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id").and_then(|id| id.to_str().ok())
}

/// What a viewer begins with.
struct Beginning {
    news: broadcast::Receiver<News>,
    said: Said,
    recent: Vec<Arc<Event>>,
    /// Whether something may have ended that is not among `recent`.
    has_gap: bool,
}

impl Live {
    /// The tail of a database whose pages stand below `root`, with its name if it is one of several.
    pub(super) fn new(name: Option<String>, root: String) -> Arc<Live> {
        let (places, events) = (Arc::new(Semaphore::new(MOST_VIEWERS)), broadcast::Sender::new(MOST_WAITING));
        Arc::new(Live { name, root, places, events, state: Mutex::default() })
    }

    /// The stream, for one more viewer.
    pub(super) fn answer(
        self: &Arc<Live>,
        headers: &HeaderMap,
        store: &Store,
        lifetime: Lifetime,
    ) -> Result<Answer, Trouble> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Trouble::Crowded)?;
        let (answer, pieces) = Answer::streamed(EVENTS);
        let beginning = self.enter(last_seen(headers), store, &lifetime.stop);
        let (first, texts) = viewer::of_one(beginning);
        tokio::spawn(async move {
            viewer::show(pieces, first, texts, lifetime).await;
            drop(place);
        });
        Ok(answer)
    }

    /// A poisoned state is whole, too: nothing that is done with it can stop in the middle.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more viewer, who has seen the event `last`. The first one starts the reader.
    fn enter(self: &Arc<Live>, last: Option<&str>, store: &Store, stop: &CancellationToken) -> Beginning {
        let mut state = self.state();
        // Under the lock, so that nothing is told between what is recent and what is new.
        let news = self.events.subscribe();
        if !state.is_read {
            state.is_read = true;
            let (live, store, stop) = (Arc::clone(self), store.clone(), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(live.read(store)).await });
        }
        let seen = last.map(|last| state.recent.iter().position(|event| event.id == last));
        let skipped = seen.flatten().map_or(0, |position| position + 1);
        let recent = state.recent.iter().skip(skipped).cloned().collect();
        Beginning { news, said: state.said, recent, has_gap: seen == Some(None) }
    }

    /// Looks at the database until there is no viewer any more.
    async fn read(self: Arc<Live>, store: Store) {
        let mut tail = Tail::default();
        let mut last_seen = Instant::now();
        loop {
            if self.events.receiver_count() > 0 {
                last_seen = Instant::now();
            }
            let look = timeout(LOOK_TIME, tail.look(&store)).await;
            let said = match look.unwrap_or(Err(StoreError::Unanswered(LOOK_TIME))) {
                Ok(look) => {
                    let event = |row| Event::of(row, self.name.as_deref(), &self.root);
                    self.tell(look.rows.iter().filter_map(event));
                    if look.is_sample { Said::Sample } else { Said::All }
                }
                Err(error) => {
                    debug!(error = %chain(&error), "the live tail cannot be read");
                    if error.is_forbidden() { Said::Forbidden } else { Said::Away }
                }
            };
            self.say(said);
            let has_failed = matches!(said, Said::Away | Said::Forbidden);
            tokio::time::sleep(if has_failed { AFTER_A_FAILURE } else { BETWEEN_LOOKS }).await;
            let mut state = self.state();
            if self.events.receiver_count() == 0 && last_seen.elapsed() > LINGERING {
                *state = State::default();
                return;
            }
        }
    }

    fn tell(&self, ended: impl Iterator<Item = Event>) {
        let mut state = self.state();
        for event in ended.map(Arc::new) {
            if state.recent.len() == MOST_RECENT {
                state.recent.pop_front();
            }
            state.recent.push_back(Arc::clone(&event));
            // Nobody need be there.
            let _viewers = self.events.send(News::Ended(event));
        }
    }

    fn say(&self, said: Said) {
        let mut state = self.state();
        if state.said != said {
            state.said = said;
            let _viewers = self.events.send(News::Said(said));
        }
    }
}
