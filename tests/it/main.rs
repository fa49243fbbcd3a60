//! All integration tests in one binary: linked once, sharing their support.

mod support;
mod webhook_cut;
mod webhook_outcomes;
mod webhook_tls;
mod webhook_wire;
