//! Tests of actions that are made by the console. Each form makes at most one: it has an id of its own, which is used up when the
//! form is sent. So a second press, a reload or an old page of a browser leads to the same test, or makes none.
//!
//! A test goes on in a task of its own, whether its browser waits or not, and is recorded at its end. When the console stops, it
//! ends at once with what is known by then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::Uuid;

use super::notes::new_id;
use super::people::Visitor;
use crate::domain::chain::chain;
use crate::service::action_test::{NotTested, Tester, What, Wish};
use crate::service::chosen_call::ChosenCall;
use crate::store::Store;

/// The most tests of a console that are in flight at the same time. The database has bounds of its own for each agent.
pub(super) const MOST_RUNNING: usize = 4;
/// The most forms whose ids are known: the oldest is forgotten, and makes no test any more.
const MOST_FORMS: usize = 256;
/// The most of one visitor: beyond that, their own oldest is forgotten, and nobody else's.
const MOST_FORMS_OF_ONE: usize = 16;

/// What became of a form that was sent: its test, or why there is none.
type Sent = Result<Uuid, Arc<NotTested>>;

/// A form that somebody was shown.
struct Shown {
    id: String,
    of: Visitor,
    /// Once it was sent: what becomes of it.
    sent: Option<watch::Receiver<Option<Sent>>>,
}

/// The test that a form asks for.
pub(super) struct Order {
    pub(super) agent: String,
    pub(super) action: String,
    pub(super) version: i32,
    pub(super) call: ChosenCall,
    pub(super) by: String,
    pub(super) reason: String,
}

/// A test that is recorded.
pub(super) enum Begun {
    /// By this form, now.
    Now(Uuid),
    /// By the same form, before. Nothing more is sent.
    Before(Uuid),
}

/// Why a form has made no test. Nothing was sent.
pub(super) enum NotBegun {
    /// This console makes no tests.
    ReadOnly,
    /// Nobody was shown this form, or it is forgotten.
    UnknownForm,
    /// As many tests as may be are in flight, or the console stops.
    Full,
    /// The test was refused.
    Refused(Arc<NotTested>),
    /// An internal error ended it.
    Defect,
}

/// All tests of the console.
pub(super) struct Testing {
    tester: Option<Arc<Tester>>,
    places: Arc<Semaphore>,
    /// The oldest first.
    forms: Mutex<VecDeque<Shown>>,
    running: TaskTracker,
    stop: CancellationToken,
}

impl Testing {
    /// Tests are made by this tester; without one, there are none.
    pub(super) fn new(tester: Option<Arc<Tester>>) -> Testing {
        Testing {
            tester,
            places: Arc::new(Semaphore::new(MOST_RUNNING)),
            forms: Mutex::default(),
            running: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Whether a test may go where a URL template leads, as far as that can be seen before it is tried.
    pub(super) fn permits(&self, url: &str) -> bool {
        self.tester.as_ref().is_some_and(|tester| tester.permits(url))
    }

    /// The id of a form that this visitor is shown; `None` if the system has no random numbers.
    pub(super) fn new_form(&self, of: &Visitor) -> Option<String> {
        let id = new_id()?;
        let mut forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        if forms.iter().filter(|shown| shown.of == *of).count() >= MOST_FORMS_OF_ONE {
            let oldest = forms.iter().position(|shown| shown.of == *of);
            oldest.and_then(|oldest| forms.remove(oldest));
        } else if forms.len() >= MOST_FORMS {
            forms.pop_front();
        }
        forms.push_back(Shown { id: id.clone(), of: of.clone(), sent: None });
        Some(id)
    }

    /// Makes the test of a form that a visitor sent, and returns when it is recorded. It goes on, whoever waits for it.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn begin(&self, form: &str, of: &Visitor, store: &Store, order: Order) -> Result<Begun, NotBegun> {
        let tester = self.tester.as_ref().ok_or(NotBegun::ReadOnly)?;
        let (before, mut sent) = match self.take(form, of)? {
            Taken::Before(sent) => (true, sent),
            Taken::Now(place, tell, sent) => {
                let (tester, store, stop) = (Arc::clone(tester), store.clone(), self.stop.clone());
                self.running.spawn(async move {
                    test(&tester, &store, &order, &tell, &stop).await;
                    drop(place);
                });
                (false, sent)
            }
        };
        let sent = match sent.wait_for(Option::is_some).await {
            Ok(sent) => sent.clone(),
            Err(_) => None,
        };
        match sent {
            Some(Ok(test_id)) if before => Ok(Begun::Before(test_id)),
            Some(Ok(test_id)) => Ok(Begun::Now(test_id)),
            Some(Err(refused)) => Err(NotBegun::Refused(refused)),
            None => Err(NotBegun::Defect),
        }
    }

    /// Uses up a form, unless it was sent before. One that finds no place can be sent again.
    fn take(&self, form: &str, of: &Visitor) -> Result<Taken, NotBegun> {
        let mut forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        let own = forms.iter_mut().find(|shown| shown.id == form && shown.of == *of).ok_or(NotBegun::UnknownForm)?;
        if let Some(sent) = &own.sent {
            return Ok(Taken::Before(sent.clone()));
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NotBegun::Full)?;
        if self.stop.is_cancelled() {
            return Err(NotBegun::Full);
        }
        let (tell, sent) = watch::channel(None);
        own.sent = Some(sent.clone());
        Ok(Taken::Now(place, tell, sent))
    }

    /// Ends the tests that are in flight, with what is known by now.
    pub(super) fn cut(&self) {
        self.stop.cancel();
        self.running.close();
    }

    /// Waits until all tests have ended and are recorded.
    pub(super) async fn ended(&self) {
        self.running.wait().await;
    }
}

/// What a form comes to.
enum Taken {
    /// It was sent before: what became of it.
    Before(watch::Receiver<Option<Sent>>),
    /// It makes a test: its place, and where is told what becomes of it.
    Now(OwnedSemaphorePermit, watch::Sender<Option<Sent>>, watch::Receiver<Option<Sent>>),
}

/// One test, from its record to its result.
async fn test(
    tester: &Tester,
    store: &Store,
    order: &Order,
    tell: &watch::Sender<Option<Sent>>,
    stop: &CancellationToken,
) {
    let wish = Wish {
        agent: &order.agent,
        action: &order.action,
        what: What::Published(Some(order.version)),
        call: &order.call,
        by: &order.by,
        reason: &order.reason,
    };
    let begun = match tester.begin(store, &wish).await {
        Ok(begun) => begun,
        Err(refused) => {
            tell.send_replace(Some(Err(Arc::new(refused))));
            return;
        }
    };
    tell.send_replace(Some(Ok(begun.test_id())));
    // Its page tells how it ended, or that this is unknown.
    if let Err(error) = tester.finish(store, begun, stop.cancelled()).await {
        warn!(error = %chain(&error), "the result of a test is not recorded");
    }
}
