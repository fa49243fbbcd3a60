//! The terms of postcall as types: calls, actions, requests and deliveries, and the states through which a delivery can
//! go.
//!
//! Everything here is pure: it uses no clock, no random numbers, no database and no socket. Callers pass in time and
//! identity. All other rooms may use this one; it uses none of them.

pub mod act;
pub mod action;
pub mod action_file;
pub mod action_test;
pub mod body_digest;
pub mod call;
pub mod chain;
pub mod checkup;
pub mod claim;
pub mod client_certificate;
pub(crate) mod closed_set;
pub mod delivery;
pub mod documented;
pub mod duration;
pub mod error_kind;
pub mod excerpt;
pub mod excess;
pub mod host;
pub mod kept;
pub mod mask;
pub mod moment;
pub mod nearest;
pub mod pause;
pub mod percent;
pub mod policy;
pub mod problem;
pub mod report;
pub mod request;
pub mod retention;
pub mod seal;
pub mod sealed_version;
pub mod secret;
pub mod signature;
pub mod visible;
pub mod warning;
