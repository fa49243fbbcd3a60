//! Invariants of postcall, checked from outside.

mod rendering_cases;
mod rendering_properties;
