//! `postcall replay`: sends calls again, as new deliveries of the same messages.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use uuid::Uuid;

use super::attribution::Attribution;
use super::filter::{self, Filter};
use super::many::{DEFAULT_LIMIT, LIMITS, Progress, announce, say_left_out, too_many};
use super::{CliError, Database, ONE_CONNECTION, print_line};
use crate::domain::delivery::State;
use crate::domain::visible::visible;
use crate::service::replay::{self, Cure, Judged, Made, Reason, Refused};
use crate::store::Store;
use crate::store::candidates::Candidates;
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::replay::{ReplayOrder, Replayed};

/// Send calls again, as new deliveries of the same messages.
///
/// The receiver sees the same `webhook-id` as the first time, so a receiver that stores these ids can
/// drop a second copy. As for every delivery, the action's newest version at the time of sending is
/// sent.
///
/// With ids, one refused delivery means that none is replayed. With criteria, which are those of
/// `postcall history`, refused deliveries are left out, and stderr says so. Refused are:
///
///   delivered               the message was delivered before, unless --include-delivered
///   unknown                 the message may have been received, or the history of an earlier
///                           delivery of it is no longer kept, unless --include-unknown
///   waiting, sending        the delivery is still on its way
///   replayed already        replay its replay instead, once that has ended
///   disabled action         the replay would be skipped: enable the action first
///   call no longer kept     its payload has left the outbox
///
/// Deliveries that are skipped, failed or rejected can be replayed. Batches of 500 are committed one
/// after the other; a command that was interrupted can simply be repeated. Needs the role
/// postcall_publisher.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The ids of the deliveries to replay.
    #[arg(value_name = "DELIVERY_ID", required_unless_present = filter::GROUP, conflicts_with = filter::GROUP)]
    ids: Vec<Uuid>,

    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    attribution: Attribution,

    /// Print which deliveries would be replayed, and how many. Changes nothing.
    #[arg(long)]
    dry_run: bool,

    /// Also replay messages that were delivered.
    #[arg(long)]
    include_delivered: bool,

    /// Also replay messages that may have been received.
    #[arg(long)]
    include_unknown: bool,

    /// Refuse if the criteria match more deliveries than this.
    #[arg(long, default_value_t = DEFAULT_LIMIT, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(LIMITS))]
    limit: usize,

    #[command(flatten)]
    database: Database,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let order = ReplayOrder {
            by: self.attribution.by()?,
            reason: self.attribution.reason,
            include_delivered: self.include_delivered,
            include_unknown: self.include_unknown,
        };
        let store = self.database.open(ONE_CONNECTION).await?;
        // Whoever may not replay is told so by this, before anything is said to begin.
        store.judge_replay(&[], &order).await?;
        if !self.ids.is_empty() {
            let ids = self.ids;
            return if self.dry_run {
                judge_ids(&store, ids, &order).await
            } else {
                replay_ids(&store, &ids, &order).await
            };
        }
        let filter = self.filter.resolved(&store).await?;
        let Some(rows) = candidates(&store, &filter, &order, self.limit).await? else {
            super::unknown::say(&store, filter.agent.as_deref(), filter.action.as_deref()).await?;
            return print_line("no delivery matches");
        };
        if self.dry_run { judge(&store, rows, &order).await } else { replay(&store, &rows, &order).await }
    }
}

async fn judge_ids(store: &Store, ids: Vec<Uuid>, order: &ReplayOrder) -> Result<(), CliError> {
    refuse_any(&store.judge_replay(&ids, order).await?)?;
    let limit = ids.len();
    let filter = HistoryFilter { delivery_ids: Some(ids), ..HistoryFilter::default() };
    announce("replay", &store.history(&filter, limit).await?)
}

async fn replay_ids(store: &Store, ids: &[Uuid], order: &ReplayOrder) -> Result<(), CliError> {
    let outcomes = store.replay_all_or_none(ids, order).await?;
    refuse_any(&outcomes)?;
    for (id, outcome) in outcomes {
        if let Replayed::As(replay) = outcome {
            print_line(&format!("replayed {id} as {replay}"))?;
        }
    }
    eprintln!(
        "each waits to be sent; `postcall show` with its new id, the one behind \"as\", shows what becomes of it"
    );
    Ok(())
}

/// Prints every refusal, and returns an error if there is one.
fn refuse_any(outcomes: &[(Uuid, Replayed)]) -> Result<(), CliError> {
    let mut refused = 0;
    for (id, outcome) in outcomes {
        if let Replayed::Refused(refusal) = outcome {
            let cure = match refusal {
                crate::store::replay::ReplayRefusal::NoSuchDelivery => {
                    format!("; if it is the id of a call, `postcall show {id}` names its deliveries")
                }
                _ => String::new(),
            };
            eprintln!("{id}: {}{cure}", with_cure(&Reason::of(refusal)));
            refused += 1;
        }
    }
    if refused == 0 {
        return Ok(());
    }
    Err(CliError::Problem(format!("nothing is replayed: {refused} of {} are refused", outcomes.len())))
}

/// The deliveries that match the criteria and whose states allow a replay, the oldest first; `None` if nothing matches.
async fn candidates(
    store: &Store,
    filter: &HistoryFilter,
    order: &ReplayOrder,
    limit: usize,
) -> Result<Option<Vec<HistoryRow>>, CliError> {
    let (rows, left_out) = match store.candidates(filter, |state| order.allows(state), limit).await? {
        Candidates::Found { rows, left_out } => (rows, left_out),
        Candidates::TooMany => return Err(too_many("replayed", limit)),
    };
    for left in &left_out {
        let cure = match left.state {
            State::Delivered => "--include-delivered includes them",
            State::Unknown => "--include-unknown includes them",
            // The last three are never left out: every order allows them.
            State::Waiting | State::Sending | State::Rejected | State::Failed | State::Skipped => "still on their way",
        };
        say_left_out(left, limit, cure);
    }
    match (rows.is_empty(), left_out.is_empty()) {
        (true, true) => Ok(None),
        (true, false) => {
            Err(CliError::Problem("nothing is replayed: all deliveries that match are left out".to_owned()))
        }
        (false, _) => Ok(Some(rows)),
    }
}

/// The dry run: prints what a replay would do.
async fn judge(store: &Store, rows: Vec<HistoryRow>, order: &ReplayOrder) -> Result<(), CliError> {
    let Judged { allowed, refused } = replay::judge(store, rows, order).await?;
    say(&refused);
    announce("replay", &allowed)
}

async fn replay(store: &Store, rows: &[HistoryRow], order: &ReplayOrder) -> Result<(), CliError> {
    eprintln!("replaying {}", rows.len());
    let progress = Progress::of(rows.len());
    let made = replay::replay(store, rows, order, |done| progress.is_at(done)).await;
    let Made { made, refused } = made.map_err(|interrupted| {
        progress.breaks(interrupted.made, "replayed");
        interrupted.source
    })?;
    progress.ends();
    say(&refused);
    print_line(&format!("replayed {made}"))
}

fn say(refused: &Refused) {
    let mut reasons: Vec<(String, usize)> =
        refused.reasons().map(|(reason, count)| (with_cure(reason), count)).collect();
    reasons.sort();
    for (reason, count) in reasons {
        eprintln!("left out: {count}, {reason}");
    }
}

/// The reason, and what to type against it.
fn with_cure(Reason { words, cure }: &Reason) -> String {
    match cure {
        None => words.clone(),
        Some(Cure::IncludeDelivered) => format!("{words} (--include-delivered sends it again)"),
        Some(Cure::IncludeUnknown) => format!("{words} (--include-unknown sends it again)"),
        Some(Cure::EnableAction { agent, action }) => {
            let (agent, action) = (visible(agent), visible(action));
            format!("{words}; `postcall action enable {agent} --name {action}` first")
        }
    }
}
