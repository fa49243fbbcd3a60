//! postcall
#![forbid(unsafe_code)]
pub mod domain;
pub mod render;
pub mod webhook;
