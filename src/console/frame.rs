//! What stands around every page: where its visitor may go, who they are, and what they have just done. A page need not know any of
//! this, so it does not pass through all of them: the server sets it for the request, and the base template asks for it.
//!
//! It also says which of several databases the request is about. Each address of a page is made by [`inside`], or begins with
//! `here.root()` in a template, so it leads to the same database: `console_several` goes through all pages to see that.

use std::cell::RefCell;

use super::people::{Scope, Visitor};
use super::words::{agent_address, shown};
use crate::store::standby::Standby;

tokio::task_local! {
    static FRAME: RefCell<Frame>;
}

/// What a page is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Of {
    /// One database: the only one, or one of several.
    #[default]
    One,
    /// All of several databases together.
    All,
}

/// A database, in the list from which one chooses.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) name: String,
    pub(super) address: String,
    /// Whether the page is about it.
    pub(super) is_current: bool,
}

/// What stands around a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// The visitor, if they have a name.
    pub(super) name: Option<String>,
    /// Whether they can log out.
    pub(super) logs_out: bool,
    /// Whether anything can be changed.
    pub(super) writes: bool,
    /// Whether visitors are told apart by roles.
    pub(super) has_roles: bool,
    /// The address of the only agent that they may see.
    pub(super) only: Option<String>,
    /// What they have just done.
    pub(super) note: Option<String>,
    /// What the server shows from which the page is read, if it is a standby.
    pub(super) standby: Option<Standby>,
    /// What the page is about.
    pub(super) of: Of,
    /// What stands before the path of each of its pages.
    pub(super) root: String,
    /// The database that it is about, if it is one of several.
    pub(super) database: Option<String>,
    /// The databases from which one chooses; empty if there is one only, or the visitor may see one only.
    pub(super) choices: Vec<Choice>,
}

impl Frame {
    /// The same frame, for a visitor.
    pub(super) fn around(self, visitor: &Visitor, note: Option<String>) -> Frame {
        let only = match &visitor.scope {
            Scope::Everything => None,
            Scope::Agent(own) => Some(under(&self.root, || agent_address(own))),
        };
        Frame {
            name: visitor.name.as_deref().map(|name| shown(name).into_owned()),
            logs_out: visitor.has_session || only.is_some(),
            choices: if only.is_some() { Vec::new() } else { self.choices },
            only,
            note,
            ..self
        }
    }
}

/// Answers a request, with a frame around whatever page it is answered by.
pub(super) async fn around<T>(answering: impl Future<Output = T>) -> T {
    FRAME.scope(RefCell::default(), answering).await
}

/// What `write` writes, as a part of a page below this root.
pub(super) fn under<T>(root: &str, write: impl FnOnce() -> T) -> T {
    let frame = Frame { root: root.to_owned(), ..current() };
    FRAME.sync_scope(RefCell::new(frame), write)
}

/// Sets the frame of the request that is being answered.
pub(super) fn set(frame: Frame) {
    // Outside of a request there is no page that could have a frame.
    let _outside = FRAME.try_with(|own| own.replace(frame));
}

/// Says from what the page of this request is read.
pub(super) fn read_from(standby: Option<Standby>) {
    let _outside = FRAME.try_with(|own| own.borrow_mut().standby = standby);
}

/// The frame of the request that is being answered.
pub(super) fn current() -> Frame {
    FRAME.try_with(|own| own.borrow().clone()).unwrap_or_default()
}

/// The address of a path, of the database that the request is about.
pub(super) fn inside(path: &str) -> String {
    let root = FRAME.try_with(|own| own.borrow().root.clone()).unwrap_or_default();
    root + path
}
