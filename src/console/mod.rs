//! The console: pages for a browser that show what goes on, and forms that change something.
//!
//! ```text
//! server    connections, each bounded in number, time and size
//! crowd     who has a connection, and who loses it if all places are taken
//! gate      which requests are answered at all: by host, method, length and origin
//! site      the console's own host, origin and cookies
//! databases the databases that are served, each with what belongs to it alone
//! route     which page a path names, and which methods it takes
//! form      the body of a request
//! entrance  the pages by which people come in and go
//! people    who visits, and what they may read and change
//! query     the parameters of an address, as criteria
//! pages     what each page shows; `templates/` holds how
//! assets    the scripts, embedded
//! policy    what a browser may do with an answer
//! export    a whole result as one answer, streamed
//! glance    what the overview has read within the last seconds, for all who look
//! notes     what somebody has just done, for the page that they see next
//! frame     what stands around every page
//! answer    the response, with the headers that every answer has
//! failure   what is said where a page cannot be shown
//! part      a part of a page, or why it is not shown
//! live      what comes to an end, as it comes
//! testing   tests of actions that are in flight, and which form made which
//! marked    texts of a request, with the places that lack a value
//! together  what is asked of all of several databases at once
//! words     how times, numbers, states and texts of others are written
//! ```
//!
//! It speaks HTTP with hyper, as the client of [`webhook`](crate::webhook) does, and not with a framework: its pages need
//! no more than a `match`, and so everything that decides about a request stands here and can be read. The templates are
//! checked when the program is compiled. They stand in this room and not beside `src/`, because they are a part of it: a
//! page and its template change together.
//!
//! It adds no right: a page shows what the visitor's role may read in the database, and says which role the rest needs.
//! Where nobody logs in, it listens on the loopback only ([`Loopback`]). It only reads unless it is told otherwise.

mod answer;
mod assets;
mod crowd;
mod databases;
mod entrance;
mod export;
mod failure;
mod form;
mod frame;
mod gate;
mod glance;
mod live;
mod marked;
mod notes;
mod pages;
mod part;
mod people;
mod policy;
mod query;
mod route;
mod server;
mod site;
mod testing;
mod together;
mod words;

pub use databases::{Database, PAGES};
pub use gate::{Loopback, NotLoopback};
pub use people::{
    Auth, LONGEST_LINK, LinkKey, LinkKeyError, PasswordError, Proxy, Role, Stores, UsersError, UsersFile, hash, line,
};
pub use server::{CONNECTIONS, Console, PATIENCE, Settings};
pub use site::{NotPublic, PublicUrl};
