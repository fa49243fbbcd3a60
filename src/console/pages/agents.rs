//! The agents that have actions, by the beginning of their names.

use askama::Template;

use super::{agent, written};
use crate::console::answer::Answer;
use crate::console::failure::{READER, Trouble};
use crate::console::frame;
use crate::console::part::Part;
use crate::console::people::{Role, Visit};
use crate::console::query::Parameters;
use crate::console::words::{Here, agent_address, number, shown};
use crate::store::agents::{AgentSummary, From};
use crate::store::{Store, StoreError};

/// Agents on a page.
const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "agents.html")]
struct AgentsPage {
    here: Here,
    q: String,
    list: Part<List>,
    /// Whether the visitor may publish, also for an agent that has no action yet.
    may_publish: bool,
}

struct List {
    rows: Vec<Row>,
    previous: Option<String>,
    next: Option<String>,
}

struct Row {
    agent: String,
    address: String,
    actions: String,
    enabled: String,
}

pub(super) async fn page(query: &str, visit: &Visit<'_>) -> Result<Answer, Trouble> {
    let mut all = Parameters::of(query)?;
    // The page of an agent whose name cannot stand in a path.
    if let Some(name) = all.one("agent")? {
        return agent::page(&name, all, visit).await;
    }
    let q = all.one("q")?.unwrap_or_default();
    let from = match (all.one("after")?, all.one("before")?) {
        (None, None) => From::Start,
        (Some(agent), None) => From::After(agent),
        (None, Some(agent)) => From::Before(agent),
        (Some(_), Some(_)) => return Err(Trouble::Wrong("after and before: expected one of them.".to_owned())),
    };
    all.end()?;
    let list = Part::of(list(visit.everything()?, &q, &from).await, READER)?;
    written(&AgentsPage { here: Here::Agents, q, list, may_publish: visit.may(Role::Publisher) })
}

async fn list(store: &Store, q: &str, from: &From) -> Result<List, StoreError> {
    // One more than a page shows whether there is another page in this direction.
    let mut agents = store.agents(q, from, PAGE + 1).await?;
    let is_more = agents.len() > PAGE;
    let is_backwards = matches!(from, From::Before(_));
    if is_more && is_backwards {
        agents.remove(0);
    }
    agents.truncate(PAGE);
    let address = |name: &str, agent: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if !q.is_empty() {
            query.append_pair("q", q);
        }
        frame::inside(&format!("/agents?{}", query.append_pair(name, agent).finish()))
    };
    let previous = if is_backwards { is_more } else { *from != From::Start };
    let previous = agents.first().filter(|_| previous).map(|first| address("before", &first.agent));
    let next = agents.last().filter(|_| is_more || is_backwards).map(|last| address("after", &last.agent));
    Ok(List { rows: agents.iter().map(Row::of).collect(), previous, next })
}

impl Row {
    fn of(AgentSummary { agent, actions, enabled }: &AgentSummary) -> Row {
        Row {
            agent: shown(agent).into_owned(),
            address: agent_address(agent),
            actions: number(*actions),
            enabled: number(*enabled),
        }
    }
}
