//! A visitor with what they may read and change. Pages have no other way to the database than a [`Visit`], and it asks each time
//! what is to be read: so no page can forget to look whether its visitor may see that.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Role;
use crate::console::answer::Answer;
use crate::console::failure::Trouble;
use crate::console::notes::{Notes, with_note};
use crate::console::words::shown;
use crate::store::action_tests::TestRecord;
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::standby::Standby;
use crate::store::{Store, StoreError};

/// Which part of what is stored a visitor may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::console) enum Scope {
    /// All of it, as far as their role permits.
    Everything,
    /// One agent with its deliveries.
    Agent(String),
}

/// Who visits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::console) struct Visitor {
    /// The name that is recorded with what they change; `None` for somebody whom nobody has named.
    pub(in crate::console) name: Option<String>,
    pub(in crate::console) role: Role,
    pub(in crate::console) scope: Scope,
    /// The only one of several databases that they may see; `None` for all.
    pub(in crate::console) database: Option<String>,
    /// Whether they have a session that they can end.
    pub(in crate::console) has_session: bool,
}

/// The databases of the console, one for each role: the same database, by sessions with other rights.
pub struct Stores {
    /// In the order of [`Role::ALL`]. Their sessions only read.
    reading: [Store; 4],
    /// Those of operators and of publishers, who may change something; `None` if the console only reads.
    writing: Option<[Store; 2]>,
    /// For `/health`, which waits for no page.
    health: Store,
    /// For the live tail, with the rights of [`Role::Auditor`]: one session for all who follow it.
    tail: Store,
}

/// A visitor at the database.
pub(in crate::console) struct Visit<'s> {
    pub(in crate::console) visitor: Visitor,
    stores: &'s Stores,
    notes: &'s Notes,
}

/// The right to change something, and whose name is recorded with it.
pub(in crate::console) struct Change<'v> {
    pub(in crate::console) store: &'v Store,
    pub(in crate::console) by: &'v str,
}

impl Stores {
    /// Stores for each role, in the order of [`Role::ALL`], and those of operators and of publishers by which something is
    /// changed; `None` for a console that only reads. `health` and `tail` have one session each.
    pub fn new(reading: [Store; 4], writing: Option<[Store; 2]>, health: Store, tail: Store) -> Stores {
        Stores { reading, writing, health, tail }
    }

    /// The time by the database's clock.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.health.now().await
    }

    /// The one for `/health`.
    pub(in crate::console) fn health(&self) -> &Store {
        &self.health
    }

    /// Whether anything can be changed by the console.
    pub(in crate::console) fn writes(&self) -> bool {
        self.writing.is_some()
    }

    /// Closes all sessions in an orderly way.
    pub async fn close(&self) {
        for store in self.reading.iter().chain(self.writing.iter().flatten()).chain([&self.health, &self.tail]) {
            store.close().await;
        }
    }
}

impl Visitor {
    /// That they may follow what comes to an end, of all agents.
    ///
    /// # Errors
    /// What stands against it.
    pub(in crate::console) fn may_follow(&self) -> Result<(), Trouble> {
        match self {
            Visitor { scope: Scope::Agent(_), .. } => Err(Trouble::OneAgentOnly),
            Visitor { role, .. } if *role < Role::Auditor => Err(Trouble::NeedsRole(Role::Auditor)),
            _ => Ok(()),
        }
    }
}

impl<'s> Visit<'s> {
    pub(in crate::console) fn new(visitor: Visitor, stores: &'s Stores, notes: &'s Notes) -> Visit<'s> {
        Visit { visitor, stores, notes }
    }

    /// Leads to the page behind a change, which says what was done.
    pub(in crate::console) fn done(&self, path: &str, what: String) -> Answer {
        match self.notes.keep(&self.visitor, what) {
            Some(id) => Answer::elsewhere(&with_note(path, &id)),
            None => Answer::elsewhere(path),
        }
    }

    fn store(&self) -> &'s Store {
        let [viewer, auditor, operator, publisher] = &self.stores.reading;
        match self.visitor.role {
            Role::Viewer => viewer,
            Role::Auditor => auditor,
            Role::Operator => operator,
            Role::Publisher => publisher,
        }
    }

    /// What the server shows from which their pages are read, if it is a standby.
    pub(in crate::console) async fn standby(&self) -> Result<Option<Standby>, Trouble> {
        Ok(self.store().standby().await?)
    }

    /// The time by the database's clock.
    pub(in crate::console) async fn now(&self) -> Result<DateTime<Utc>, Trouble> {
        Ok(self.store().now().await?)
    }

    /// To read what concerns more than one agent.
    pub(in crate::console) fn everything(&self) -> Result<&'s Store, Trouble> {
        match &self.visitor.scope {
            Scope::Everything => Ok(self.store()),
            Scope::Agent(_) => Err(Trouble::OneAgentOnly),
        }
    }

    /// To follow what comes to an end, of all agents.
    pub(in crate::console) fn tail(&self) -> Result<&'s Store, Trouble> {
        self.visitor.may_follow().map(|()| &self.stores.tail)
    }

    /// To read what concerns this agent. Others are as good as absent.
    pub(in crate::console) fn agent(&self, agent: &str) -> Result<&'s Store, Trouble> {
        match &self.visitor.scope {
            Scope::Agent(own) if own != agent => Err(no_such_agent(agent)),
            Scope::Agent(_) | Scope::Everything => Ok(self.store()),
        }
    }

    /// A delivery, and to read what concerns it.
    pub(in crate::console) async fn delivery(&self, id: Uuid) -> Result<(HistoryRow, &'s Store), Trouble> {
        let row = self.store().delivery(id).await?;
        let is_shown = |row: &HistoryRow| match &self.visitor.scope {
            Scope::Everything => true,
            Scope::Agent(own) => *own == row.agent,
        };
        match row.filter(is_shown) {
            Some(row) => Ok((row, self.store())),
            None => Err(Trouble::Missing(format!("There is no delivery {id}."))),
        }
    }

    /// A test of an action.
    pub(in crate::console) async fn test(&self, id: Uuid) -> Result<TestRecord, Trouble> {
        let test = self.store().test(id).await?;
        let is_shown = |test: &TestRecord| match &self.visitor.scope {
            Scope::Everything => true,
            Scope::Agent(own) => *own == test.agent,
        };
        test.filter(is_shown).ok_or_else(|| Trouble::Missing(format!("There is no test {id}.")))
    }

    /// To read the deliveries that match a filter, narrowed to those that may be seen. The store is for reading by this filter
    /// only.
    pub(in crate::console) fn deliveries(&self, filter: HistoryFilter) -> Result<(HistoryFilter, &'s Store), Trouble> {
        match (&self.visitor.scope, &filter.agent) {
            (Scope::Everything, _) => Ok((filter, self.store())),
            (Scope::Agent(own), Some(asked)) if own != asked => Err(no_such_agent(asked)),
            (Scope::Agent(own), _) => Ok((HistoryFilter { agent: Some(own.clone()), ..filter }, self.store())),
        }
    }

    /// The only agent that may be seen, if there is one.
    pub(in crate::console) fn only_agent(&self) -> Option<&str> {
        match &self.visitor.scope {
            Scope::Everything => None,
            Scope::Agent(own) => Some(own),
        }
    }

    /// Whether the visitor may make changes that need this role: whether a page shows the forms for them.
    pub(in crate::console) fn may(&self, role: Role) -> bool {
        self.stores.writes() && self.why_not(role).is_none()
    }

    /// What stands against a change that needs this role.
    fn why_not(&self, role: Role) -> Option<Trouble> {
        match self.visitor {
            Visitor { scope: Scope::Agent(_), .. } => Some(Trouble::OneAgentOnly),
            Visitor { role: own, .. } if own < role => Some(Trouble::NeedsRole(role)),
            Visitor { name: None, .. } => Some(Trouble::ReadOnly),
            _ => None,
        }
    }

    /// The right to make a change that needs this role.
    ///
    /// # Errors
    /// If the console only reads, or the visitor has not this role, or sees one agent only.
    pub(in crate::console) fn change(&self, role: Role) -> Result<Change<'_>, Trouble> {
        if let Some(trouble) = self.why_not(role) {
            return Err(trouble);
        }
        let (Some([operator, publisher]), Some(by)) = (&self.stores.writing, &self.visitor.name) else {
            return Err(Trouble::ReadOnly);
        };
        match self.visitor.role {
            // They change nothing, whatever a page asks for.
            Role::Viewer | Role::Auditor => Err(Trouble::NeedsRole(Role::Operator)),
            Role::Operator => Ok(Change { store: operator, by }),
            Role::Publisher => Ok(Change { store: publisher, by }),
        }
    }
}

fn no_such_agent(agent: &str) -> Trouble {
    Trouble::Missing(format!("No agent {} has an action.", shown(agent)))
}
