//! The examples of docs/receivers.md, run against real deliveries.
