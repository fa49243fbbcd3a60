//! The console: pages for a browser that show what goes on. It only reads.
//!
//! ```text
//! server    connections, each bounded in number, time and size
//! gate      which requests are answered at all: by host, method, length and origin
//! route     which page a path names, and which methods it takes
//! form      the body of a request
//! query     the parameters of an address, as criteria
//! pages     what each page shows; `templates/` holds how
//! export    a whole result as one answer, streamed
//! answer    the response, with the headers that every answer has
//! failure   what is said where a page cannot be shown
//! words     how times, numbers, states and texts of others are written
//! ```
//!
//! It speaks HTTP with hyper, as the client of [`webhook`](crate::webhook) does, and not with a framework: a few pages
//! that only read need no more than a `match`, and so everything that decides about a request stands here and can be
//! read. The templates are checked when the program is compiled. They stand in this room and not beside `src/`, because
//! they are a part of it: a page and its template change together.
//!
//! It adds no right: a page shows what the database user may read, and says which role the rest needs. Nobody can log
//! in yet, so it listens on the loopback only ([`Loopback`]).

mod answer;
mod export;
mod failure;
mod form;
mod gate;
mod pages;
mod query;
mod route;
mod server;
mod words;

pub use gate::{Loopback, NotLoopback};
pub use server::{CONNECTIONS, Console, PATIENCE};
