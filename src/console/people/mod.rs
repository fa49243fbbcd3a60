//! Who visits the console, and what they may do there.
//!
//! ```text
//! door       finds out who a visitor is, lets people log in and out
//! visit      a visitor with what they may read and change; pages get to the database by it only
//! users      the file of those who may log in
//! passwords  what is kept of a password
//! sessions   who has logged in
//! tries      how often somebody may try to log in
//! links      links that show one agent for a while
//! proxy      what a proxy in front of the console says about its visitors
//! ```
//!
//! A role in the console is a role of the database: each page is read, and each change made, in a session that has taken on
//! that role. So Postgres refuses what a visitor may not do, whatever the console thinks of it.

mod door;
mod links;
mod passwords;
mod proxy;
mod sessions;
mod tries;
mod users;
mod visit;

pub use links::{LONGEST_LINK, LinkKey, LinkKeyError};
pub use passwords::{PasswordError, hash};
pub use proxy::Proxy;
pub use users::{UsersError, UsersFile, line};

pub(super) use links::LinkRefused;

pub(super) use door::{Door, NoVisitor, NotLetIn};
pub use visit::Stores;

pub(super) use visit::{Scope, Visit, Visitor};

use crate::domain::closed_set::closed_set;

closed_set! {
    /// What a person may do in the console. Each role may also do what those before it may.
    #[derive(PartialOrd, Ord)]
    pub enum Role {
        /// Sees what goes on: no single delivery, no template.
        Viewer = "viewer",
        /// Reads what happened and who did it: no calls, no templates.
        Auditor = "auditor",
        /// Pauses, resumes, enables, disables, replays and resolves.
        Operator = "operator",
        /// Publishes, and reads templates.
        Publisher = "publisher",
    }
}

impl Role {
    /// The role of the database whose rights it has.
    pub fn of_database(self) -> &'static str {
        match self {
            Role::Viewer => "postcall_console_viewer",
            Role::Auditor => "postcall_auditor",
            Role::Operator => "postcall_console_operator",
            Role::Publisher => "postcall_publisher",
        }
    }

    /// The role of those who have all of these, which are separated by commas; `None` if one of them does not exist, or there
    /// is none.
    fn all_of(names: &str) -> Option<Role> {
        names.split(',').map(|name| Role::named(name.trim())).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// How the console knows who visits it.
pub enum Auth {
    /// Nobody logs in: whoever reaches the address has the rights of the console's database user. The name, if there is one, is
    /// recorded with what is changed.
    Nobody(Option<String>),
    /// People log in with a password.
    Users(UsersFile),
    /// A proxy says who they are.
    Proxy(Proxy),
}
