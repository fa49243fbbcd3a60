//! Tests of actions: the last ones of an agent, and one with what was sent and what came back.

use askama::Template;
use uuid::Uuid;

use super::written;
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::frame;
use crate::console::people::Visit;
use crate::console::query::Parameters;
use crate::console::words::{Here, Icon, Mark, ShortTime, Time, Tone, agent_address, number, shown};
use crate::domain::action_test::{CallSource, TestState};
use crate::domain::body_digest;
use crate::domain::delivery::{BodyEnd, State};
use crate::service::action_test::in_words;
use crate::service::sending::Sending;
use crate::store::action_tests::TestRecord;

/// Tests on a page.
const TESTS: usize = 20;

#[derive(Template)]
#[template(path = "tests.html")]
struct TestsPage {
    here: Here,
    agent: String,
    agent_address: String,
    rows: Vec<Row>,
    next: Option<String>,
}

struct Row {
    id: Uuid,
    state: Mark,
    started: ShortTime,
    action: String,
    tested: String,
    result: String,
    ms: String,
    by: String,
    reason: String,
}

#[derive(Template)]
#[template(path = "test.html")]
struct TestPage {
    here: Here,
    id: Uuid,
    state: Mark,
    outcome: String,
    /// While it may be in flight: from when on it counts as unknown.
    open_until: Option<Time>,
    agent: String,
    agent_address: String,
    tests_address: String,
    action: String,
    started: Time,
    recorded: Option<Time>,
    facts: Vec<Fact>,
    sent_title: &'static str,
    line: Option<String>,
    sent: Vec<Fact>,
    answer: Vec<Fact>,
}

/// A name and a value.
struct Fact {
    name: &'static str,
    value: String,
}

/// The address of an agent's tests.
pub(super) fn tests_address(agent: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("agent", agent).finish();
    frame::inside(&format!("/tests?{query}"))
}

/// The last tests of an agent.
pub(super) async fn list(query: &str, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let mut all = Parameters::of(query)?;
    let agent = all.one("agent")?;
    let before = all.one("before")?.map(|id| id.parse::<Uuid>());
    all.end()?;
    let before = before.transpose().map_err(|_| Trouble::Wrong("before: expected the id of a test.".to_owned()))?;
    let agent = agent.ok_or_else(|| Trouble::Wrong("agent: expected the name of an agent.".to_owned()))?;
    let limit = i64::try_from(TESTS + 1).unwrap_or(i64::MAX);
    let store = visit.agent(&agent)?;
    let mut tests = store.tests(&agent, None, before, limit).await?;
    if tests.is_empty() && before.is_none() && store.action_summaries(&agent, None, 1).await?.is_empty() {
        return Err(Trouble::Missing(format!("No agent {} has an action.", shown(&agent))));
    }
    let is_more = tests.len() > TESTS;
    tests.truncate(TESTS);
    let next = tests.last().filter(|_| is_more);
    written(&TestsPage {
        here: Here::Agents,
        next: next.map(|last| format!("{}&before={}", tests_address(&agent), last.test_id)),
        rows: tests.iter().map(Row::of).collect(),
        agent_address: agent_address(&agent),
        agent: shown(&agent).into_owned(),
    })
}

/// One test.
pub(super) async fn page(id: Uuid, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let test = visit.test(id).await?;
    let line = test.method.as_ref().zip(test.url.as_ref());
    written(&TestPage {
        here: Here::Agents,
        id,
        state: test.state.into(),
        outcome: sentence(&in_words(&test)),
        open_until: (test.state == TestState::Sending).then_some(Time(test.given_up_at)),
        agent: shown(&test.agent).into_owned(),
        agent_address: agent_address(&test.agent),
        tests_address: tests_address(&test.agent),
        action: shown(&test.action).into_owned(),
        started: Time(test.started_at),
        recorded: test.recorded_at.map(Time),
        facts: facts(&test),
        sent_title: sent_title(test.state),
        line: line.map(|(method, url)| format!("{} {}", shown(method), shown(url))),
        sent: sent_facts(&test),
        answer: answer_facts(&test),
    })
}

fn sent_title(state: TestState) -> &'static str {
    match state {
        TestState::Delivered | TestState::Rejected => "What was sent",
        TestState::Failed | TestState::Unsent => "What would have been sent; nothing was",
        TestState::Sending | TestState::Unknown => "What was sent, or a part of it",
    }
}

fn facts(test: &TestRecord) -> Vec<Fact> {
    let own = Some(&test.db_user).filter(|user| **user != test.tested_by);
    some([
        Fact::new("tested", Some(tested(test))),
        Fact::new("call", Some(call(test))),
        Fact::new("webhook-id", Some(test.test_id)),
        Fact::new("by", Some(&test.tested_by)),
        Fact::new("database user", own),
        Fact::new("reason", Some(&test.reason)),
    ])
}

fn sent_facts(test: &TestRecord) -> Vec<Fact> {
    some([
        Fact::new("timeout", ms(Some(test.timeout_ms))),
        Fact::new("sent", connection(test)),
        Fact::new("body", test.request_bytes.map(|bytes| format!("{} bytes", number(bytes.into())))),
        Fact::new("digest of URL and headers", digest(test.request_head_hmac.as_deref())),
        Fact::new("digest of the body", digest(test.request_sha256.as_deref())),
        Fact::new("placeholders that found nothing", test.unresolved.as_ref().map(|paths| paths.join(", "))),
    ])
}

fn answer_facts(test: &TestRecord) -> Vec<Fact> {
    let end = test.body_end.map_or("", BodyEnd::as_str);
    some([
        Fact::new("status", test.response_code),
        Fact::new("body", test.response_bytes.map(|bytes| format!("{} bytes, {end}", number(bytes.into())))),
        Fact::new("digest of the body", digest(test.response_sha256.as_deref())),
        Fact::new("error", test.error_kind),
        Fact::new("detail", test.error_detail.as_ref()),
        Fact::new("name resolved after", ms(test.dns_ms)),
        Fact::new("connected after", ms(test.connected_ms)),
        Fact::new("response head after", ms(test.head_ms)),
        Fact::new("ended after", ms(test.latency_ms)),
    ])
}

/// A recorded digest, with what it is.
fn digest(recorded: Option<&str>) -> Option<String> {
    let (name, digest) = body_digest::in_words(recorded?);
    Some(format!("{name} {digest}"))
}

/// By which connection it was sent, if anything of it was.
fn connection(test: &TestRecord) -> Option<&'static str> {
    let state = match test.state {
        TestState::Delivered => State::Delivered,
        TestState::Rejected => State::Rejected,
        TestState::Unknown => State::Unknown,
        TestState::Sending | TestState::Failed | TestState::Unsent => return None,
    };
    Sending::in_state(state, test.latency_ms, test.connected_ms).map(|sending| sending.connection())
}

fn ms(ms: Option<i32>) -> Option<String> {
    ms.map(|ms| format!("{} ms", number(ms.into())))
}

fn some<const N: usize>(facts: [Option<Fact>; N]) -> Vec<Fact> {
    facts.into_iter().flatten().collect()
}

/// What was tested: a version, or a file by the beginning of its digest.
fn tested(test: &TestRecord) -> String {
    match (test.action_version, &test.file_sha256) {
        (Some(version), _) => format!("version {version}"),
        (None, Some(digest)) => {
            let (name, digest) = body_digest::in_words(digest);
            format!("a file, {name} {digest:.12}")
        }
        (None, None) => String::new(),
    }
}

fn call(test: &TestRecord) -> String {
    match (test.call_source, test.call_id) {
        (CallSource::Outbox, Some(call_id)) => call_id.to_string(),
        (CallSource::File, _) => "a file".to_owned(),
        (CallSource::Sample | CallSource::Outbox, _) => "the documented sample".to_owned(),
    }
}

/// Words with a capital letter and a period.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", shown(letters.as_str()))
}

impl Fact {
    fn new(name: &'static str, value: Option<impl ToString>) -> Option<Fact> {
        value.map(|value| Fact { name, value: shown(&value.to_string()).into_owned() })
    }
}

impl Row {
    fn of(test: &TestRecord) -> Row {
        let code = test.response_code.map(|code| code.to_string());
        Row {
            id: test.test_id,
            state: test.state.into(),
            started: ShortTime(test.started_at),
            action: shown(&test.action).into_owned(),
            tested: tested(test),
            result: code.or(test.error_kind.map(|kind| kind.to_string())).unwrap_or_default(),
            ms: test.latency_ms.map(|ms| number(ms.into())).unwrap_or_default(),
            by: shown(&test.tested_by).into_owned(),
            reason: shown(&test.reason).into_owned(),
        }
    }
}

impl From<TestState> for Mark {
    fn from(state: TestState) -> Mark {
        let (icon, tone) = match state {
            TestState::Sending => (Icon::ARROW, Tone::Plain),
            TestState::Delivered => (Icon::WELL, Tone::Well),
            TestState::Rejected => (Icon::CROSS, Tone::Trouble),
            TestState::Failed => (Icon::WARN, Tone::Trouble),
            TestState::Unknown => (Icon::ASK, Tone::Doubt),
            TestState::Unsent => (Icon::DASH, Tone::Plain),
        };
        Mark { icon, tone, word: state.as_str() }
    }
}
