//! The service layer: what people can do, whichever interface they do it through. An interface ([`cli`](crate::cli) today)
//! reads what was asked, calls a function of this room and shows the result; what is decided stands here.
//!
//! ```text
//! examination    whether an action may be published: its problems with their positions, its warnings
//! remarks        the same in one form for programs
//! preview        what an action would send for a call
//! comparison     what differs between two versions of an action
//! stored_action  a published action as JSON, for programs
//! past_request   the request of a past delivery, rendered again and masked
//! history        pages of history, a whole result, and what newly comes to an end
//! calls          which calls have arrived, and why some of them have no delivery
//! doctor         what an installation needs in order to work
//! find           what somebody means by an id: a delivery, a call, or the provider's id of a call
//! replay         replaying many deliveries, or judging what would be replayed
//! secrets        which secrets an action needs and its agent does not have
//! pause          what was probably meant by a name that does not exist
//! ```
//!
//! It knows [`store`](crate::store), [`render`](crate::render), [`webhook`](crate::webhook) and
//! [`domain`](crate::domain). It never knows an interface: it reads no
//! arguments and prints nothing.

pub mod calls;
pub mod comparison;
pub mod doctor;
pub mod examination;
pub mod find;
pub mod history;
pub mod past_request;
pub mod pause;
pub mod preview;
pub mod remarks;
pub mod replay;
pub mod secrets;
pub mod stored_action;
