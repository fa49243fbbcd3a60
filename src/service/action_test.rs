//! Testing an action: one real request by the same way as that of a delivery (the guard, the pinned addresses, the deadline, the
//! evidence), recorded as a test and never as a delivery.
//!
//! The promise holds: the test is recorded, durably, before its request begins, and it is sent at most once. The send gate closes
//! [`LONGEST_START`] after the moment before the recording, by a clock that goes on while the machine is suspended. So a process
//! that was stopped in between sends nothing once others may see the test as unknown. Nothing ever sends a test again.
//!
//! A test uses no place of a dispatcher, holds up no delivery, and says nothing to the limits of dispatchers about a host.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::chosen_call::{ChosenCall, NoCall};
use super::past_request::MaskedRequest;
use super::preview::first;
use super::secrets;
use super::signing;
use crate::domain::action::ActionSpec;
use crate::domain::action_test::{TestResult, TestState};
use crate::domain::call::Call;
use crate::domain::claim::{AttemptRecord, SentRequest};
use crate::domain::delivery::{Ending, Failure, Outcome};
use crate::domain::host::Host;
use crate::domain::problem::{Code, Field, Problem};
use crate::domain::request::Request;
use crate::domain::sealed_version::Unopened;
use crate::domain::secret::Secrets;
use crate::domain::signature::unsigned;
use crate::render::CompiledAction;
use crate::store::action_tests::{Begun, LONGEST_START, MOST_A_MINUTE, MOST_IN_FLIGHT, TestOrder, TestRecord, Tested};
use crate::store::pauses::PauseRecord;
use crate::store::secrets::Opening;
use crate::store::{Store, StoreError};
use crate::vault::{DigestKey, Keyring, Signer, digest_of};
use crate::webhook::{Moment, SendGate, Webhook};

/// How often recording a result is tried.
const MOST_TRIES: u32 = 3;
/// The pause between two tries.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// What is to be tested.
#[derive(Clone, Copy)]
pub enum What<'a> {
    /// A published version; by default the newest.
    Published(Option<i32>),
    /// A file that need not be published.
    File {
        /// What the file says.
        spec: &'a ActionSpec,
        /// The file's text.
        text: &'a str,
    },
}

/// Without the text of the file.
impl fmt::Debug for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Published(version) => write!(f, "Published({version:?})"),
            What::File { text, .. } => write!(f, "File({} bytes)", text.len()),
        }
    }
}

/// A test that a person wants.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The agent whose action it is.
    pub agent: &'a str,
    /// The action's name, or the one that the file would have.
    pub action: &'a str,
    /// What is tested.
    pub what: What<'a>,
    /// The call with which it is tested.
    pub call: &'a ChosenCall,
    /// Who tests, in that person's own words.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// What became of a test.
#[derive(Debug)]
pub struct TestReport {
    /// The test as it is recorded.
    pub record: TestRecord,
    /// The request as people may see it; `None` if none could be made.
    pub request: Option<MaskedRequest>,
}

/// Why nothing is told of a test.
#[derive(Debug, thiserror::Error)]
pub enum NotTested {
    /// There is no such action, or no such version of it.
    #[error("there is no such action")]
    NoSuchAction,
    /// The call cannot be had.
    #[error(transparent)]
    NoCall(#[from] NoCall),
    /// Its templates name a secret, and there are no keys to open it.
    #[error(
        "the action names the secret `{0}`, and what a secret is can only be sent with the key file: name it with --key-file or \
         POSTCALL_KEY_FILE"
    )]
    NoKey(String),
    /// The agent's requests are signed, and there are no keys to open the key that signs.
    #[error(
        "the requests of this agent are signed, and one can only be sent with the key file: name it with --key-file or \
         POSTCALL_KEY_FILE"
    )]
    NoKeyToSign,
    /// The templates of the version are sealed, and cannot be opened.
    #[error(transparent)]
    Unopened(#[from] Unopened),
    /// A person paused it: whoever did so wants nothing to be sent.
    #[error("it is paused, and nothing is sent")]
    Paused(PauseRecord),
    /// As many tests of the agent as may be are in flight.
    #[error(
        "{MOST_IN_FLIGHT} tests of this agent are in flight, and there cannot be more: wait for the end of one \
         (`postcall action tests AGENT` shows them)"
    )]
    TooManyInFlight,
    /// As many tests of the agent as may be began within the last minute.
    #[error(
        "{MOST_A_MINUTE} tests of this agent began within the last minute, and there cannot be more: wait a minute"
    )]
    TooManyAMinute,
    /// The request may have been sent, and its result could not be recorded. The test will be shown as unknown.
    #[error(
        "test {test_id} has ended as {state}, but this could not be recorded: it is shown as unknown from now on. It is not sent again"
    )]
    NotRecorded {
        /// The test.
        test_id: Uuid,
        /// How it ended.
        state: TestState,
        /// Why it is not recorded.
        source: StoreError,
    },
    /// It was made, and its record has been removed already.
    #[error("the test was made, but its record has been removed already")]
    Gone,
    /// The database could not be asked. Nothing was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes tests, with one HTTP client.
#[derive(Debug)]
pub struct Tester {
    webhook: Webhook,
    keys: Option<Arc<Keyring>>,
}

impl Tester {
    /// Whether this tester's own rules permit what a URL template names, as far as it can be seen before it is tried.
    pub fn permits(&self, url: &str) -> bool {
        url::Url::parse(url).is_ok_and(|url| self.webhook.permits(&url))
    }
}

/// A test that is recorded, and whose request was not sent. It is used up by [`Tester::finish`], so it is sent once.
#[derive(Debug)]
pub struct BegunTest {
    test_id: Uuid,
    ready: Result<Ready, Problem>,
    signer: Option<Signer>,
    send_gate: SendGate,
}

impl BegunTest {
    /// The test's id.
    pub fn test_id(&self) -> Uuid {
        self.test_id
    }
}

/// The request of a test, what is recorded of it, and what people see of it. It has no `Debug` form: secrets are in the request.
struct Ready {
    request: Request,
    sent: SentRequest,
    /// The request with its secrets masked; `None` if it has none, so that it is shown as it is.
    shown: Option<Request>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").finish_non_exhaustive()
    }
}

impl Tester {
    /// Tests are sent by this client, which decides which targets may be called. These keys open secrets; without them, actions
    /// that name one are not tested.
    pub fn new(webhook: Webhook, keys: Option<Arc<Keyring>>) -> Tester {
        Tester { webhook, keys }
    }

    /// Makes one test, from its record to its result. When `cut` completes, it ends at once with what is known by then.
    ///
    /// # Errors
    /// Why there is nothing to tell. Only with [`NotTested::NotRecorded`] and [`NotTested::Gone`] may something have been sent.
    pub async fn test(
        &self,
        store: &Store,
        wish: &Wish<'_>,
        cut: impl Future<Output = ()>,
    ) -> Result<TestReport, NotTested> {
        let begun = self.begin(store, wish).await?;
        self.finish(store, begun, cut).await
    }

    /// Records a test, and sends nothing. An interface that does not wait for the end shows the test by its id from now on.
    ///
    /// # Errors
    /// Why there is no test. Nothing was sent.
    pub async fn begin(&self, store: &Store, wish: &Wish<'_>) -> Result<BegunTest, NotTested> {
        let (spec, tested) = self.tested(store, wish).await?;
        let text = wish.call.text(store, wish.agent).await?.into_owned();
        let timeout_ms = spec.timeout_ms;
        let secrets = self.secrets(store, wish, &spec).await?;
        let digests = self.digest_key();
        let (mut ready, mut signer) = (rendered(spec, text, secrets, digests).await, None);
        match self.signer(store, wish).await? {
            Ok(found) => signer = found,
            Err(problem) => ready = ready.and(Err(problem)),
        }
        let host = ready.as_ref().ok().and_then(|ready| Host::of_url(&ready.request.url));
        if let Some(pause) = store.pauses_of(wish.agent, wish.action, host.as_ref()).await?.into_iter().next() {
            return Err(NotTested::Paused(pause));
        }
        let order = TestOrder {
            agent: wish.agent,
            action: wish.action,
            tested,
            source: wish.call.source(),
            call_id: wish.call.call_id(),
            timeout_ms,
            sent: ready.as_ref().ok().map(|ready| &ready.sent),
            by: wish.by,
            reason: wish.reason,
        };
        // The gate is set before the test is recorded, so that it closes before the time that the database counts from.
        let send_gate = SendGate::closed();
        send_gate.move_to(Moment::now() + LONGEST_START);
        match store.begin_test(&order).await? {
            Begun::Test(test_id) => Ok(BegunTest { test_id, ready, signer, send_gate }),
            Begun::TooManyInFlight => Err(NotTested::TooManyInFlight),
            Begun::TooManyAMinute => Err(NotTested::TooManyAMinute),
        }
    }

    /// Sends the request of a test that has begun, and records what became of it. When `cut` completes, it ends at once with what
    /// is known by then.
    ///
    /// If the returned future is dropped, the result is lost: the test is shown as unknown after its time.
    ///
    /// # Errors
    /// Why there is nothing to tell. Something may have been sent.
    pub async fn finish(
        &self,
        store: &Store,
        begun: BegunTest,
        cut: impl Future<Output = ()>,
    ) -> Result<TestReport, NotTested> {
        let (test_id, (result, request)) = (begun.test_id, self.send(begun, cut).await);
        let record = recorded(store, test_id, &result).await?;
        Ok(TestReport { record, request })
    }

    /// The key of digests, if there are keys.
    fn digest_key(&self) -> Option<Arc<DigestKey>> {
        self.keys.as_ref().map(|keys| keys.digest_key())
    }

    /// The content that is tested, and what it is.
    async fn tested(&self, store: &Store, wish: &Wish<'_>) -> Result<(ActionSpec, Tested), NotTested> {
        match wish.what {
            What::File { spec, text } => {
                Ok((spec.clone(), Tested::File(digest_of(text, self.digest_key().as_deref()))))
            }
            What::Published(version) => {
                let found = store.actions(Some(wish.agent), Some(wish.action), version).await?.pop();
                let action = found.ok_or(NotTested::NoSuchAction)?;
                Ok((action.spec?, Tested::Version(action.version)))
            }
        }
    }

    /// The secrets that the templates name. A test without all that it needs is refused here, or fails when it is rendered.
    async fn secrets(&self, store: &Store, wish: &Wish<'_>, spec: &ActionSpec) -> Result<Secrets, NotTested> {
        let names = secrets::named(spec);
        let Some(first) = names.first() else { return Ok(Secrets::NONE) };
        let keys = self.keys.as_ref().ok_or_else(|| NotTested::NoKey(first.clone()))?;
        let opening = Opening { agent: wish.agent, names: &names, by: wish.by, reason: wish.reason };
        Ok(secrets::opened(store, keys, &opening).await?)
    }

    /// The keys with which the test is signed, if it is; or the problem because of which it is not sent.
    async fn signer(&self, store: &Store, wish: &Wish<'_>) -> Result<Result<Option<Signer>, Problem>, NotTested> {
        if store.signing_keys(wish.agent).await?.is_empty() {
            return Ok(Ok(None));
        }
        let keys = self.keys.as_ref().ok_or(NotTested::NoKeyToSign)?;
        let opened = signing::opened(store, keys, wish.agent, (wish.by, wish.reason)).await?;
        Ok(opened.map(Some).map_err(unsigned))
    }

    async fn send(&self, begun: BegunTest, cut: impl Future<Output = ()>) -> (TestResult, Option<MaskedRequest>) {
        let BegunTest { test_id, ready, signer, send_gate } = begun;
        let Ready { mut request, sent, mut shown } = match ready {
            Ok(ready) => ready,
            Err(problem) => {
                let ending = Ending::Final(Outcome::Failed { kind: Failure::Render, detail: problem.to_string() });
                return (TestResult { ending, record: AttemptRecord::default() }, None);
            }
        };
        if let Some(signer) = signer {
            let own = request.headers.len();
            signer.sign(&mut request, test_id);
            shown.iter_mut().for_each(|shown| shown.headers.extend_from_slice(&request.headers[own..]));
        }
        let attempt = self.webhook.send(&request, test_id, &send_gate, cut).await;
        // The client, too, may find that the request cannot be sent. Then nothing was attempted, and there is no latency.
        let attempted = !matches!(attempt.ending, Ending::Final(Outcome::Failed { kind: Failure::Render, .. }));
        let record = AttemptRecord { sent: Some(sent), timing: attempted.then_some(attempt.timing) };
        (TestResult { ending: attempt.ending, record }, Some(MaskedRequest::of(shown.unwrap_or(request))))
    }
}

/// Renders on a thread on which nothing else waits: a large call takes milliseconds.
async fn rendered(
    spec: ActionSpec,
    text: String,
    secrets: Secrets,
    digests: Option<Arc<DigestKey>>,
) -> Result<Ready, Problem> {
    let render = move || {
        let action = CompiledAction::compile(&spec).map_err(first)?;
        let call = Call::new(&text)?;
        let mut request = action.render_with(call, &secrets)?;
        let shown = if action.secrets().is_empty() { None } else { Some(action.render(call)?) };
        let sent = SentRequest {
            method: request.method,
            url: action.recorded_url().to_owned(),
            body_bytes: request.body.as_ref().map(String::len),
            body_digest: request.body.as_ref().map(|body| digest_of(body, digests.as_deref())),
            head_digest: digests.as_ref().map(|key| key.head_digest(shown.as_ref().unwrap_or(&request).head())),
            unresolved: std::mem::take(&mut request.unresolved),
        };
        Ok(Ready { request, sent, shown })
    };
    let defect = || Problem::new(Code::BadAction, Field::Action, "an internal error ended the rendering");
    tokio::task::spawn_blocking(render).await.unwrap_or_else(|_| Err(defect()))
}

/// Records a result and reads the test back. A lost answer of the database is asked for again: a result is recorded once.
async fn recorded(store: &Store, test_id: Uuid, result: &TestResult) -> Result<TestRecord, NotTested> {
    let mut tries = 1;
    loop {
        let record = match store.record_test(test_id, result).await {
            Ok(()) => store.test(test_id).await,
            Err(error) => Err(error),
        };
        match record {
            Ok(Some(record)) => return Ok(record),
            Ok(None) => return Err(NotTested::Gone),
            Err(_) if tries < MOST_TRIES => {
                tries += 1;
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            Err(source) => return Err(NotTested::NotRecorded { test_id, state: result.state(), source }),
        }
    }
}

/// What became of a test, in plain words.
pub fn in_words(record: &TestRecord) -> String {
    let code = record.response_code.map(|code| code.to_string()).unwrap_or_default();
    let detail = record.error_detail.as_deref().unwrap_or_default();
    match record.state {
        TestState::Sending => "the request may be in flight".to_owned(),
        TestState::Delivered => format!("the receiver took it, with status {code}"),
        TestState::Rejected => format!("the receiver had it and answered with status {code}, which is not 2xx"),
        TestState::Failed => format!("nothing was sent: {detail}"),
        TestState::Unknown => format!("nobody knows whether the receiver had it: {detail}"),
        TestState::Unsent => "the test was stopped before anything was sent".to_owned(),
    }
}
