//! `postcall check-invariants`: checks whether every call is accounted for.

use clap::Args;
use serde_json::{Value, json};

use super::databases::{Databases, Heads, print_json_of};
use super::{CliError, ONE_CONNECTION, print_line};
use crate::domain::delivery::State;
use crate::domain::visible::visible;
use crate::store::invariants::{Accounts, Ages, Checked, Invariant};

/// What is said where views and functions could not be compared.
pub(super) const NOT_COMPARED: &str =
    "views and functions were not compared: nothing can be made here beside them (a standby, or no right TEMPORARY)";

/// What is said where row-level security keeps the tables from being read.
const ROWS_ARE_HIDDEN: &str = "nothing else was checked: rows are hidden from this database user";

/// Check that every committed call is accounted for. Changes nothing.
///
/// All checks use one snapshot, while platform and dispatchers go on:
///
///   one_place           no delivery is in more than one of waiting, sending and history
///   one_delivery        no call has two deliveries for the same action; replays do not count
///   none_missing        a call has a delivery for each action that was enabled for its agent when it
///                       was inserted, as its row recorded then (outbox.action_ids). Not checked for
///                       calls from before that column existed, which are counted below, nor for
///                       calls from before history begins (postcall.history_begins)
///   no_replay_missing   the delivery of every replay exists, as far back as history is kept
///   complete            the call and the action of each delivery that waits or is in flight exist
///   none_stuck          no delivery is in flight under a dispatcher that does not exist. The rest is
///                       judged by time: no delivery is in flight for more than a minute after its
///                       dispatcher has stopped or was lost, or after the end of both its lease and
///                       the longest timeout (120 s), or after that timeout and the longest lease
///                       (600 s) together
///   guards_on           the triggers and constraints that keep rows as they were written exist, are
///                       on, and are those that were shipped, on each partition too, and no partition
///                       is detached; the views and functions are those of the migrations, and no
///                       rule or row-level security hides rows. Changes that were made while a guard
///                       was off are not found
///
/// For information, it also prints the ages of the oldest waiting delivery since its call was
/// inserted, of the oldest in flight since its claim, and of the oldest unknown since it was
/// recorded; and how many calls are from before outbox.action_ids existed.
///
/// Exit status 0 if all hold, 1 if not. It reads whole tables, and its snapshot keeps vacuum from the
/// queue meanwhile. The auditor's role suffices.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    databases: Databases,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let heads = if self.json { Heads::Hidden } else { Heads::Shown };
        self.databases
            .each(heads, async |database, name| {
                let accounts = database.open(ONE_CONNECTION).await?.check_invariants().await?;
                tell(&accounts, self.json, name)
            })
            .await
    }
}

/// Prints what was found in a database, and fails if something is wrong.
fn tell(accounts: &Accounts, json: bool, database: Option<&str>) -> Result<(), CliError> {
    let violated = accounts.checked.iter().filter(|checked| checked.violations > 0).count();
    if json {
        print_json_of(database, as_json(accounts, violated == 0))?
    } else {
        print_line(&as_text(accounts))?
    }
    match violated {
        0 => Ok(()),
        _ => Err(CliError::Problem(format!("{violated} of {} invariants are violated", accounts.checked.len()))),
    }
}

fn as_json(accounts: &Accounts, holds: bool) -> Value {
    let invariants: Vec<Value> = accounts
        .checked
        .iter()
        .map(|checked| {
            json!({
                "name": checked.invariant.as_str(),
                "holds": checked.violations == 0,
                "violations": checked.violations,
                "offenders": checked.offenders,
            })
        })
        .collect();
    let ages: serde_json::Map<String, Value> =
        by_state(accounts.ages).into_iter().map(|(state, age)| (state.to_string(), json!(age))).collect();
    json!({
        "holds": holds,
        "invariants": invariants,
        "oldest_s": ages,
        "calls_not_asked_about": accounts.undecided_calls,
        "definitions_compared": accounts.definitions_compared,
        "rows_are_hidden": accounts.rows_are_hidden,
    })
}

/// The ages with the states that they are of.
fn by_state(Ages { waiting, sending, unknown }: Ages) -> [(State, Option<f64>); 3] {
    [(State::Waiting, waiting), (State::Sending, sending), (State::Unknown, unknown)]
}

fn as_text(accounts: &Accounts) -> String {
    if accounts.rows_are_hidden {
        let lines = accounts.checked.iter().flat_map(lines).chain([ROWS_ARE_HIDDEN.to_owned()]);
        return lines.collect::<Vec<_>>().join("\n");
    }
    accounts
        .checked
        .iter()
        .flat_map(lines)
        .chain(by_state(accounts.ages).map(|(state, age)| match age {
            Some(seconds) => format!("oldest {state}: {seconds:.1} s"),
            None => format!("oldest {state}: none"),
        }))
        .chain([format!("calls from before their actions were kept: {}", accounts.undecided_calls)])
        .chain((!accounts.definitions_compared).then(|| NOT_COMPARED.to_owned()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The lines for one invariant: that it holds, or how often it is violated, and by which offenders.
fn lines(checked: &Checked) -> Vec<String> {
    let name = checked.invariant.as_str();
    if checked.violations == 0 {
        return vec![format!("holds     {name}")];
    }
    let what = meaning(checked.invariant);
    let mut lines = vec![format!("VIOLATED  {name}: {what}: {}", checked.violations)];
    lines.extend(checked.offenders.iter().map(|offender| format!("          {}", visible(offender))));
    let more = checked.violations - checked.offenders.len() as i64;
    if more > 0 {
        lines.push(format!("          and {more} more"));
    }
    lines
}

/// What a violation of this invariant means.
fn meaning(invariant: Invariant) -> &'static str {
    match invariant {
        Invariant::OnePlace => "deliveries in two places",
        Invariant::OneDelivery => "calls with two deliveries of one action",
        Invariant::NoneMissing => "calls without a delivery that they ought to have",
        Invariant::NoReplayMissing => "replays without their delivery",
        Invariant::Complete => "deliveries without their call or action",
        Invariant::NoneStuck => "deliveries in flight for too long",
        Invariant::GuardsOn => "guards, views and functions that are off, missing, or not those that were shipped",
    }
}
