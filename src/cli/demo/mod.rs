//! `postcall demo`: the whole way of a call, with a simulated platform and a simulated receiver.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;

use super::run;
use super::targets::TargetArguments;
use super::{CliError, Database, Format, history, print_line, signals};
use crate::console::{self, Auth, Console, Settings, Stores};
use crate::dispatcher::{self, StopTokens};
use crate::domain::chain::chain;
use crate::metrics::Metrics;
use crate::scheduler::Limits;
use crate::service::action_test::Tester;
use crate::service::examination::{examine, shown};
use crate::store::history::HistoryFilter;
use crate::store::platform::Close;
use crate::store::{Access, Store};
use receiver::Receiver;

mod actions;
mod calls;
mod receiver;

/// Connections of the pool, for the dispatcher and the simulated platform.
const CONNECTIONS: u32 = 10;
/// Where the demo's console listens: on a port that the system chooses.
const CONSOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The name under which the demo publishes actions.
const BY: &str = "postcall demo";
/// The name that is recorded with what is changed by the demo's console.
const VISITOR: &str = "a visitor of the demo";
/// How many calls the simulated platform completes at the same time.
const CONCURRENT_CALLS: usize = 8;
/// How often the demo checks whether all deliveries have ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the demo waits for this. The slowest action needs about a second.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// Show the whole way of a call, on an empty database.
///
/// Migrates, starts a small receiver on 127.0.0.1, publishes actions, lets a simulated platform complete calls inside
/// its own transactions (some rolled back), sends them, and shows the history, with a delivery in each final state. With
/// `--keep`, it then waits with a console in which everything can be changed by whoever reaches 127.0.0.1.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: Database,

    /// Leave dispatcher, receiver and a console running until Ctrl-C or Enter, and print where to look around.
    #[arg(long)]
    keep: bool,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let store = self.database.connect(CONNECTIONS).await?;
        chapter("The schema")?;
        let applied = store.migrate().await?;
        print_line(&format!("{} migrations applied; everything lives in the schema postcall", applied.len()))?;
        store.open_demo_books().await?;
        let receiver = Receiver::start().await?;

        publish(&store, &receiver).await?;
        complete_calls(&store).await?;
        let (stop, dispatcher) = start_dispatcher(&store)?;
        wait_until_settled(&store).await?;
        show(&store, &receiver).await?;
        if self.keep {
            keep(&self.database.url, &receiver).await?;
        }
        stop.drain.cancel();
        let ended = dispatcher.await.map_err(|error| CliError::Problem(error.to_string()))?;
        ended.map_err(|error| CliError::Problem(chain(&error).to_string()))?;
        Ok(())
    }
}

fn chapter(title: &str) -> Result<(), CliError> {
    print_line(&format!("\n── {title} {}", "─".repeat(74_usize.saturating_sub(title.chars().count()))))
}

/// Shows the documentation's example with its mistake, and publishes the corrected example and the actions of other
/// agents.
async fn publish(store: &Store, receiver: &Receiver) -> Result<(), CliError> {
    chapter("A customer checks the example action of the platform's documentation")?;
    let example = actions::example(&receiver.url("/crm/calls"), actions::EXAMPLE_BODY);
    if let Err(problems) = examine(&example) {
        print_line(&shown(&problems))?;
    }
    chapter("… adds the missing comma and publishes it; other customers publish theirs")?;
    for published in actions::all(receiver) {
        let file = examine(&published.file).map_err(|problems| CliError::Problem(shown(&problems)))?;
        let version = store.publish_action(published.agent, published.name, &file.spec, file.enabled, BY).await?;
        let (agent, name, why) = (published.agent, published.name, published.shows);
        print_line(&format!("published {agent} {name} version {version}: {why}"))?;
    }
    Ok(())
}

/// The simulated platform: runs concurrent business transactions, of which some are rolled back.
async fn complete_calls(store: &Store) -> Result<(), CliError> {
    chapter("The platform completes calls inside its own transactions")?;
    let (mut committed, mut rolled_back) = (0, 0);
    let mut open = JoinSet::new();
    for call in calls::all() {
        match call.close {
            Close::Commit => committed += 1,
            Close::RollBack => rolled_back += 1,
        }
        let store = store.clone();
        open.spawn(
            async move { store.complete_call(call.agent, &call.json, &call.sid, call.seconds, call.close).await },
        );
        if open.len() >= CONCURRENT_CALLS {
            closed(open.join_next().await)?;
        }
    }
    while let Some(done) = open.join_next().await {
        closed(Some(done))?;
    }
    store.switch_action(actions::PAUSED_AGENT, crate::domain::action::DEFAULT_NAME, false, BY).await?;
    print_line(&format!(
        "{committed} calls committed together with a row of the platform's own table, {rolled_back} rolled back.\n\
         {} then disables its action, before anything is sent.",
        actions::PAUSED_AGENT
    ))
}

type Joined<T> = Result<Result<T, crate::store::StoreError>, tokio::task::JoinError>;

fn closed<T>(done: Option<Joined<T>>) -> Result<(), CliError> {
    match done {
        Some(Ok(Err(error))) => Err(error.into()),
        Some(Err(error)) => Err(CliError::Problem(error.to_string())),
        Some(Ok(Ok(_))) | None => Ok(()),
    }
}

type Running = tokio::task::JoinHandle<Result<dispatcher::Tally, dispatcher::RunError>>;

fn start_dispatcher(store: &Store) -> Result<(StopTokens, Running), CliError> {
    let (webhook, policy) = TargetArguments::of_this_machine().webhook(true, false, None)?;
    let settings = dispatcher::DispatcherSettings {
        limits: Limits { in_flight: 16, per_agent: 16, per_host: 16, adapt: true, hold_unreachable: true },
        max_unrecorded: 16,
        lease: Duration::from_secs(15),
        drain_timeout: Duration::from_secs(5),
        policy,
        change_policy: false,
        max_call_bytes: dispatcher::DEFAULT_MAX_CALL_BYTES,
        max_bytes_in_flight: dispatcher::DEFAULT_MAX_BYTES_IN_FLIGHT,
        retention: Default::default(),
        keep_excerpts: Default::default(),
        keys: None,
        spans: None,
        sealing: None,
    };
    let seat = dispatcher::Seat::all(webhook, settings.limits.clone(), 1).remove(0);
    let (stop, store) = (StopTokens::default(), store.clone());
    let until = stop.clone();
    let running =
        tokio::spawn(
            async move { dispatcher::run(store, seat, settings, &run::name(), until, &Metrics::default()).await },
        );
    Ok((stop, running))
}

async fn wait_until_settled(store: &Store) -> Result<(), CliError> {
    let settled = async {
        loop {
            let counts = store.count_by_state().await?;
            let open: i64 = counts.iter().filter(|(state, _)| !state.is_final()).map(|c| c.1).sum();
            if open == 0 {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(GIVE_UP_AFTER, settled)
        .await
        .map_err(|_| CliError::Problem("the demo's calls were not all dispatched in time".to_owned()))?
}

async fn show(store: &Store, receiver: &Receiver) -> Result<(), CliError> {
    chapter("What became of each call (postcall history)")?;
    let rows = store.history(&HistoryFilter::default(), 100).await?;
    history::print(&rows, Format::Table)?;
    chapter("In numbers")?;
    for (state, count) in store.count_by_state().await? {
        print_line(&format!("{state:<10} {count}"))?;
    }
    let counts = receiver.requests_per_message();
    let twice = counts.values().filter(|count| **count > 1).count();
    print_line(&format!(
        "\nthe receiver saw {} requests for {} deliveries; {twice} of them twice",
        counts.values().sum::<usize>(),
        counts.len()
    ))
}

async fn keep(url: &str, receiver: &Receiver) -> Result<(), CliError> {
    chapter("Everything keeps running until Ctrl-C or Enter")?;
    let receiver_url = receiver.url("");
    let program = std::env::current_exe()
        .map_err(|source| CliError::System { what: "find out where this program is", source })?;
    let program = program.display();
    let stop = StopTokens::default();
    signals::stop_on_signals(stop.clone())?;
    let console = listening(url).await?;
    print_line(&format!(
        "the console    http://{}/   (with forms: everything can be tried out)\n\
         the database   psql '{url}'\n\
         the receiver   {receiver_url}\n\
         look around    DATABASE_URL='{url}' {program} history\n\
         one more call  psql '{url}' -c \"INSERT INTO postcall.outbox (agent, call) VALUES ('{}', '{{}}')\"",
        console.address(),
        actions::EXAMPLE_AGENT
    ))?;
    tokio::select! {
        () = console.serve(stop.drain.clone()) => {}
        () = enter() => stop.drain.cancel(),
    }
    Ok(())
}

/// A console for whoever is at this machine: nobody logs in, and everything can be tried out, as by `postcall console --write`.
async fn listening(url: &str) -> Result<Console, CliError> {
    let reader = Store::connect_to_read(url, console::CONNECTIONS, console::PATIENCE).await?;
    let health = Store::connect_to_read(url, 1, console::PATIENCE).await?;
    let tail = Store::connect_to_read(url, 1, console::PATIENCE).await?;
    let writes = Access { role: None, writes: true };
    let writer = Store::connect_as(url, console::CONNECTIONS, console::PATIENCE, writes).await?;
    let readers = std::array::from_fn(|_| reader.clone());
    let stores = Stores::new(readers, Some([writer.clone(), writer]), health, tail);
    let now = stores.now().await?;
    let auth = Auth::Nobody(Some(VISITOR.to_owned()));
    // Tests may call what the dispatcher may.
    let (webhook, _policy) = TargetArguments::of_this_machine().webhook(false, false, None)?;
    let tester = Some(Tester::new(webhook, None));
    let settings = Settings { listen: CONSOLE, auth, public: None, proxies: Vec::new(), links: None, tester };
    let console = Console::listen(settings, stores, now);
    console.await.map_err(|source| CliError::System { what: "listen for browsers", source })
}

/// Waits until a person presses Enter. If nobody can (stdin is closed), it waits for ever.
async fn enter() {
    let (pressed, waiting) = tokio::sync::oneshot::channel();
    // A thread of its own, because no read of stdin can be given up: the process ends without it.
    std::thread::spawn(move || {
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {
            // Nobody may be waiting any more.
            let _sent = pressed.send(());
        }
    });
    if waiting.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Shared by the receiver's handlers.
type Shared<T> = Arc<std::sync::Mutex<T>>;
