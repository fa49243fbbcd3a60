mod support;
mod webhook_outcomes;
