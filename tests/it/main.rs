//! All integration tests in one binary: linked once, sharing their support.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]

mod support;
mod webhook_cut;
mod webhook_outcomes;
mod webhook_tls;
mod webhook_wire;
