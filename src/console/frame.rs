//! What stands around every page: where its visitor may go, who they are, and what they have just done. A page need not know any of
//! this, so it does not pass through all of them: the server sets it for the request, and the base template asks for it.

use std::cell::RefCell;

use super::people::{Scope, Visit};
use super::words::{agent_address, shown};
use crate::store::standby::Standby;

tokio::task_local! {
    static FRAME: RefCell<Frame>;
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
}

impl Frame {
    /// The frame for a visitor.
    pub(super) fn of(visit: &Visit<'_>, writes: bool, has_roles: bool, note: Option<String>) -> Frame {
        let visitor = &visit.visitor;
        Frame {
            name: visitor.name.as_deref().map(|name| shown(name).into_owned()),
            logs_out: visitor.has_session || matches!(visitor.scope, Scope::Agent(_)),
            writes,
            has_roles,
            only: visit.only_agent().map(agent_address),
            note,
            standby: None,
        }
    }
}

/// Answers a request, with a frame around whatever page it is answered by.
pub(super) async fn around<T>(answering: impl Future<Output = T>) -> T {
    FRAME.scope(RefCell::default(), answering).await
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
