//! One agent: its actions with what they send, the pauses that concern it, and its last deliveries.

use askama::Template;

use super::action_tests::tests_address;
use super::deliveries::Row as DeliveryRow;
use super::pause_form::PauseForm;
use super::story::outcome;
use super::written;
use crate::console::answer::Answer;
use crate::console::failure::{READER, Trouble};
use crate::console::frame::inside;
use crate::console::part::Part;
use crate::console::people::{Role, Visit};
use crate::console::query::Parameters;
use crate::console::words::{Here, Icon, Mark, ShortTime, Time, Tone, agent_address, number, shown, shown_lines};
use crate::domain::action::ActionSpec;
use crate::domain::claim::VersionKey;
use crate::domain::host::{Host, HostPattern};
use crate::domain::mask;
use crate::domain::pause::{MOST_PAUSES, NamedTarget};
use crate::domain::sealed_version::Unopened;
use crate::service::history;
use crate::store::agents::{ActionSummary, Templates};
use crate::store::history::HistoryFilter;
use crate::store::pauses::PauseRecord;
use crate::store::switches::LastSwitch;
use crate::store::{Store, StoreError};

/// Actions on a page. Each has up to 192 KiB of templates.
const ACTIONS: usize = 20;
/// The last deliveries that are shown.
const DELIVERIES: usize = 10;
/// The most pauses that are read, and looked through for those that concern the agent.
const PAUSES: i64 = MOST_PAUSES as i64;
/// Who may read templates.
pub(super) const TEMPLATE_READER: &str = "a database user with the role postcall_publisher";

#[derive(Template)]
#[template(path = "agent.html")]
struct AgentPage {
    here: Here,
    agent: String,
    deliveries_address: String,
    actions: Part<Vec<ActionView>>,
    next: Option<String>,
    withheld: Option<String>,
    switches_withheld: Option<String>,
    pauses: Part<Vec<PauseView>>,
    deliveries: Part<Vec<Told>>,
    /// The forms that pause the agent, or resume what concerns it; empty for those who may not.
    orders: Vec<PauseForm>,
    /// Where an action is made; `None` for those who may not.
    new_action: Option<String>,
    /// Where its tests are; `None` for those who may not read them.
    tests: Option<String>,
}

/// A delivery, and what became of it in plain words.
struct Told {
    row: DeliveryRow,
    outcome: String,
}

struct ActionView {
    name: String,
    /// As it is, for the forms.
    agent: String,
    raw_name: String,
    is_enabled: bool,
    /// The form that pauses it; `None` for those who may not change anything.
    pause: Option<PauseForm>,
    /// Where it is changed; `None` for those who may not.
    edit: Option<String>,
    /// Where its versions are; `None` for those who may not read history.
    versions: Option<String>,
    /// Where it is tested; `None` for those who may not.
    test: Option<String>,
    enabled: Mark,
    /// Who disabled it, if it is disabled.
    disabled: Option<SwitchView>,
    version: i32,
    method: String,
    timeout: String,
    target: String,
    published_at: Time,
    published_by: String,
    templates: Option<TemplatesView>,
    /// Why its templates are not shown, if they are sealed.
    sealed: Option<&'static str>,
}

/// Who switched an action, when and why.
pub(super) struct SwitchView {
    pub(super) at: Time,
    pub(super) by: String,
    pub(super) reason: String,
}

struct TemplatesView {
    url: String,
    /// The names of the headers, or why they cannot be listed.
    headers: String,
    /// The body; without one, what is sent instead.
    body: Option<(String, usize)>,
    instead: &'static str,
}

struct PauseView {
    target: String,
    since: ShortTime,
    by: String,
    reason: String,
}

pub(super) async fn page(agent: &str, mut parameters: Parameters, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let store = visit.agent(agent)?;
    let after = parameters.one("after")?;
    parameters.end()?;
    let read = store.action_summaries(agent, after.as_deref(), ACTIONS + 1).await;
    let mut summaries = Part::of(read, READER)?;
    let mut next = None;
    if let Part::Shown(summaries) = &mut summaries {
        if summaries.is_empty() && after.is_none() {
            return Err(Trouble::Missing(format!("No agent {} has an action.", shown(agent))));
        }
        let is_more = summaries.len() > ACTIONS;
        summaries.truncate(ACTIONS);
        next = summaries.last().filter(|_| is_more).map(|last| address_after(agent, &last.name));
    }
    let known = summaries.shown().map(Vec::as_slice).unwrap_or_default();
    let templates = Part::of(store.templates(&keys(known)).await, TEMPLATE_READER)?;
    let disabled: Vec<String> =
        known.iter().filter(|action| !action.enabled).map(|action| action.name.clone()).collect();
    let switches = Part::of(store.last_switches(agent, &disabled).await, READER)?;
    let switches_withheld = match &switches {
        Part::Withheld(why) if !disabled.is_empty() => Some(why.clone()),
        _ => None,
    };
    let pauses = Part::of(store.active_pauses(PAUSES).await, READER)?.map(|pauses| concerning(agent, known, pauses));
    let orders = orders(agent, &pauses, visit);
    let pauses = pauses.map(|pauses| pauses.iter().map(PauseView::of).collect());
    let deliveries = Part::of(last_deliveries(agent, store).await, READER)?;
    let withheld = if let Part::Withheld(why) = &templates { Some(why.clone()) } else { None };
    let templates = templates.shown().map(Vec::as_slice).unwrap_or_default();
    let switches = switches.shown().map(Vec::as_slice).unwrap_or_default();
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("agent", agent).finish();
    written(&AgentPage {
        here: Here::Agents,
        agent: shown(agent).into_owned(),
        deliveries_address: inside(&format!("/deliveries?{query}")),
        next,
        withheld,
        switches_withheld,
        pauses,
        deliveries,
        orders,
        new_action: visit.may(Role::Publisher).then(|| inside(&format!("/change/action?{query}"))),
        tests: (visit.visitor.role >= Role::Auditor).then(|| tests_address(agent)),
        actions: summaries
            .map(|actions| actions.iter().map(|action| ActionView::of(agent, action, templates, visit)).collect())
            .map(|actions: Vec<ActionView>| actions.into_iter().map(|action| action.with_switch(switches)).collect()),
    })
}

fn address_after(agent: &str, name: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("after", name).finish();
    let address = agent_address(agent);
    let separator = if address.contains('?') { '&' } else { '?' };
    format!("{address}{separator}{query}")
}

fn keys(actions: &[ActionSummary]) -> Vec<VersionKey> {
    actions.iter().map(|action| VersionKey { action_id: action.action_id, version: action.version }).collect()
}

async fn last_deliveries(agent: &str, store: &Store) -> Result<Vec<Told>, StoreError> {
    let filter = HistoryFilter { agent: Some(agent.to_owned()), ..HistoryFilter::default() };
    let page = history::page(store, &filter, None, DELIVERIES).await?;
    Ok(page.rows.iter().map(|row| Told { row: DeliveryRow::of(row), outcome: outcome(row) }).collect())
}

/// The pauses that keep something of this agent from being sent.
fn concerning(agent: &str, actions: &[ActionSummary], mut pauses: Vec<PauseRecord>) -> Vec<PauseRecord> {
    let hosts: Vec<Host> = actions.iter().filter_map(|action| Host::of_url(action.target.as_deref()?)).collect();
    pauses.retain(|pause| match &pause.target {
        NamedTarget::Agent(paused) => paused == agent,
        NamedTarget::Action { agent: paused, .. } => paused == agent,
        NamedTarget::Host(paused) => {
            let pattern: Option<HostPattern> = paused.parse().ok();
            pattern.is_some_and(|pattern| hosts.iter().any(|host| pattern.matches(host)))
        }
    });
    pauses
}

/// The forms that pause the agent, or resume what concerns it, for those who may.
fn orders(agent: &str, pauses: &Part<Vec<PauseRecord>>, visit: &Visit<'_>) -> Vec<PauseForm> {
    if !visit.may(Role::Operator) {
        return Vec::new();
    }
    let whole = NamedTarget::Agent(agent.to_owned());
    let paused: Vec<&NamedTarget> = pauses.shown().into_iter().flatten().map(|pause| &pause.target).collect();
    let pause = (!paused.contains(&&whole)).then(|| PauseForm::pause(&whole));
    paused.into_iter().map(PauseForm::resume).chain(pause).collect()
}

impl PauseView {
    fn of(pause: &PauseRecord) -> PauseView {
        PauseView {
            target: shown(&pause.target.to_string()).into_owned(),
            since: ShortTime(pause.begun.at),
            by: shown(&pause.begun.by).into_owned(),
            reason: shown(&pause.begun.reason).into_owned(),
        }
    }
}

impl ActionView {
    fn of(agent: &str, action: &ActionSummary, templates: &[Templates], visit: &Visit<'_>) -> ActionView {
        let target = || NamedTarget::Action { agent: agent.to_owned(), name: action.name.clone() };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("agent", agent).append_pair("name", &action.name).finish();
        let templates = templates.iter().find(|templates| templates.action_id == action.action_id);
        let enabled = if action.enabled {
            Mark { icon: Icon::WELL, tone: Tone::Well, word: "enabled" }
        } else {
            Mark { icon: Icon::DASH, tone: Tone::Plain, word: "disabled" }
        };
        ActionView {
            name: shown(&action.name).into_owned(),
            agent: agent.to_owned(),
            raw_name: action.name.clone(),
            is_enabled: action.enabled,
            pause: visit.may(Role::Operator).then(|| PauseForm::pause(&target())),
            edit: visit.may(Role::Publisher).then(|| inside(&format!("/change/action?{query}"))),
            versions: (visit.visitor.role >= Role::Auditor).then(|| inside(&format!("/versions?{query}"))),
            test: visit.may(Role::Publisher).then(|| inside(&format!("/change/test?{query}"))),
            enabled,
            disabled: None,
            version: action.version,
            method: shown(&action.method).into_owned(),
            timeout: format!("{} ms", number(action.timeout_ms.into())),
            target: shown(action.target.as_deref().unwrap_or("nowhere that can be sent to")).into_owned(),
            published_at: Time(action.published_at),
            published_by: shown(&action.published_by).into_owned(),
            templates: templates.and_then(|found| found.spec.as_ref().ok()).map(TemplatesView::of),
            sealed: templates.and_then(|found| found.spec.as_ref().err()).map(Unopened::why),
        }
    }
}

impl ActionView {
    /// The same, with who disabled it.
    fn with_switch(self, switches: &[LastSwitch]) -> ActionView {
        let own = switches.iter().find(|switch| switch.name == self.raw_name && !self.is_enabled && !switch.enabled);
        ActionView { disabled: own.map(SwitchView::of), ..self }
    }
}

impl SwitchView {
    pub(super) fn of(switch: &LastSwitch) -> SwitchView {
        SwitchView {
            at: Time(switch.at),
            by: shown(switch.by.as_deref().unwrap_or("somebody whose name was not recorded")).into_owned(),
            reason: switch.reason.as_deref().map(shown).unwrap_or_default().into_owned(),
        }
    }
}

impl TemplatesView {
    fn of(templates: &ActionSpec) -> TemplatesView {
        let has_body = templates.method.has_body();
        TemplatesView {
            url: shown(&mask::url(&templates.url)).into_owned(),
            headers: templates.headers.as_deref().map_or_else(|| "none".to_owned(), header_names),
            body: templates.body.as_deref().filter(|_| has_body).map(shown_lines),
            instead: if has_body { "The whole call is the body." } else { "No body is sent." },
        }
    }
}

/// The names of the headers in a template. Their values may be secrets, and are not shown.
fn header_names(template: &str) -> String {
    let names = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(template)
        .map(|headers| headers.keys().map(|name| shown(name).into_owned()).collect::<Vec<_>>().join(", "));
    names.unwrap_or_else(|_| {
        "they cannot be listed, because placeholders stand around them: postcall action show".to_owned()
    })
}
