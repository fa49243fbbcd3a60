//! Invariants of postcall, checked from outside.

// Clippy's exception for tests does not reach the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rendering_cases;
mod rendering_properties;
