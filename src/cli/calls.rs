//! `postcall calls`: lists the calls that have arrived, also those without a delivery, and says why they have none.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use uuid::Uuid;

use super::database::ReadDatabase;
use super::moment::{parse_moment, resolved, say_nothing_between};
use super::table::{Table, time};
use super::{CliError, Format, ONE_CONNECTION, unknown};
use crate::domain::moment::Moment;
use crate::service::calls::{Arrived, Without, arrivals};
use crate::store::calls::CallFilter;

/// List the calls that have arrived, also those without a delivery, and say why they have none.
///
/// A call gets one delivery for each action of its agent that is enabled when it is inserted. If there
/// is none, that is recorded with the call. Why there was none is said by what is known about the
/// agent's actions today:
///
///   agent unknown      no action was ever published for the agent, which may be a slip in its name
///   published later    the agent's first action was published after the call was inserted
///   none enabled       the agent had actions, and none of them was enabled at that moment
///
/// The content of a call is not printed. One look reads at most 50,000 calls, the newest first; then
/// stderr says how to go on. The order is that of the ids: if the platform gives calls ids of its own
/// that are not time-ordered, the order is that of these ids, and --since and --until do not find
/// them. The role postcall_auditor suffices.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    database: ReadDatabase,

    /// The call's agent.
    #[arg(long)]
    agent: Option<String>,

    /// Inserted at this time or later: a day, a time with an offset, or a span back from now (30m, 1h, 2d).
    #[arg(long, visible_alias = "from", value_name = "TIME|SPAN", value_parser = parse_moment)]
    since: Option<Moment>,

    /// Inserted before this time; as --since.
    #[arg(long, visible_alias = "to", value_name = "TIME|SPAN", value_parser = parse_moment)]
    until: Option<Moment>,

    /// Only calls that got no delivery.
    #[arg(long)]
    without_deliveries: bool,

    /// The largest number of calls in a page.
    #[arg(long, default_value_t = 50, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    limit: usize,

    /// Begin after this call: the next page of an earlier listing.
    #[arg(long, value_name = "CALL_ID")]
    after: Option<Uuid>,

    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.database.open(ONE_CONNECTION).await?;
        let [since, until] = resolved(&store, [self.since, self.until]).await?;
        say_nothing_between(since, until);
        let without_deliveries = self.without_deliveries;
        let filter = CallFilter { agent: self.agent, call_sid: None, since, until, without_deliveries };
        let found = arrivals(&store, &filter, self.after, self.limit).await?;
        let header = ["inserted", "call", "agent", "call sid", "bytes", "deliveries", "why none"];
        let mut table = Table::new(&header);
        for arrived in &found.calls {
            table.row(cells(arrived));
        }
        table.print(self.format, &found.calls)?;
        if found.calls.is_empty() {
            unknown::say(&store, filter.agent.as_deref(), None).await?;
        }
        if let Some(last) = found.rest_after {
            eprintln!("there may be more: repeat with --after {last}");
        }
        Ok(())
    }
}

fn cells(arrived: &Arrived) -> Vec<String> {
    let Arrived { call, without } = arrived;
    vec![
        time(call.created_at),
        call.call_id.to_string(),
        call.agent.clone(),
        call.call_sid.clone().unwrap_or_default(),
        call.call_bytes.map(|bytes| bytes.to_string()).unwrap_or_default(),
        call.deliveries.map(|count| count.to_string()).unwrap_or_default(),
        without.as_ref().map(Without::in_words).unwrap_or_default(),
    ]
}
