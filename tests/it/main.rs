//! All integration tests, in one binary: it is linked once, and the tests share their support code. Run them by
//! `scripts/test`, which starts the Postgres server that they need.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]
#![expect(clippy::expect_used, reason = "likewise, saying why")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test looks at the program from outside, by clocks and queues of its own"
)]

mod action_test;
mod action_versions;
mod actions;
mod advice;
mod attacks;
mod backup;
mod calls;
mod client_certificates;
mod closed_sets;
mod connecting;
mod console_browser;
mod console_changes;
mod console_comfort;
mod console_editor;
mod console_ledger;
mod console_live;
mod console_of_all;
mod console_pages;
mod console_people;
mod console_safety;
mod console_several;
mod console_several_broken;
mod console_tests;
mod definers;
mod deploy;
mod dispatcher;
mod doctor;
mod documented;
mod documents;
mod drafts;
mod egress;
mod errors;
mod exactly_once;
mod examples;
mod excerpts;
mod excess;
mod fair;
mod faults;
mod following;
mod fuzz;
mod guards;
mod history;
mod history_of_all;
mod history_states;
mod hostile;
mod invariants;
mod key_files;
mod leases;
mod log;
mod lookups;
mod metrics;
mod migrations;
mod monitoring;
mod names_of_the_system;
mod obstacles;
mod open;
mod outbox;
mod partitions;
mod pauses;
mod planted;
mod poison;
mod policy;
mod printed;
#[path = "../model/protocol/mod.rs"]
#[allow(dead_code, reason = "tests/model explores more of it than a trace needs")]
mod protocol;
mod publisher;
mod read_url;
mod rendering_cases;
mod rendering_memory;
mod rendering_properties;
mod rendering_reference;
mod replay;
mod replay_or_finding;
mod resolve;
mod result_columns;
mod retention;
mod rights;
mod rogue_dispatcher;
mod seal;
mod seal_insider;
mod seal_outlet;
mod seal_run;
mod seal_timestamps;
mod sealed_versions;
mod search;
mod secrecy;
mod secrets;
mod secrets_rekeyed;
mod secrets_tested;
mod sessions;
mod several_databases;
mod shell;
mod show;
mod signals;
mod signing;
mod signing_documented;
mod sizes;
mod spans;
mod status;
mod support;
mod targets;
mod tested_acts;
mod toml_actions;
mod two_phase;
mod upgrade;
mod walls;
mod ways_out;
mod webhook_answers;
mod webhook_connect;
mod webhook_cut;
mod webhook_idle;
mod webhook_name_servers;
mod webhook_names;
mod webhook_outcomes;
mod webhook_tls;
mod webhook_wire;
mod whole_history;
