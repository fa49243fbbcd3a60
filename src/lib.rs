//! postcall
#![forbid(unsafe_code)]
pub mod cli;
pub mod dispatcher;
pub mod domain;
pub mod render;
pub mod store;
pub mod webhook;
