//! All integration tests in one binary: linked once, sharing their support. Run them by `scripts/test`, which starts the
//! Postgres server they need.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]
#![expect(clippy::expect_used, reason = "likewise, saying why")]

mod actions;
mod dispatcher;
mod documented;
mod exactly_once;
mod faults;
mod history;
mod invariants;
mod leases;
mod migrations;
mod names_of_the_system;
mod outbox;
mod readme;
mod rendering_cases;
mod rendering_properties;
mod replay;
mod resolve;
mod support;
mod webhook_cut;
mod webhook_name_servers;
mod webhook_names;
mod webhook_outcomes;
mod webhook_tls;
mod webhook_wire;
