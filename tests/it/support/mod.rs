//! What the tests need from outside the program.

pub mod accounts;
pub mod attempt;
pub mod browser;
pub mod cluster;
pub mod console;
pub mod database;
pub mod endings;
pub mod fleet;
pub mod inbox;
pub mod intruder;
pub mod life;
pub mod name_server;
pub mod namespace;
pub mod platform;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod scrape;
pub mod seed;
pub mod silent;
pub mod sources;
pub mod tally;
pub mod tls;
pub mod tools;
pub mod traces;
pub mod wire;
