//! `postcall run`: one dispatcher, from its settings to its drain.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{FalseyValueParser, RangedU64ValueParser};
use ipnet::IpNet;
use tracing::{info, warn};

use super::limits::LimitArguments;
use super::prune::Keep;
use super::signals::stop_on_signals;
use super::{CliError, Database};
use crate::dispatcher::{self, RunError, Stop, Tally};
use crate::domain::policy::Policy;
use crate::store::StoreError;
use crate::store::dispatchers::LONGEST_LEASE;
use crate::store::obstacles::Obstacle;
use crate::webhook::{self, Webhook};

/// Connections of a dispatcher's pool: the one that listens for new calls. Scout, claimer, finisher, lease, recovery and reporter have one each
/// beside it, and housekeeping for a moment.
const CONNECTIONS: u32 = 1;
/// The shortest lease.
const MIN_LEASE_MS: u64 = dispatcher::MIN_LEASE.as_millis() as u64;
/// The longest lease.
const MAX_LEASE_MS: u64 = LONGEST_LEASE.as_millis() as u64;

/// No call needs more: Postgres itself holds no text of 1 GiB.
const MAX_MAX_CALL_BYTES: u64 = 256 * 1024 * 1024;
/// More than any machine has room for.
const MAX_MAX_BYTES_IN_FLIGHT: u64 = 1 << 40;

/// Run a dispatcher: claim waiting deliveries, send them, record what came of them.
///
/// Any number of dispatchers, on any number of machines, may share one database.
/// SIGTERM, SIGINT, SIGHUP or SIGQUIT: claims no more, finishes what is in flight within the drain time,
/// writes every result, says what was left. A second signal ends the drain at once.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: Database,

    #[command(flatten)]
    limits: LimitArguments,

    /// After how long without a sign of life this dispatcher counts as lost, in milliseconds. Others then
    /// give up what it had in flight, as `unknown`.
    #[arg(long, env = "POSTCALL_LEASE_MS", default_value_t = 15_000, value_name = "MS",
          value_parser = RangedU64ValueParser::<u64>::new().range(MIN_LEASE_MS..=MAX_LEASE_MS))]
    lease_ms: u64,

    /// How long requests in flight may take to end after SIGTERM, in milliseconds. Those cut off
    /// afterwards become `unknown`. The default is the longest timeout an action can have.
    #[arg(long, env = "POSTCALL_DRAIN_TIMEOUT_MS", default_value_t = 120_000, value_name = "MS",
          value_parser = RangedU64ValueParser::<u64>::new().range(0..=3_600_000))]
    drain_timeout_ms: u64,

    /// Bytes of the largest call that is fetched. A larger one is accepted from the platform as ever, and its
    /// deliveries fail (`too_large`).
    #[arg(long, env = "POSTCALL_MAX_CALL_BYTES", default_value_t = dispatcher::DEFAULT_MAX_CALL_BYTES,
          value_name = "BYTES", value_parser = RangedU64ValueParser::<usize>::new().range(1_024..=MAX_MAX_CALL_BYTES))]
    max_call_bytes: usize,

    /// Bytes of calls and rendered bodies held at the same time; small ones are not counted. At least one
    /// largest call (or 4 MiB) and one largest body (5 MiB).
    #[arg(long, env = "POSTCALL_MAX_BYTES_IN_FLIGHT", default_value_t = dispatcher::DEFAULT_MAX_BYTES_IN_FLIGHT,
          value_name = "BYTES", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_MAX_BYTES_IN_FLIGHT))]
    max_bytes_in_flight: usize,

    #[command(flatten)]
    keep: Keep,

    #[command(flatten)]
    targets: Targets,

    /// Start although dispatchers run that may call other targets: the settings are being changed. Restart
    /// one dispatcher after the other with the new settings and this flag, then leave it away again.
    #[arg(long, env = "POSTCALL_CHANGE_POLICY", value_parser = FalseyValueParser::new())]
    change_policy: bool,
}

/// Which targets may be called beside https on public addresses.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Targets {
    /// Address ranges that may be called although they are not public, such as 10.1.0.0/16,::1/128.
    #[arg(
        long = "allow-target",
        env = "POSTCALL_ALLOW_TARGETS",
        value_name = "CIDR,…",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) allow_targets: Ranges,

    /// Allow plain http, which anybody on the way can read.
    #[arg(long, env = "POSTCALL_ALLOW_HTTP", value_parser = FalseyValueParser::new())]
    pub(super) allow_http: bool,
}

/// Address ranges, separated by commas or blanks; none in an empty text, as an unset variable of a compose file is.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(pub(super) Vec<IpNet>);

impl FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Ranges, String> {
        let ranges = text.split([',', ' ']).filter(|range| !range.is_empty());
        ranges
            .map(|range| {
                range.parse().map_err(|_| format!("{range} is no address range such as 10.1.0.0/16 or ::1/128"))
            })
            .collect::<Result<Vec<IpNet>, String>>()
            .map(Ranges)
    }
}

impl Targets {
    /// The client that may call these targets, and what that is as a policy.
    pub(super) fn webhook(self, hold_unreachable: bool) -> Result<(Webhook, Policy), CliError> {
        let settings = webhook::Settings {
            allow_http: self.allow_http,
            allow_targets: self.allow_targets.0,
            hold_unreachable,
            ..webhook::Settings::default()
        };
        let policy = settings.policy();
        let webhook = Webhook::new(settings).map_err(|error| CliError::Problem(error.to_string()))?;
        Ok((webhook, policy))
    }
}

impl Arguments {
    pub(super) async fn run(self) -> Result<(), CliError> {
        self.check_budget()?;
        let retention = self.keep.retention()?;
        let store = self.database.open(CONNECTIONS).await?;
        if store.is_standby().await? {
            return Err(StoreError::from(Obstacle::Standby).into());
        }
        if !retention.is_for_ever() {
            // Said now, and not in the log every hour.
            store.session(dispatcher::retention::PRUNING_PATIENCE).require_permitted(retention).await?;
        }
        let limits = self.limits.limits();
        let (webhook, policy) = self.targets.webhook(limits.hold_unreachable)?;
        let settings = dispatcher::Settings {
            limits,
            max_unrecorded: self.limits.max_unrecorded,
            lease: Duration::from_millis(self.lease_ms),
            drain_timeout: Duration::from_millis(self.drain_timeout_ms),
            policy,
            change_policy: self.change_policy,
            max_call_bytes: self.max_call_bytes,
            max_bytes_in_flight: self.max_bytes_in_flight,
            retention,
        };
        let stop = Stop::default();
        stop_on_signals(stop.clone())?;
        let ended = dispatcher::run(store.clone(), webhook, settings, &name(), stop).await;
        store.close().await;
        match ended {
            Ok(tally) => say_goodbye(tally),
            Err(RunError::Stopped { cause, tally }) => {
                let written = say_goodbye(tally).err().map(|error| format!("; {error}")).unwrap_or_default();
                Err(CliError::Problem(format!("the dispatcher stopped: {cause}{written}")))
            }
            Err(RunError::PolicyDiffers(conflict)) => Err(CliError::Problem(format!("{conflict}\n{CURE}"))),
            Err(RunError::Store(error)) => Err(error.into()),
        }
    }

    /// A budget that could not hold one largest call and one largest body would let them wait for ever.
    fn check_budget(&self) -> Result<(), CliError> {
        let least = dispatcher::least_bytes_in_flight(self.max_call_bytes);
        if self.max_bytes_in_flight >= least {
            return Ok(());
        }
        Err(CliError::Problem(format!(
            "--max-bytes-in-flight is {}, but a largest call and a largest body need {least}: raise it, or lower --max-call-bytes",
            self.max_bytes_in_flight
        )))
    }
}

/// What to do about dispatchers that differ.
const CURE: &str = "Start this one with the same settings. To change them for the whole installation, restart one \
                    dispatcher after the other with the new ones and --change-policy.";

/// Who this dispatcher is, for people: host name and process id.
pub(super) fn name() -> String {
    format!("{}:{}", gethostname::gethostname().to_string_lossy(), std::process::id())
}

fn say_goodbye(tally: Tally) -> Result<(), CliError> {
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
