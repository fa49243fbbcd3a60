//! What the tests need of the world outside.

pub mod attempt;
pub mod database;
pub mod inbox;
pub mod process;
pub mod receiver;
