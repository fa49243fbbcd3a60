//! The form that tests an action: one real request. Its page says what will be sent, and nothing that was typed is lost if the test
//! is refused.

use askama::Template;
use http::StatusCode;

use super::editor::{CallChoice, latest_calls};
use super::sentence;
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::form::Form;
use crate::console::frame;
use crate::console::people::{Role, Visit};
use crate::console::query::Parameters;
use crate::console::testing::{Begun, MOST_RUNNING, NotBegun, Order, Testing};
use crate::console::words::{Here, agent_address, number, shown};
use crate::domain::action::ActionSpec;
use crate::domain::chain::chain;
use crate::domain::mask;
use crate::domain::warning::WarningCode;
use crate::service::action_test::NotTested;
use crate::service::attribution;
use crate::service::chosen_call::{ChosenCall, NoCall};
use crate::service::examination::{Storage, warnings};
use crate::store::pauses::PauseRecord;

/// What was typed, and what it is about. The version is the one whose page was shown, so that no other is sent.
struct Typed {
    agent: String,
    name: String,
    version: Option<i32>,
    /// Empty for the sample.
    call: String,
    reason: String,
}

/// What is wrong with what was typed, or why there was no test.
#[derive(Default)]
struct Wrong {
    notice: String,
    call: Option<&'static str>,
    reason: Option<String>,
}

#[derive(Template)]
#[template(path = "test_form.html")]
struct TestPage {
    here: Here,
    /// The id of this form, which makes one test.
    form: String,
    typed: Typed,
    wrong: Wrong,
    agent: String,
    agent_address: String,
    name: String,
    version: i32,
    line: String,
    timeout: String,
    is_enabled: bool,
    warnings: Vec<String>,
    calls: Vec<CallChoice>,
}

/// The form.
pub(in crate::console::pages) async fn form(
    query: &str,
    visit: &Visit<'_>,
    testing: &Testing,
) -> Result<Answer, Trouble> {
    visit.change(Role::Publisher)?;
    let mut all = Parameters::of(query)?;
    let (agent, name) = (all.one("agent")?.unwrap_or_default(), all.one("name")?.unwrap_or_default());
    all.end()?;
    let typed = Typed { agent, name, version: None, call: String::new(), reason: String::new() };
    page(StatusCode::OK, typed, Wrong::default(), visit, testing).await
}

/// The page of the form, with what is sent as the action is now.
async fn page(
    status: StatusCode,
    typed: Typed,
    wrong: Wrong,
    visit: &Visit<'_>,
    testing: &Testing,
) -> Result<Answer, Trouble> {
    let store = visit.agent(&typed.agent)?;
    let found = store.actions(Some(&typed.agent), Some(&typed.name), typed.version).await?.pop();
    let action = found.ok_or_else(|| no_such_action(&typed))?;
    let spec = action.spec.as_ref()?;
    let line = format!("{} {}", spec.method, mask::url(&spec.url));
    let page = TestPage {
        here: Here::Agents,
        form: testing.new_form(&visit.visitor).ok_or(Trouble::Defect)?,
        agent: shown(&typed.agent).into_owned(),
        agent_address: agent_address(&typed.agent),
        name: shown(&typed.name).into_owned(),
        version: action.version,
        line: shown(&line).into_owned(),
        timeout: format!("{} ms", number(spec.timeout_ms.into())),
        is_enabled: action.enabled,
        warnings: warnings_of(spec, testing),
        calls: latest_calls(visit, &typed.agent).await,
        typed,
        wrong,
    };
    Ok(Answer::page(status, page.render()?))
}

/// What is probably wrong with the action. Where it may go is judged by this console's own rules, which a test keeps to.
fn warnings_of(spec: &ActionSpec, testing: &Testing) -> Vec<String> {
    let is_of_target =
        |code| matches!(code, WarningCode::PlainHttp | WarningCode::PrivateAddress | WarningCode::ForbiddenPort);
    let is_permitted = testing.permits(&spec.url);
    let warnings = warnings(spec, Storage::Sealed)
        .into_iter()
        .filter(|located| !is_permitted || !is_of_target(located.warning.code));
    warnings.map(|located| shown(&located.shown()).into_owned()).collect()
}

fn no_such_action(typed: &Typed) -> Trouble {
    Trouble::Missing(format!("Agent {} has no action {}.", shown(&typed.agent), shown(&typed.name)))
}

impl Typed {
    fn of(form: &Form) -> Result<(Typed, i32), Trouble> {
        let text = |name| form.needed(name).map(str::to_owned);
        let wrong = |_| Trouble::Wrong("version: expected a number.".to_owned());
        let version = form.needed("version")?.parse().map_err(wrong)?;
        let (agent, name, call, reason) = (text("agent")?, text("name")?, text("call")?, text("reason")?);
        Ok((Typed { agent, name, version: Some(version), call, reason }, version))
    }

    fn chosen_call(&self) -> Result<ChosenCall, &'static str> {
        match self.call.trim() {
            "" => Ok(ChosenCall::Sample),
            id => id
                .parse()
                .map(ChosenCall::Past)
                .map_err(|_| "Expected the id of a call, such as the page of calls lists, or nothing."),
        }
    }
}

/// Takes the form: begins the test and leads to its page, or shows the form again.
pub(in crate::console::pages) async fn sent(
    form: &Form,
    visit: &Visit<'_>,
    testing: &Testing,
) -> Result<Answer, Trouble> {
    let change = visit.change(Role::Publisher)?;
    let (typed, version) = Typed::of(form)?;
    let (call, reason) = match (typed.chosen_call(), attribution::reason(&typed.reason)) {
        (Ok(call), Ok(reason)) => (call, reason),
        (call, reason) => {
            let reason = reason.err().map(|wrong| sentence(&wrong));
            let wrong = Wrong { notice: "Nothing was sent.".to_owned(), call: call.err(), reason };
            return page(StatusCode::UNPROCESSABLE_ENTITY, typed, wrong, visit, testing).await;
        }
    };
    let (agent, action) = (typed.agent.clone(), typed.name.clone());
    let order = Order { agent, action, version, call, by: change.by.to_owned(), reason };
    let why = match testing.begin(form.needed("form")?, &visit.visitor, change.store, order).await {
        Ok(Begun::Now(test_id)) => {
            return Ok(visit.done(&frame::inside(&format!("/tests/{test_id}")), "The test has begun.".to_owned()));
        }
        Ok(Begun::Before(test_id)) => {
            let done = "This is the test of that form, which was sent before. Nothing was sent again.";
            return Ok(visit.done(&frame::inside(&format!("/tests/{test_id}")), done.to_owned()));
        }
        Err(NotBegun::ReadOnly) => return Err(Trouble::ReadOnly),
        Err(NotBegun::Defect) => return Err(Trouble::Defect),
        Err(NotBegun::UnknownForm) => {
            "the page of this form is too old, or from before the console was started again: look at it, and send it again"
                .to_owned()
        }
        Err(NotBegun::Full) => {
            format!("{MOST_RUNNING} tests of this console are in flight, and there cannot be more: wait for the end of one")
        }
        Err(NotBegun::Refused(refused)) => refusal(&refused, &typed)?,
    };
    let wrong = Wrong { notice: format!("Nothing was sent. {}", sentence(&why)), ..Wrong::default() };
    page(StatusCode::CONFLICT, typed, wrong, visit, testing).await
}

/// Why a test was refused, for the page of its form.
fn refusal(refused: &NotTested, typed: &Typed) -> Result<String, Trouble> {
    let unreadable = "your role may not read calls: leave the call empty, and the documented sample is sent";
    match refused {
        NotTested::NoSuchAction => Err(no_such_action(typed)),
        NotTested::NoCall(NoCall::Forbidden) => Ok(unreadable.to_owned()),
        NotTested::NoCall(NoCall::Store(error)) if error.is_forbidden() => Ok(unreadable.to_owned()),
        NotTested::NoCall(NoCall::Store(error)) | NotTested::Store(error) => Err(error.into()),
        NotTested::Paused(pause) => Ok(paused(pause)),
        other => Ok(shown(&chain(other).to_string()).into_owned()),
    }
}

fn paused(pause: &PauseRecord) -> String {
    let (target, begun) = (pause.target.to_string(), &pause.begun);
    format!(
        "{} is paused since {} by {}: {}. To test it, resume it first.",
        shown(&target),
        begun.at.format("%Y-%m-%d %H:%M:%S UTC"),
        shown(&begun.by),
        shown(&begun.reason)
    )
}
