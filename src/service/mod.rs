//! The service layer: what people can do, whichever interface they do it through. An interface ([`cli`](crate::cli) today)
//! reads what was asked, calls a function of this room and shows the result; what is decided stands here.
//!
//! ```text
//! examination    whether an action may be published: its problems with their positions, its warnings
//! remarks        the same in one form for programs
//! preview        what an action would send for a call
//! chosen_call    the call with which an action is tried out
//! action_test    testing an action by one real request, which is no delivery
//! draft          what a draft of an action would send for a chosen call, and which placeholders found nothing, and where
//! variables      which variables are known for an agent
//! comparison     what differs between two versions of an action
//! stored_action  a published action as JSON, for programs
//! past_request   the request of a past delivery, rendered again and masked
//! export         a result as CSV or JSON lines, some rows at a time
//! spreadsheet    CSV whose cells no spreadsheet runs
//! past_response  what came back for a past delivery, beside what history has
//! history        pages of history, a whole result, and what newly comes to an end
//! merged         pages of history of several databases as one
//! whole_of_all   a whole result of several databases as one
//! tail           the newest endings, as they come
//! calls          which calls have arrived, and why some of them have no delivery
//! audit          what people did, in pages and as a whole
//! doctor         what an installation needs in order to work
//! find           what somebody means by an id: a delivery, a call, or the provider's id of a call
//! replay         replaying many deliveries, or judging what would be replayed
//! resolve        saying what became of many unknown deliveries, or judging about which it would be said
//! needs          what needs somebody, with what to do about each
//! signing        signing of an agent's requests: enabled, its key rotated, and the signatures of a test
//! keys           which keys of operators are in use
//! publishing     publishing an action, sealed or not
//! secrets        which secrets an action names, and their values for a test
//! pause          what was probably meant by the name of an agent, an action or a host that does not exist
//! attribution    who does something by hand, and why
//! action_form    an action as a form has it
//! sending        whether the request of a delivery was sent, and by which connection
//! waiting        why a delivery waits
//! told           what a person has done, in one sentence
//! words          how numbers and durations are written for people
//! ```
//!
//! It knows [`store`](crate::store), [`render`](crate::render), [`webhook`](crate::webhook), [`vault`](crate::vault)
//! and [`domain`](crate::domain). It never knows an interface: it reads no
//! arguments and prints nothing.

pub mod action_form;
pub mod action_test;
pub mod attribution;
pub mod audit;
pub mod calls;
pub mod chosen_call;
pub mod comparison;
pub mod doctor;
pub mod draft;
pub mod examination;
pub mod export;
pub mod find;
pub mod history;
pub mod keys;
pub mod merged;
pub mod needs;
pub mod past_request;
pub mod past_response;
pub mod pause;
pub mod preview;
pub mod publishing;
pub mod remarks;
pub mod replay;
pub mod resolve;
pub mod seal_prove;
pub mod seal_verify;
pub mod secrets;
pub mod sending;
pub mod signing;
pub mod spreadsheet;
pub mod stored_action;
pub mod tail;
pub mod told;
pub mod variables;
pub mod waiting;
pub mod whole_of_all;
pub mod words;
