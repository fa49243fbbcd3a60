//! `postcall resolve`: records a person's finding about deliveries whose outcome could not be known.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use uuid::Uuid;

use super::attribution::Attribution;
use super::filter::{self, Filter};
use super::many::{DEFAULT_LIMIT, LIMITS, Progress, announce, say_left_out, too_many};
use super::{CliError, Database, ONE_CONNECTION, print_line};
use crate::domain::delivery::Finding;
use crate::service::resolve::{self, Found, Judged, Made, Refused};
use crate::service::told;
use crate::store::Store;
use crate::store::candidates::Candidates;
use crate::store::history::{HistoryFilter, HistoryRow};
use crate::store::resolve::Resolution;

/// Record what a person found out about `unknown` deliveries: one, or all that match criteria.
///
/// Ask the receiver first: it knows a delivery by the header `webhook-id`, which `postcall show` prints. The finding is stored beside
/// history, with name and reason, and cannot be taken back: so `--dry-run` first. If the request's own result still arrives, that result
/// counts instead. A delivery that was replayed can no longer be resolved: its replay shows what happened to the message.
///
/// With criteria, which are those of `postcall history`, what is not unknown and what was replayed is left out, and stderr says so. Each
/// finding is committed by itself; a command that was interrupted can simply be repeated. Needs the role postcall_publisher.
#[derive(Args)]
pub struct Arguments {
    /// The delivery's id, as `postcall history` lists it.
    #[arg(value_name = "DELIVERY_ID", required_unless_present = filter::GROUP, conflicts_with = filter::GROUP)]
    delivery_id: Option<Uuid>,

    #[command(flatten)]
    filter: Filter,

    /// The outcome that you found out.
    #[arg(long = "as", value_enum, value_name = "STATE")]
    finding: Finding,

    #[command(flatten)]
    attribution: Attribution,

    /// Print which deliveries would be resolved, and how many. Changes nothing.
    #[arg(long)]
    dry_run: bool,

    /// Refuse if the criteria match more unknown deliveries than this.
    #[arg(long, default_value_t = DEFAULT_LIMIT, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(LIMITS))]
    limit: usize,

    #[command(flatten)]
    database: Database,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let found = Found { finding: self.finding, by: self.attribution.by()?, reason: self.attribution.reason };
        let store = self.database.open(ONE_CONNECTION).await?;
        if let Some(id) = self.delivery_id {
            return if self.dry_run { judge_one(&store, id).await } else { resolve_one(&store, id, &found).await };
        }
        let Some(rows) = candidates(&store, &self.filter.resolved(&store).await?, self.limit).await? else {
            return print_line("no delivery matches");
        };
        if self.dry_run {
            let Judged { allowed, refused } = resolve::judge(rows);
            say(&refused);
            return announce("resolve", &allowed);
        }
        resolve_many(&store, &rows, &found).await
    }
}

async fn resolve_one(store: &Store, id: Uuid, found: &Found) -> Result<(), CliError> {
    let resolution = store.resolve(id, found.finding, &found.by, &found.reason).await?;
    let problem = match told::resolved(id, found.finding, &found.by, &resolution) {
        Ok(done) => return print_line(&done),
        Err(problem) => problem,
    };
    let cure = match resolution {
        Resolution::AlreadyResolved => format!("; `postcall show {id}` shows by whom"),
        Resolution::JustEnded => "; repeat the command".to_owned(),
        _ => String::new(),
    };
    Err(CliError::Problem(format!("{problem}{cure}")))
}

async fn judge_one(store: &Store, id: Uuid) -> Result<(), CliError> {
    let row = store.delivery(id).await?.ok_or_else(|| CliError::Problem(format!("there is no delivery {id}")))?;
    let Judged { allowed, refused } = resolve::judge(vec![row]);
    match refused.keys().next() {
        Some(why) => Err(CliError::Problem(format!("{id} would not be resolved: {why}"))),
        None => announce("resolve", &allowed),
    }
}

/// The unknown deliveries that match the criteria, the oldest first; `None` if nothing matches.
async fn candidates(store: &Store, filter: &HistoryFilter, limit: usize) -> Result<Option<Vec<HistoryRow>>, CliError> {
    let (rows, left_out) = match store.candidates(filter, resolve::allows, limit).await? {
        Candidates::Found { rows, left_out } => (rows, left_out),
        Candidates::TooMany => return Err(too_many("resolved", limit)),
    };
    left_out.iter().for_each(|left| say_left_out(left, limit, "only what is unknown can be resolved"));
    match (rows.is_empty(), left_out.is_empty()) {
        (true, true) => Ok(None),
        (true, false) => {
            Err(CliError::Problem("nothing is resolved: all deliveries that match are left out".to_owned()))
        }
        (false, _) => Ok(Some(rows)),
    }
}

async fn resolve_many(store: &Store, rows: &[HistoryRow], found: &Found) -> Result<(), CliError> {
    eprintln!("resolving {}", rows.len());
    let progress = Progress::of(rows.len());
    let made = resolve::resolve(store, rows, found, |done| progress.is_at(done)).await;
    let Made { made, refused } = made.map_err(|interrupted| {
        progress.breaks(interrupted.made, "resolved");
        interrupted.source
    })?;
    progress.ends();
    say(&refused);
    print_line(&format!("resolved {made} as {}", found.finding.state()))
}

fn say(refused: &Refused) {
    for (why, count) in refused {
        eprintln!("left out: {count}, {why}");
    }
}
