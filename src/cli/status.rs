//! `postcall status`: shows the current status.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::databases::{Heads, NamedDatabase, ReadDatabases, each, print_json_of};
use super::pause::described_pause;
use super::status_needs::{Lately, permitted};
use super::table::{Table, print_json_line, time};
use super::{CliError, Format, ONE_CONNECTION, print_line, print_text};
use crate::domain::delivery::State;
use crate::domain::report::HostCondition;
use crate::service::words::{long, long_since};
use crate::store::Store;
use crate::store::open_deliveries::OpenDeliveries;
use crate::store::standby::Standby;
use crate::store::status::{Count, DispatcherStatus, HeldPause, Life, Oldest, Reported, Status};

/// Show the current status: what needs somebody, dispatchers, queue, last hour, pauses, and whether the hosts answer.
///
/// First comes what needs somebody, the most urgent first, with what to do about each: by the same
/// rules as the overview of the console. The last hour tells how deliveries ended that were created
/// within it, up to 10,000 in each state.
///
/// In flight, by dispatcher, is what the database says: deliveries that are claimed and have no
/// recorded outcome yet. The reports come from the dispatchers themselves and are some seconds old, and
/// up to half a minute while nothing changes: how many places are taken, and the condition of the hosts
/// to which the dispatcher sends:
///
///   answering     the host answers
///   silent        the host accepts requests and does not answer in time; it gets few places until it
///                 does
///   unreachable   the host cannot be reached: its deliveries wait until a connection can be made
///                 again
///
/// A dispatcher is alive while its lease is valid. After that it is overdue, until another dispatcher
/// declares it lost. Dispatchers that stopped or were lost within the last hour are also shown.
/// Unknown is the number of unknown deliveries that are not resolved, among the newest 10,000 that
/// ended as unknown. Open are those that were rejected, failed or are unknown, and of whose message no
/// later delivery was delivered: up to 1,000 of them, among the newest 2,000 that were not delivered.
///
/// Counting stops at 100,000, so that the answer comes at once; then the count says `more than`. The
/// role postcall_auditor suffices.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Look again every 2 s, until interrupted. On a terminal, each look takes the place of the one
    /// before; otherwise, and as JSON, each is one line.
    #[arg(long)]
    watch: bool,

    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    format: StatusFormat,

    #[command(flatten)]
    databases: ReadDatabases,
}

#[derive(Clone, Copy, ValueEnum)]
enum StatusFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let databases = self.databases.all()?;
        if !self.watch {
            let heads = if matches!(self.format, StatusFormat::Table) { Heads::Shown } else { Heads::Hidden };
            return each(&databases, heads, async |database, name| self.once(database, name).await).await;
        }
        let mut stores = Stores::default();
        loop {
            if self.clears() {
                print_text(CLEAR)?;
            }
            let heads = if self.clears() { Heads::Shown } else { Heads::Hidden };
            each(&databases, heads, async |database, name| {
                let store = stores.of(database).await?;
                self.watched(&look(store).await?, store.standby().await?, name)
            })
            .await
            .or_else(|error| if databases.len() == 1 || error.is_silent() { Err(error) } else { Ok(()) })?;
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }

    /// Whether each look takes the place of the one before.
    fn clears(&self) -> bool {
        matches!(self.format, StatusFormat::Table) && std::io::stdout().is_terminal()
    }

    async fn once(&self, database: &NamedDatabase, name: Option<&str>) -> Result<(), CliError> {
        let store = database.open_to_read(ONE_CONNECTION).await?;
        let look = look(&store).await?;
        match self.format {
            StatusFormat::Table => show(&look),
            StatusFormat::Json => print_json_of(name, described(&look, store.standby().await?)),
        }
    }

    fn watched(&self, look: &Look, standby: Option<Standby>, name: Option<&str>) -> Result<(), CliError> {
        match self.format {
            StatusFormat::Table if self.clears() => show(look),
            StatusFormat::Table => {
                let head = name.map(|name| format!("{name}  ")).unwrap_or_default();
                print_line(&(head + &on_one_line(look)))
            }
            StatusFormat::Json => {
                let mut object = described(look, standby);
                if let Some(name) = name {
                    object["database"] = name.into();
                }
                print_json_line(&object)
            }
        }
    }
}

/// What one look tells.
struct Look {
    status: Status,
    /// `None` for those who may not read what was replayed.
    open: Option<OpenDeliveries>,
    lately: Lately,
}

async fn look(store: &Store) -> Result<Look, CliError> {
    let status = store.status().await?;
    let open = permitted(store.open_deliveries().await)?;
    let lately = Lately::of(store, &status, open.as_ref()).await?;
    Ok(Look { status, open, lately })
}

/// The stores of databases that are looked at again and again: each is opened once.
#[derive(Default)]
struct Stores(HashMap<String, Store>);

impl Stores {
    async fn of(&mut self, database: &NamedDatabase) -> Result<&Store, CliError> {
        match self.0.entry(database.name.clone()) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(none) => Ok(none.insert(database.open_to_read(ONE_CONNECTION).await?)),
        }
    }
}

/// How long `--watch` waits between two looks.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// What makes a terminal empty and lets it begin in its first line.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

fn on_one_line(Look { status, open, lately }: &Look) -> String {
    let alive = status.dispatchers.iter().filter(|dispatcher| matches!(dispatcher.life, Life::Alive { .. })).count();
    let oldest =
        status.oldest_waiting.map(|oldest| format!(" (the oldest for {})", long(oldest.age_ms))).unwrap_or_default();
    let beyond = |open: &OpenDeliveries| match open.beyond_replay {
        0 => String::new(),
        beyond => format!(" ({beyond} beyond replay)"),
    };
    let open = open.map(|open| format!(", open {}{}", at_least(open.count), beyond(&open))).unwrap_or_default();
    format!(
        "{}  dispatchers alive {alive}, waiting {}{oldest}, in flight {}, unknown {}{open}, paused {}, needs {}",
        time(status.at),
        shown(status.waiting),
        status.in_flight,
        shown(status.in_doubt),
        status.active_pauses,
        lately.things(),
    )
}

fn show(Look { status, open, lately }: &Look) -> Result<(), CliError> {
    lately.show_needs()?;
    match status.dispatchers.as_slice() {
        [] => print_line("no dispatcher runs: `postcall run` starts one")?,
        dispatchers => show_dispatchers(dispatchers)?,
    }
    print_line("")?;
    let oldest = match status.oldest_waiting {
        Some(Oldest { created_at, age_ms }) => format!(", the oldest since {} ({})", time(created_at), long(age_ms)),
        None => String::new(),
    };
    print_line(&format!("{:<9}  {}{oldest}", State::Waiting, shown(status.waiting)))?;
    print_line(&format!("in flight  {}", status.in_flight))?;
    print_line(&format!("{:<9}  {}", State::Unknown, shown(status.in_doubt)))?;
    if let Some(open) = open {
        print_line(&format!("{:<9}  {}{}", "open", at_least(open.count), since(open)))?;
        if open.beyond_replay > 0 {
            let removed = "call removed; nothing can be sent again";
            print_line(&format!("{:<9}  {} of the open ones: {removed}", "", open.beyond_replay))?;
        }
    }
    lately.show_last_hour()?;
    print_line("")?;
    show_paused(status)?;
    show_hosts(status)
}

fn show_dispatchers(dispatchers: &[DispatcherStatus]) -> Result<(), CliError> {
    let mut table = Table::new(&["dispatcher", "name", "version", "state", "in flight", "reports"]);
    for dispatcher in dispatchers {
        table.row(vec![
            dispatcher.dispatcher_id.to_string(),
            dispatcher.name.clone(),
            dispatcher.version.clone(),
            life(dispatcher.life),
            dispatcher.in_flight.to_string(),
            dispatcher.reported.as_ref().map_or("nothing".to_owned(), reported),
        ]);
    }
    table.print::<Value>(Format::Table, &[])
}

fn life(life: Life) -> String {
    match life {
        Life::Alive { lease_left_ms } => format!("alive, lease for {}", long(lease_left_ms)),
        Life::Overdue { since_ms } => format!("overdue, lease over for {}", long(since_ms)),
        Life::Stopped { at } => format!("stopped {}", time(at)),
        Life::Lost { at } => format!("lost {}", time(at)),
    }
}

fn reported(Reported { age_ms, report }: &Reported) -> String {
    let unrecorded = match report.unrecorded {
        0 => String::new(),
        results => format!(", {results} results to record"),
    };
    format!("{} of {} places taken{unrecorded}, {} ago", report.in_flight, report.concurrency, long(*age_ms))
}

fn show_paused(status: &Status) -> Result<(), CliError> {
    if status.paused.is_empty() {
        return print_line("nothing is paused");
    }
    let mut table = Table::new(&["paused", State::Waiting.as_str(), "since", "by", "why"]);
    for HeldPause { pause, waiting } in &status.paused {
        table.row(vec![
            pause.target.to_string(),
            shown(*waiting),
            time(pause.begun.at),
            pause.begun.by.clone(),
            pause.begun.reason.clone(),
        ]);
    }
    table.print::<Value>(Format::Table, &[])?;
    match status.pauses_left_out() {
        0 => Ok(()),
        more => print_line(&format!("and {more} more (`postcall pause list`)")),
    }
}

/// Prints the hosts as the living dispatchers report them, those that do not answer first.
fn show_hosts(status: &Status) -> Result<(), CliError> {
    let hosts = status.hosts();
    if hosts.is_empty() {
        return Ok(());
    }
    print_line("")?;
    let mut table = Table::new(&["host", "condition", "in flight", "limit", "actions waiting", "dispatcher"]);
    for (dispatcher_id, host) in hosts {
        table.row(vec![
            host.host.clone(),
            condition(host.condition),
            host.in_flight.to_string(),
            host.limit.to_string(),
            host.waiting_lanes.to_string(),
            dispatcher_id.to_string(),
        ]);
    }
    table.print::<Value>(Format::Table, &[])?;
    match status.hosts_left_out() {
        0 => Ok(()),
        more => print_line(&format!("and {more} more, all of them less urgent")),
    }
}

fn condition(condition: HostCondition) -> String {
    let name = condition.as_str();
    match condition {
        HostCondition::Answering => name.to_owned(),
        HostCondition::Silent { since_ms } => format!("{name} for {}", long_since(since_ms)),
        HostCondition::Unreachable { since_ms, last_error_kind, next_probe_in_ms } => format!(
            "{name} for {} ({}), next probe within {}",
            long_since(since_ms),
            last_error_kind.as_str(),
            long_since(next_probe_in_ms)
        ),
    }
}

/// Since when the oldest open delivery that somebody can do something about is there, behind their number.
fn since(open: &OpenDeliveries) -> String {
    let or_longer = if open.may_be_older { " or longer" } else { "" };
    let since = |Oldest { created_at, age_ms }| {
        format!(", the oldest since {} ({}{or_longer}): postcall history --open", time(created_at), long(age_ms))
    };
    open.oldest.map(since).unwrap_or_default()
}

fn at_least(Count { counted, is_more }: Count) -> String {
    if is_more { format!("{counted} or more") } else { counted.to_string() }
}

fn shown(Count { counted, is_more }: Count) -> String {
    if is_more { format!("more than {counted}") } else { counted.to_string() }
}

/// A server that is no standby says nothing of it.
fn described(Look { status, open, lately }: &Look, standby: Option<Standby>) -> Value {
    let paused: Vec<Value> = status
        .paused
        .iter()
        .map(|paused| {
            let mut object = described_pause(&paused.pause);
            object[State::Waiting.as_str()] = described_count(paused.waiting);
            object
        })
        .collect();
    let mut object = json!({
        "dispatchers": status.dispatchers.iter().map(described_dispatcher).collect::<Vec<Value>>(),
        (State::Waiting.as_str()): described_count(status.waiting),
        "oldest_waiting": status.oldest_waiting.map(described_oldest),
        "in_flight": status.in_flight,
        (State::Unknown.as_str()): described_count(status.in_doubt),
        "open": open.map(|open| described_count(open.count)),
        "open_beyond_replay": open.map(|open| open.beyond_replay),
        "oldest_open": open.and_then(|open| open.oldest).map(described_oldest),
        "paused": paused,
        "pauses_left_out": status.pauses_left_out(),
    });
    lately.describe(&mut object);
    if let Some(Standby { shows_until, age_ms }) = standby {
        object["standby"] = json!({ "shows_until": shows_until, "age_ms": age_ms });
    }
    object
}

fn described_oldest(Oldest { created_at, age_ms }: Oldest) -> Value {
    json!({ "created_at": created_at, "age_ms": age_ms })
}

fn described_count(Count { counted, is_more }: Count) -> Value {
    json!({ "count": counted, "is_more": is_more })
}

fn described_dispatcher(dispatcher: &DispatcherStatus) -> Value {
    let state = match dispatcher.life {
        Life::Alive { lease_left_ms } => json!({ "is": "alive", "lease_left_ms": lease_left_ms }),
        Life::Overdue { since_ms } => json!({ "is": "overdue", "since_ms": since_ms }),
        Life::Stopped { at } => json!({ "is": "stopped", "at": at }),
        Life::Lost { at } => json!({ "is": "lost", "at": at }),
    };
    json!({
        "dispatcher_id": dispatcher.dispatcher_id,
        "name": dispatcher.name,
        "version": dispatcher.version,
        "started_at": dispatcher.started_at,
        "state": state,
        "in_flight": dispatcher.in_flight,
        "report": dispatcher.reported.as_ref().map(|Reported { age_ms, report }| json!({
            "age_ms": age_ms,
            "concurrency": report.concurrency,
            "in_flight": report.in_flight,
            "unrecorded": report.unrecorded,
            "hosts": report.hosts,
            "hosts_left_out": report.hosts_left_out,
        })),
    })
}
