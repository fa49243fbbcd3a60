//! Hides what is probably a secret wherever a request is shown or kept.
