//! postcall takes completed phone calls from a Postgres outbox and sends each to the webhooks that its agent has
//! configured, at most once.
//!
//! # The promise
//!
//! Every completed call that the platform commits reaches each action that was enabled for its agent **at most once
//! automatically, and exactly once whenever the outcome can be known**. What cannot be known is shown as `unknown`; it
//! is never hidden, and never sent again unless a person asks for that by name. Every committed call is accounted for:
//! it waits, is in flight, or is in exactly one final state.
//!
//! Nothing is retried. A failed request is not repeated, and receivers can rely on that.
//!
//! # Isolation
//!
//! **No single call, action, agent, receiver, name server, dispatcher or role can stop, delay without bound, alter or
//! read what belongs to another.** Ask of every queue, batch, cache, pool, lock and statement: whose trouble can fill
//! this, and who else then waits? A row that cannot be written does not hold up its batch. What is shared is bounded
//! for each of those that share it. No role can do more than its work needs.
//!
//! # The cast
//!
//! - **Call**: the completed call as one JSON object, as the platform wrote it ([`domain::call`]).
//! - **Agent**: the voice agent that held the call; actions belong to an agent.
//! - **Action**: what is sent for an agent's calls: method, URL, timeout, headers, body, enabled. An agent has any number
//!   of actions, each with a name ([`domain::action`]).
//! - **Publish**: to make a new immutable version of an action. The newest version of an enabled action is sent.
//! - **Outbox**: the table into which the platform inserts completed calls, in its own transaction.
//! - **Delivery**: one call for one action: at most one HTTP request, and all that is recorded about it
//!   ([`domain::delivery`]).
//! - **Lane**: the deliveries that wait for one action; the unit of scheduling. Lanes take turns ([`scheduler`]).
//! - **Placeholder**: `${path}` in a template, which is replaced by a value of the call ([`render`]).
//! - **Secret**: a value of an agent that its templates name as `${secret.NAME}`, and that nobody sees ([`domain::secret`]).
//!   It is **sealed** (encrypted) where it is stored, and **opened** for an attempt ([`vault`]).
//! - **Signing key**: what signs an agent's requests, so that receivers know who sent them ([`domain::signature`]). The **current**
//!   one is the newest; those that it has replaced sign beside it for a while. It is sealed as a secret is.
//! - **Message**: what the receiver gets; its id is the header `webhook-id`, the same in each replay of a delivery.
//! - **Host**: the name and port that a URL names; the unit of limits ([`domain::host`]).
//! - **Policy**: which targets may be called, as the operator has set it ([`domain::policy`]).
//! - **Place**: the right to have one request in flight. A dispatcher has `--concurrency` places ([`scheduler`]). A **slot** is
//!   what a delivery holds instead from the end of its attempt until its result is recorded; there are `--max-unrecorded`.
//! - **Claim**: the committed record that this dispatcher is about to send this delivery. It is made before the first
//!   byte is sent. Its **token** fences every later write: it counts only as long as this claim holds the delivery
//!   ([`domain::claim`]).
//! - **Dispatcher**: one running process; any number of them share one database.
//! - **Worker**: a part of a dispatcher that runs beside the others, as a task of its own: scout, claimer, finisher, keeper of
//!   the lease, recovery, housekeeping, prober, reporter, sealer. Those that need the database have a session each.
//! - **Lease**: how long a dispatcher counts as alive without a renewal. When it is over, the deliveries that the
//!   dispatcher had in flight become `unknown`. No request begins under a lease that may be over.
//! - **Send gate**: says until when requests may begin; it closes before the lease ends ([`webhook::SendGate`]).
//! - **Attempt**: what a dispatcher does for one claimed delivery: it renders the request and sends it once. What is known
//!   about the attempt comes from its **evidence**: which steps happened, never the text of an error ([`webhook`]).
//! - **Answer**: the HTTP response of a receiver. What is HTTP's own or a column of history is called `response`, as there.
//! - **Outcome**: what is known after the attempt. A **completion** is the end of a claim: either it is *finished*, with an
//!   outcome for history, or it is *unsent*, and the delivery waits again.
//! - **Resolution**: what was learnt later about an `unknown` delivery: the claim's own late result, or a person's
//!   **finding**: delivered, rejected or failed, the state that it gives the delivery.
//! - **Pause**: a person's order to send nothing for an agent, an action or a host for the time being. The deliveries
//!   wait, and do not fail ([`domain::pause`]).
//! - **Replay**: a delivery made by hand from an earlier one, linked to it, with who and why.
//! - **Test**: one real request that a person makes with an action, to see what a receiver answers. It is no delivery: it is
//!   recorded apart, counts nowhere, and is sent at most once ([`service::action_test`]).
//! - **Seal**: to hash rows of history as the **leaves** of one growing tree and to sign its root. A signed root is a
//!   **checkpoint**; a **slice** is what was sealed at once. What is changed afterwards can be named ([`seal`]).
//!
//! # A row's table is its state
//!
//! | table      | holds                                     | its life |
//! |------------|-------------------------------------------|----------|
//! | `outbox`   | calls                                     | inserted by the platform; leaves with its partition |
//! | `waiting`  | deliveries to be made                     | inserted by the outbox's trigger, deleted by the claim |
//! | `sending`  | deliveries in flight                      | inserted by the claim, deleted by whoever finishes it |
//! | `delivery` | deliveries that came to an end            | inserted once, never changed; leaves with its partition |
//!
//! Tests, which are no deliveries, are rows of `action_test`, and their results rows of `action_test_result`; both are only ever
//! added. A test without a result is in flight until its time is over, and unknown afterwards.
//!
//! [`dispatcher::retention`] removes old calls and history, if it is told to. It never removes a call that is still to
//! be sent.
//!
//! `waiting` and `sending` stay small, so that a claim costs the same, whatever the length of history.
//!
//! # The rooms
//!
//! A room is a module with a wall around it: a test holds what it knows. Imports go one way. All rooms know
//! [`domain`], which knows no other room. [`render`], [`webhook`] and [`store`] do not know each other: templates know
//! nothing of sockets, and sockets know nothing of SQL. [`scheduler`] decides whose turn it is, and does not know
//! them, either. [`vault`] seals and opens secrets; [`seal`] makes leaves, trees and signatures of history, and knows none of them.
//! [`dispatcher`] knows these six, and connects them in its loop. It records what
//! it does in [`metrics`], which tells it to monitoring, together with figures from the [`store`], and gives each attempt that has
//! ended to [`spans`], which exports it to a tracing system. [`operator`] is the HTTP client of these two for what the operator has
//! chosen, and knows no other room. [`service`] is what people do, through whichever interface; it knows
//! [`render`], [`webhook`], [`store`], [`seal`] and [`vault`], and no interface. [`console`] shows in a
//! browser what [`service`] and [`store`] tell, and has forms for what people do. [`cli`] reads arguments, calls the other rooms and
//! prints, and decides nothing about a delivery.
#![forbid(unsafe_code)]
#![warn(clippy::too_many_lines, clippy::panic)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod console;
pub mod dispatcher;
pub mod domain;
pub mod metrics;
pub mod operator;
pub mod render;
pub mod scheduler;
pub mod seal;
pub mod service;
pub mod spans;
pub mod store;
pub mod vault;
pub mod webhook;
