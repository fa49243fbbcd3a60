//! What the tests need of the world outside.

pub mod attempt;
pub mod receiver;
