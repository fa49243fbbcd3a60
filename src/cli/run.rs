//! `postcall run`: runs one dispatcher, from reading its settings to its drain.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::{FalseyValueParser, RangedU64ValueParser};
use tracing::{info, warn};

use super::CliError;
use super::databases::{Databases, NamedDatabase};
use super::fleet::{self, Member};
use super::key_file::KeyFile;
use super::limits::LimitArguments;
use super::prune::Keep;
use super::seal_key::{Elsewhere, SealArguments};
use super::signals::stop_on_signals;
use super::spans::SpanArguments;
use super::targets::TargetArguments;
use crate::dispatcher::{self, DispatcherSettings, RunError, Seat, StopTokens, Tally};
use crate::domain::chain::chain;
use crate::domain::retention::ExcerptDays;
use crate::metrics::{self, Metrics};
use crate::spans::Exporter;
use crate::store::dispatchers::LONGEST_LEASE;
use crate::store::obstacles::Obstacle;
use crate::store::{Store, StoreError};

/// Connections of a dispatcher's pool: only the one that listens for new calls. Scout, claimer, finisher, lease,
/// recovery and reporter each have one outside of the pool, and housekeeping opens one for a moment.
const CONNECTIONS: u32 = 1;
/// The shortest lease that can be set.
const MIN_LEASE_MS: u64 = dispatcher::MIN_LEASE.as_millis() as u64;
/// The longest lease that can be set.
const MAX_LEASE_MS: u64 = LONGEST_LEASE.as_millis() as u64;

/// No call needs more: Postgres itself cannot store a text of 1 GiB.
const MAX_MAX_CALL_BYTES: u64 = 256 * 1024 * 1024;
/// A limit beyond the memory of any machine.
const MAX_MAX_BYTES_IN_FLIGHT: u64 = 1 << 40;

/// Run a dispatcher: claim waiting deliveries, send them, record their outcomes.
///
/// Any number of dispatchers, on any number of machines, may share one database. If the platform keeps its calls in
/// several databases, one process serves all of them, by a list of databases or several URLs: each has its own lease,
/// connections and workers, and the limits hold for all of them together. After SIGTERM, SIGINT, SIGHUP or
/// SIGQUIT, the dispatcher claims nothing more, finishes what is in flight within the drain time, writes every result,
/// and logs the totals. A second signal ends the drain at once.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    databases: Databases,

    #[command(flatten)]
    limits: LimitArguments,

    /// How long this dispatcher counts as alive without renewing its lease, in milliseconds. After that, others give up
    /// what it had in flight, as `unknown`.
    #[arg(long, env = "POSTCALL_LEASE_MS", default_value_t = 15_000, value_name = "MS",
          value_parser = RangedU64ValueParser::<u64>::new().range(MIN_LEASE_MS..=MAX_LEASE_MS))]
    lease_ms: u64,

    /// How long requests in flight may take to end after SIGTERM, in milliseconds. Requests that are then cut off
    /// become `unknown`. The default is the longest timeout that an action can have.
    #[arg(long, env = "POSTCALL_DRAIN_TIMEOUT_MS", default_value_t = 120_000, value_name = "MS",
          value_parser = RangedU64ValueParser::<u64>::new().range(0..=3_600_000))]
    drain_timeout_ms: u64,

    /// The largest call that is fetched, in bytes. A larger one is still accepted from the platform, but its deliveries
    /// fail (`too_large`).
    #[arg(long, env = "POSTCALL_MAX_CALL_BYTES", default_value_t = dispatcher::DEFAULT_MAX_CALL_BYTES,
          value_name = "BYTES", value_parser = RangedU64ValueParser::<usize>::new().range(1_024..=MAX_MAX_CALL_BYTES))]
    max_call_bytes: usize,

    /// The largest number of bytes of calls and rendered bodies in memory at the same time; small ones are not counted.
    /// It must hold at least one largest call (or 4 MiB) and one largest body (5 MiB).
    #[arg(long, env = "POSTCALL_MAX_BYTES_IN_FLIGHT", default_value_t = dispatcher::DEFAULT_MAX_BYTES_IN_FLIGHT,
          value_name = "BYTES", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_MAX_BYTES_IN_FLIGHT))]
    max_bytes_in_flight: usize,

    #[command(flatten)]
    keep: Keep,

    /// Days for which the beginning and the end of responses other than 2xx are kept (4 KiB of each), 1 to 366, for `postcall
    /// show`; without it, none is kept. Receivers may write personal data into them: only who may read
    /// postcall.response_excerpt sees them.
    #[arg(
        long,
        env = "POSTCALL_KEEP_RESPONSES_DAYS",
        value_name = "DAYS",
        default_value = "",
        hide_default_value = true
    )]
    keep_responses_days: ExcerptDays,

    #[command(flatten)]
    sealing: SealArguments,

    /// Serve metrics at this address and port, such as 127.0.0.1:9464: /metrics for Prometheus, /healthz, and /readyz,
    /// which says 503 and the reason while the dispatcher cannot work. There is no TLS and no password: take an address
    /// that only monitoring reaches.
    #[arg(
        long,
        env = "POSTCALL_METRICS_LISTEN",
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true
    )]
    metrics_listen: ListenAddress,

    #[command(flatten)]
    spans: SpanArguments,

    #[command(flatten)]
    targets: TargetArguments,

    #[command(flatten)]
    key_file: KeyFile,

    /// Start although dispatchers with another policy run, because the policy is being changed. Restart one dispatcher
    /// after the other with the new settings and this flag. Remove the flag afterwards.
    #[arg(long, env = "POSTCALL_CHANGE_POLICY", value_parser = FalseyValueParser::new())]
    change_policy: bool,
}

/// An address and port at which to listen. An empty text means nowhere, because an unset variable in a compose file is
/// empty.
#[derive(Clone, Copy, Debug, Default)]
struct ListenAddress(Option<SocketAddr>);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddress, String> {
        if text.is_empty() {
            return Ok(ListenAddress(None));
        }
        let address = text.parse().map_err(|_| {
            format!("{text} is not an address and port such as 127.0.0.1:9464 or [::1]:9464 (a name is not one)")
        })?;
        Ok(ListenAddress(Some(address)))
    }
}

impl ListenAddress {
    /// Takes the address, if there is one.
    async fn bind(self) -> Result<Option<metrics::Server>, CliError> {
        let Some(address) = self.0 else { return Ok(None) };
        match metrics::Server::bind(address).await {
            Ok(server) => Ok(Some(server)),
            Err(error) => Err(CliError::Problem(format!(
                "cannot serve metrics at {address} (--metrics-listen): {error}. Choose another port, or end what uses it"
            ))),
        }
    }
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let databases = self.databases.all()?;
        self.check_budget(databases.len())?;
        let server = self.metrics_listen.bind().await?;
        let metrics: Vec<Metrics> = databases.iter().map(|_| Metrics::default()).collect();
        let stop = StopTokens::default();
        let of_first = metrics.first().cloned().unwrap_or_default();
        let seals = self.sealing.is_asked_for();
        let (setup, seats, exporter) = self.setup(databases.len(), &of_first)?;
        let scraped = databases.iter().zip(&metrics).map(|(database, metrics)| {
            let store = Store::unconnected(&database.url)?;
            Ok(metrics::Source { database: database.name.clone(), metrics: metrics.clone(), store, seals })
        });
        let scraped = scraped.collect::<Result<Vec<_>, StoreError>>()?;
        let members: Vec<Member> = databases
            .into_iter()
            .zip(seats)
            .zip(metrics)
            .map(|((database, seat), metrics)| Member { database, seat, metrics })
            .collect();
        let ended = match <[Member; 1]>::try_from(members) {
            Ok([only]) => {
                let (store, settings) = setup.open(&only.database, None).await?;
                stop_on_signals(stop.clone())?;
                start(server, scraped);
                dispatch(store, only.seat, settings, stop, &only.metrics).await.told()
            }
            Err(members) => {
                stop_on_signals(stop.clone())?;
                start(server, scraped);
                fleet::run(members, setup, stop).await
            }
        };
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
        ended
    }

    /// What dispatchers of so many databases need, and their seats. Spans are counted in `metrics`.
    fn setup(self, databases: usize, metrics: &Metrics) -> Result<(Setup, Vec<Seat>, Option<Exporter>), CliError> {
        let retention = self.keep.retention()?;
        let keys = self.key_file.keyring()?.map(Arc::new);
        let (spans, exporter) = self.spans.start(self.targets.ca_file(), metrics)?.unzip();
        let elsewhere = self.sealing.elsewhere(self.targets.ca_file())?;
        let limits = self.limits.limits();
        let keep_excerpts = self.keep_responses_days;
        let (webhook, policy) =
            self.targets.webhook(limits.hold_unreachable, keep_excerpts.days().is_some(), keys.as_deref())?;
        let seats = Seat::all(webhook, limits.clone(), databases as u16);
        let settings = dispatcher::DispatcherSettings {
            limits,
            max_unrecorded: self.limits.max_unrecorded,
            lease: Duration::from_millis(self.lease_ms),
            drain_timeout: Duration::from_millis(self.drain_timeout_ms),
            policy,
            change_policy: self.change_policy,
            max_call_bytes: self.max_call_bytes,
            max_bytes_in_flight: self.max_bytes_in_flight / databases,
            retention,
            keep_excerpts,
            keys,
            spans,
            sealing: None,
        };
        Ok((Setup { settings, sealing: Arc::new(self.sealing), elsewhere }, seats, exporter))
    }

    /// If the budget could not hold one largest call and one largest body, such a delivery would wait forever.
    fn check_budget(&self, databases: usize) -> Result<(), CliError> {
        let least = dispatcher::least_bytes_in_flight(self.max_call_bytes) * databases;
        if self.max_bytes_in_flight >= least {
            return Ok(());
        }
        let of_each = if databases == 1 { String::new() } else { format!(" for each of {databases} databases") };
        Err(CliError::Problem(format!(
            "--max-bytes-in-flight is {}, but a largest call and a largest body{of_each} need {least}: raise it, or lower --max-call-bytes",
            self.max_bytes_in_flight
        )))
    }
}

/// Says what the database user may do that no dispatcher needs, a line for each. It is no reason not to start.
async fn warn_of_excess(store: &Store) -> Result<(), StoreError> {
    for excess in store.excess().await? {
        warn!("the database user {}. No dispatcher needs that: {}", excess.found(), excess.cure());
    }
    Ok(())
}

/// What the dispatcher of each database is set up with.
#[derive(Clone)]
pub(super) struct Setup {
    settings: DispatcherSettings,
    sealing: Arc<SealArguments>,
    elsewhere: Elsewhere,
}

impl Setup {
    /// Opens a database, and checks that a dispatcher can work in it. `name` is given if there are several.
    pub(super) async fn open(
        &self,
        database: &NamedDatabase,
        name: Option<&str>,
    ) -> Result<(Store, DispatcherSettings), CliError> {
        let store = database.open(CONNECTIONS).await?;
        if store.is_standby().await? {
            return Err(StoreError::from(Obstacle::Standby).into());
        }
        warn_of_excess(&store).await?;
        let retention = self.settings.retention;
        if !retention.is_for_ever() {
            // Checked now, so that the error appears at the start and not in the log every hour.
            store.session(dispatcher::retention::PRUNING_PATIENCE).require_permitted(retention).await?;
        }
        let sealing = self.sealing.sealing(&store, name, &self.elsewhere).await?;
        Ok((store, DispatcherSettings { sealing, ..self.settings.clone() }))
    }
}

/// Serves metrics, if they were asked for. The server ends with the process, so that the drain can be watched, too.
fn start(server: Option<metrics::Server>, scraped: Vec<metrics::Source>) {
    if let Some(server) = server {
        server.start(scraped);
    }
}

/// How a dispatcher ended, and what became of what it had claimed.
pub(super) struct Ended {
    /// `None` if it did not begin.
    pub(super) tally: Option<Tally>,
    /// Why it ended or did not begin, if nobody had told it to end.
    pub(super) error: Option<CliError>,
}

impl Ended {
    /// It did not begin.
    pub(super) fn before_it_began(error: CliError) -> Ended {
        Ended { tally: None, error: Some(error) }
    }

    /// Logs how its claimed deliveries ended, and says in one error what went wrong.
    fn told(self) -> Result<(), CliError> {
        match (self.error, self.tally.map_or(Ok(()), say_goodbye)) {
            (None, said) => said,
            (Some(error), Ok(())) => Err(error),
            (Some(error), Err(lost)) => Err(CliError::Problem(format!("{}; {}", chain(&error), chain(&lost)))),
        }
    }
}

/// Runs a dispatcher until it ends.
pub(super) async fn dispatch(
    store: Store,
    seat: Seat,
    settings: DispatcherSettings,
    stop: StopTokens,
    metrics: &Metrics,
) -> Ended {
    let ended = dispatcher::run(store.clone(), seat, settings, &name(), stop, metrics).await;
    store.close().await;
    match ended {
        Ok(tally) => Ended { tally: Some(tally), error: None },
        Err(RunError::Stopped { cause, tally }) => {
            Ended { tally: Some(tally), error: Some(CliError::Problem(format!("the dispatcher stopped: {cause}"))) }
        }
        Err(RunError::PolicyDiffers(conflict)) => {
            Ended::before_it_began(CliError::Problem(format!("{conflict}\n{CURE}")))
        }
        Err(RunError::Store(error)) => Ended::before_it_began(error.into()),
    }
}

/// What to do if dispatchers have different policies.
const CURE: &str = "Start this one with the same settings. To change them for the whole installation, restart one \
                    dispatcher after the other with the new ones and --change-policy.";

/// The dispatcher's name for people: host name and process id.
pub(super) fn name() -> String {
    // A machine that cannot say its name still has a process id, and nothing depends on the name.
    let host = nix::unistd::gethostname().unwrap_or_else(|_| "unknown".into());
    format!("{}:{}", host.to_string_lossy(), std::process::id())
}

/// Logs how the claimed deliveries of a dispatcher ended.
pub(super) fn say_goodbye(tally: Tally) -> Result<(), CliError> {
    info!(
        delivered = tally.delivered,
        rejected = tally.rejected,
        failed = tally.failed,
        unknown = tally.unknown,
        skipped = tally.skipped,
        returned = tally.returned,
        "stopped"
    );
    if tally.unwritten > 0 {
        warn!(results.unwritten = tally.unwritten, "results were lost; their deliveries are still in `sending`");
        return Err(CliError::Problem(format!("{} results could not be written", tally.unwritten)));
    }
    Ok(())
}
