//! What the tests need of the world outside.

pub mod receiver;
