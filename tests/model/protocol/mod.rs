//! The protocol: its states, its steps, and what must hold. `tests/it` uses it, too, to hold runs of the program against it.

pub mod actions;
pub mod explore;
pub mod marks;
pub mod possible;
pub mod properties;
pub mod scenario;
pub mod state;
pub mod statements;
pub mod steps;
pub mod story;
pub mod trace;
