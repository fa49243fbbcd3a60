//! The protocol as a model, explored in full: two dispatchers, three deliveries, one database, a receiver, people and a
//! clock. `tests/it/faults` shows the promise by faults of the real program; this shows it for every order of the steps
//! within the bounds of each scenario. docs/promise.md says what the model covers and what it does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]

mod arrows;
mod protocol;
mod scenarios;
mod traces;
mod variants;
