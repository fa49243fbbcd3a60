//! The cast as types: what a call, an action, a request and a delivery are, and which way a delivery may move.
//!
//! Everything here is pure. No clock is read, nothing is random, and neither a database nor a socket is known: time
//! and identity are handed in. All other rooms may use this one; it uses none of them.

pub mod action;
pub mod action_file;
pub mod call;
pub mod chain;
pub mod claim;
pub mod delivery;
pub mod error_kind;
pub mod host;
pub mod kept;
pub mod mask;
pub mod nearest;
pub mod pause;
pub mod policy;
pub mod problem;
pub mod report;
pub mod request;
pub mod retention;
pub mod visible;
