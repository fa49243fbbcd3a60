//! `postcall pause` and `postcall resume`: paused deliveries wait, they do not fail.

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::attribution::Attribution;
use super::databases::{Databases, Heads, NamedDatabase};
use super::table::{Table, time};
use super::{CliError, Format, ONE_CONNECTION, print_line, unknown};
use crate::domain::action::DEFAULT_NAME;
use crate::domain::host::HostPattern;
use crate::domain::pause::NamedTarget;
use crate::domain::visible::visible;
use crate::service::pause::{Missing, is_unused_host, missing};
use crate::service::told;
use crate::store::Store;
use crate::store::pauses::{Deed, PauseRecord, Pausing, Resuming};

/// Stop sending for an agent, an action or a host until it is resumed.
///
/// Paused deliveries wait: new calls are accepted, none of them fails, and everything is sent after `postcall resume`.
/// Requests that are already in flight are finished. A pause takes effect within about two seconds in all dispatchers,
/// and holds until `postcall resume`, whatever is restarted meanwhile.
///
/// A delivery that several pauses cover waits until all of them have ended. `postcall status` shows what is paused and
/// how many deliveries wait for it. Needs the role postcall_publisher; to list pauses, postcall_auditor suffices.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pause all actions of an agent, including those that are published later.
    Agent(AgentOrder),
    /// Pause one action.
    Action(ActionOrder),
    /// Pause all deliveries to a host, of all agents.
    Host(HostOrder),
    /// List what is paused: since when, by whom and why.
    List {
        /// Also list the pauses that have ended, with their ends.
        #[arg(long)]
        all: bool,
        /// The largest number of pauses that are listed; the newest are listed.
        #[arg(long, default_value_t = 1_000, value_name = "N",
              value_parser = RangedU64ValueParser::<i64>::new().range(1..=100_000))]
        limit: i64,
        /// How to print them.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
        #[command(flatten)]
        databases: Databases,
    },
}

/// End a pause.
///
/// Name the target as for `postcall pause`; `postcall pause list` shows what is paused. Sending begins within about two
/// seconds, the oldest deliveries first, as fast as the limits allow. A pause and its end stay on record
/// (`postcall pause list --all`). Needs the role postcall_publisher.
#[derive(Args)]
pub struct ResumeArguments {
    #[command(subcommand)]
    command: ResumeCommand,
}

#[derive(Subcommand)]
enum ResumeCommand {
    /// Resume an agent that was paused.
    Agent(AgentOrder),
    /// Resume an action that was paused.
    Action(ActionOrder),
    /// Resume a host that was paused.
    Host(HostOrder),
}

#[derive(Args)]
struct AgentOrder {
    /// The agent, as the platform names it.
    agent: String,
    #[command(flatten)]
    order: Order,
}

#[derive(Args)]
struct ActionOrder {
    /// The agent whose action it is.
    agent: String,
    /// Its name among the agent's actions.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    #[command(flatten)]
    order: Order,
}

#[derive(Args)]
struct HostOrder {
    /// The host: `crm.example` for all its ports, `crm.example:8443` for one of them.
    host: HostPattern,
    #[command(flatten)]
    order: Order,
}

#[derive(Args)]
struct Order {
    #[command(flatten)]
    attribution: Attribution,
    #[command(flatten)]
    databases: Databases,
}

impl From<AgentOrder> for (NamedTarget, Order) {
    fn from(AgentOrder { agent, order }: AgentOrder) -> (NamedTarget, Order) {
        (NamedTarget::Agent(agent), order)
    }
}

impl From<ActionOrder> for (NamedTarget, Order) {
    fn from(ActionOrder { agent, name, order }: ActionOrder) -> (NamedTarget, Order) {
        (NamedTarget::Action { agent, name }, order)
    }
}

impl From<HostOrder> for (NamedTarget, Order) {
    fn from(HostOrder { host, order }: HostOrder) -> (NamedTarget, Order) {
        (NamedTarget::Host(host.to_string()), order)
    }
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (target, order) = match self.command {
            Command::Agent(order) => order.into(),
            Command::Action(order) => order.into(),
            Command::Host(order) => order.into(),
            Command::List { all, limit, format, databases } => {
                let heads = if format == Format::Table { Heads::Shown } else { Heads::Hidden };
                let print = async |database: &NamedDatabase, name: Option<&str>| {
                    list(&database.open(ONE_CONNECTION).await?, all, limit, format, name).await
                };
                return databases.each(heads, print).await;
            }
        };
        let Order { attribution, databases } = order;
        everywhere(&databases.all()?, async |database| pause(&target, &attribution, database).await).await
    }

    /// Whether the command changes nothing.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.command, Command::List { .. })
    }
}

impl ResumeArguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (target, order) = match self.command {
            ResumeCommand::Agent(order) => order.into(),
            ResumeCommand::Action(order) => order.into(),
            ResumeCommand::Host(order) => order.into(),
        };
        let Order { attribution, databases } = order;
        everywhere(&databases.all()?, async |database| resume(&target, &attribution, database).await).await
    }
}

/// Does the same in all databases. An agent or an action is usually in one of several; so it fails only if it failed in all, or
/// if a database did not answer.
async fn everywhere(
    databases: &[NamedDatabase],
    work: impl AsyncFn(&NamedDatabase) -> Result<(), CliError>,
) -> Result<(), CliError> {
    if let [only] = databases {
        return work(only).await;
    }
    let (mut done, mut unreached) = (0, 0);
    for database in databases {
        print_line(&format!("== {}", database.name))?;
        match work(database).await {
            Ok(()) => done += 1,
            Err(error) => {
                unreached += usize::from(!matches!(error, CliError::Problem(_)));
                print_line(&error.for_people())?;
            }
        }
    }
    match (done, unreached) {
        (_, 1..) => Err(CliError::Problem(format!("{unreached} of {} databases failed", databases.len()))),
        (0, 0) => Err(CliError::Problem("nothing was changed in any of the databases".to_owned())),
        _ => Ok(()),
    }
}

async fn pause(target: &NamedTarget, attribution: &Attribution, database: &NamedDatabase) -> Result<(), CliError> {
    let by = attribution.by()?;
    let store = database.open(ONE_CONNECTION).await?;
    let shown = visible(&target.to_string()).into_owned();
    match store.pause(target, &attribution.reason, &by).await? {
        Pausing::Paused { .. } => {
            print_line(&told::paused(target))?;
            if is_unused_host(&store, target).await? {
                eprintln!("warning: {}", told::unused(target));
            }
            Ok(())
        }
        Pausing::AlreadyPaused(begun) => {
            print_line(&format!("{shown} was paused already, {}; nothing is recorded", told(&begun)))
        }
        Pausing::TooMany => Err(CliError::Problem(told::too_many_pauses())),
        Pausing::NoSuchTarget => Err(no_such_target(&missing(&store, target).await?)),
        Pausing::JustResumed => Err(CliError::Problem(format!(
            "{shown} was paused and resumed by others at this moment; repeat the command"
        ))),
    }
}

fn no_such_target(missing: &Missing) -> CliError {
    CliError::Problem(format!("not paused: {}", unknown::told(missing)))
}

/// How many active pauses are named to somebody who resumes a target that is not paused.
const MOST_NAMED: i64 = 10;

async fn resume(target: &NamedTarget, attribution: &Attribution, database: &NamedDatabase) -> Result<(), CliError> {
    let by = attribution.by()?;
    let store = database.open(ONE_CONNECTION).await?;
    let shown = visible(&target.to_string()).into_owned();
    match store.resume(target, &attribution.reason, &by).await? {
        Resuming::Resumed(begun) => print_line(&format!("{shown} is resumed; it was paused {}", told(&begun))),
        Resuming::NotPaused => {
            let paused = store.active_pauses(MOST_NAMED + 1).await?;
            Err(CliError::Problem(format!("{shown} is not paused; {}", what_is_paused(&paused))))
        }
    }
}

fn what_is_paused(paused: &[PauseRecord]) -> String {
    if paused.is_empty() {
        return "nothing is".to_owned();
    }
    let most = usize::try_from(MOST_NAMED).unwrap_or(usize::MAX);
    let named: Vec<String> =
        paused.iter().take(most).map(|pause| visible(&pause.target.to_string()).into_owned()).collect();
    let more = if paused.len() > most { " and more (`postcall pause list`)" } else { "" };
    format!("what is: {}{more}", named.join(", "))
}

/// When, by whom and why it was done, in one line.
fn told(deed: &Deed) -> String {
    format!("{} by {}: {}", time(deed.at), visible(&by(deed)), visible(&deed.reason))
}

/// Who did it: the name that the person gave, and the database user, which the person cannot choose.
fn by(deed: &Deed) -> String {
    format!("{} (database user {})", deed.by, deed.db_user)
}

async fn list(store: &Store, all: bool, limit: i64, format: Format, database: Option<&str>) -> Result<(), CliError> {
    // One row more than the limit shows whether there are others.
    let mut pauses = if all { store.all_pauses(limit + 1).await? } else { store.active_pauses(limit + 1).await? };
    let listed = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_more = pauses.len() > listed;
    pauses.truncate(listed);
    let mut header = vec!["paused", "since", "by", "why"];
    header.extend(all.then_some(["until", "resumed by", "resumed why"]).into_iter().flatten());
    let mut table = Table::new(&header);
    for pause in &pauses {
        let mut cells =
            vec![pause.target.to_string(), time(pause.begun.at), by(&pause.begun), pause.begun.reason.clone()];
        if all {
            cells.extend(match &pause.ended {
                Some(end) => [time(end.at), by(end), end.reason.clone()],
                None => [const { String::new() }; 3],
            });
        }
        table.row(cells);
    }
    let mut objects: Vec<Value> = pauses.iter().map(described_pause).collect();
    if let Some(name) = database {
        objects.iter_mut().for_each(|object| object["database"] = name.into());
    }
    table.print(format, &objects)?;
    if is_more {
        eprintln!("more: repeat with a larger --limit");
    }
    Ok(())
}

/// A pause as JSON.
pub(super) fn described_pause(pause: &PauseRecord) -> Value {
    let mut object = match &pause.target {
        NamedTarget::Agent(agent) => json!({ "target": "agent", "agent": agent }),
        NamedTarget::Action { agent, name } => json!({ "target": "action", "agent": agent, "name": name }),
        NamedTarget::Host(host) => json!({ "target": "host", "host": host }),
    };
    object["paused_at"] = json!(pause.begun.at);
    object["paused_by"] = json!(pause.begun.by);
    object["paused_db_user"] = json!(pause.begun.db_user);
    object["reason"] = json!(pause.begun.reason);
    let end = pause.ended.as_ref();
    object["resumed_at"] = json!(end.map(|end| end.at));
    object["resumed_by"] = json!(end.map(|end| &end.by));
    object["resumed_db_user"] = json!(end.map(|end| &end.db_user));
    object["resume_reason"] = json!(end.map(|end| &end.reason));
    object
}
