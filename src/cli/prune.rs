//! `postcall prune`: removes old calls and history.

use clap::Args;
use serde_json::{Value, json};

use super::table::{Table, time};
use super::{CliError, Database, Format, ONE_CONNECTION};
use crate::dispatcher::retention::{PRUNING_PATIENCE, Pruned, prune};
use crate::domain::retention::{Days, Retention};
use crate::store::retention::{Planned, Verdict};

/// Remove calls and history that are older than what is to be kept.
///
/// A partition is dropped when all of it is older: a week of calls or a month of history, by the times in
/// their ids, in UTC. Calls and deliveries outside of such partitions (with ids that are not times, or in
/// the default partition) are deleted one by one, by the time of their insertion. Findings and replays are
/// removed with their delivery. A partition stays if one of its deliveries waits or is in flight: the table
/// names the delivery.
///
/// Inserts and dispatchers go on meanwhile. If a partition is in use, the command tries again for some
/// seconds and then leaves it; a command that was interrupted can simply be repeated. `postcall run` does
/// the same every hour if it is given the same settings.
///
/// The owner of the schema may remove everything that is at least a day old. Others (postcall_dispatcher,
/// postcall_publisher) may remove what postcall.retention permits; by default it permits nothing.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    keep: Keep,

    /// Print what would be removed. Changes nothing.
    #[arg(long)]
    dry_run: bool,

    /// How the result is printed.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,

    #[command(flatten)]
    database: Database,
}

/// How long calls and history are kept; `postcall run` has the same arguments.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Keep {
    /// Days for which calls are kept, counted from their insertion; forever if not given. Calls that wait or are in
    /// flight stay, however old they are.
    #[arg(long, env = "POSTCALL_KEEP_CALLS_DAYS", value_name = "DAYS", default_value = "", hide_default_value = true)]
    keep_calls_days: Days,

    /// Days for which history is kept, at least as many as for calls; forever if not given.
    #[arg(
        long,
        env = "POSTCALL_KEEP_HISTORY_DAYS",
        value_name = "DAYS",
        default_value = "",
        hide_default_value = true
    )]
    keep_history_days: Days,
}

impl Keep {
    /// Both settings together, if they are valid together.
    pub(super) fn retention(self) -> Result<Retention, CliError> {
        Retention::new(self.keep_calls_days, self.keep_history_days)
            .map_err(|error| CliError::Problem(error.to_string()))
    }
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let retention = self.keep.retention()?;
        if retention.is_for_ever() {
            return Err(CliError::Problem(
                "nothing to remove: give the number of days for which calls are kept (--keep-calls-days)".to_owned(),
            ));
        }
        let mut session = self.database.open(ONE_CONNECTION).await?.session(PRUNING_PATIENCE);
        let mut result = Report::default();
        if self.dry_run {
            for planned in session.plan_pruning(retention).await? {
                result.line(
                    &planned.source,
                    Some(&planned),
                    would(planned.verdict),
                    why(&planned.source, planned.verdict),
                );
            }
        } else {
            let mut is_any_gone = false;
            let pruned = prune(&mut session, retention, |source, planned, outcome| {
                is_any_gone |= matches!(outcome, Pruned::Left(_));
                let (did, why) = did(source, outcome);
                eprintln!("{source}: {did}");
                result.line(source, planned, did, why);
            });
            pruned.await.inspect_err(|error| {
                // What is refused from the beginning has removed nothing, and a repetition is refused as well.
                if is_any_gone || !error.is_forbidden() {
                    eprintln!("what was removed until now stays removed; repeat the command for the rest");
                }
            })?;
        }
        result.table.print(self.format, &result.objects)
    }
}

/// The result, for people and for programs.
struct Report {
    table: Table,
    objects: Vec<Value>,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            table: Table::new(&["what", "partition", "from", "until", "bytes", "outcome", "why"]),
            objects: Vec::new(),
        }
    }
}

impl Report {
    fn line(&mut self, source: &str, planned: Option<&Planned>, outcome: String, why: String) {
        let what = planned.map_or("history", |planned| planned.what.as_str());
        let begins = planned.and_then(|planned| planned.begins).map(time);
        let ends = planned.and_then(|planned| planned.ends).map(time);
        let bytes = planned.map(|planned| planned.bytes);
        self.objects.push(json!({
            "what": what, "partition": source, "from": begins, "until": ends, "bytes": bytes, "outcome": outcome, "why": why,
        }));
        let bytes = bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
        let cells = [begins.unwrap_or_default(), ends.unwrap_or_default(), bytes, outcome, why];
        self.table.row([what.to_owned(), source.to_owned()].into_iter().chain(cells).collect());
    }
}

fn would(verdict: Verdict) -> String {
    if verdict == Verdict::Due { "would leave".to_owned() } else { "stays".to_owned() }
}

fn did(source: &str, outcome: Pruned) -> (String, String) {
    match outcome {
        Pruned::Left(None) => ("left".to_owned(), String::new()),
        Pruned::Left(Some(rows)) => (format!("{rows} rows left"), String::new()),
        Pruned::Stays(verdict) => ("stays".to_owned(), why(source, verdict)),
        Pruned::InUse => (
            "stays".to_owned(),
            "in use at every try: a transaction, a backup or check-invariants is at work; repeat the command"
                .to_owned(),
        ),
    }
}

/// Why something stays, and what to do about it.
fn why(source: &str, verdict: Verdict) -> String {
    match verdict {
        Verdict::Due => String::new(),
        Verdict::Young => "nothing in it is old enough, or not all of it".to_owned(),
        Verdict::Pending(delivery) => {
            let delivery = delivery.map(|id| id.to_string()).unwrap_or_default();
            format!(
                "delivery {delivery} is still to be sent: run a dispatcher, or disable its action so that it is skipped"
            )
        }
        Verdict::NoIndex => format!(
            "no index finds its old calls; create one as the owner: \
             CREATE INDEX CONCURRENTLY {source}_by_age ON postcall.{source} (created_at, id)"
        ),
        Verdict::Detached => {
            format!("somebody has detached it: attach it again, or drop it by hand (DROP TABLE postcall.{source})")
        }
    }
}
