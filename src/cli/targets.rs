//! The settings of what may be called, which every dispatcher of an installation has alike.

use std::convert::Infallible;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use clap::builder::{FalseyValueParser, OsStringValueParser, TypedValueParser};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::CliError;
use crate::domain::policy::Policy;
use crate::webhook::{DeniedTarget, EgressProxy, NotAProxy, PortRange, TargetRules, Webhook, WebhookSettings};

/// What may be called. Without any of these: https on public addresses, but not at ports that are never a web server's.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct TargetArguments {
    /// Address ranges that may be called although they are not public, such as 10.1.0.0/16,::1/128.
    #[arg(
        long = "allow-target",
        env = "POSTCALL_ALLOW_TARGETS",
        value_name = "CIDR,…",
        default_value = "",
        hide_default_value = true
    )]
    allow_targets: List<Range>,

    /// What must not be called, whatever allows it: address ranges, addresses, and names, each with all names below it. List
    /// the platform's own public addresses and names here. A name alone is a weak fence, because anybody can give an
    /// address another name.
    #[arg(
        long = "deny-target",
        env = "POSTCALL_DENY_TARGETS",
        value_name = "CIDR|NAME,…",
        default_value = "",
        hide_default_value = true
    )]
    deny_targets: List<DeniedTarget>,

    /// Ports that may be called although web servers do not use them, such as 6379 or 9090-9094: those of databases,
    /// caches, mail, shells, and of what steers and measures clusters, and those that browsers refuse.
    #[arg(
        long = "allow-port",
        env = "POSTCALL_ALLOW_PORTS",
        value_name = "PORT,…",
        default_value = "",
        hide_default_value = true
    )]
    allow_ports: List<PortRange>,

    /// The only ports that may be called, such as 443,8443.
    #[arg(
        long = "only-port",
        env = "POSTCALL_ONLY_PORTS",
        value_name = "PORT,…",
        default_value = "",
        hide_default_value = true
    )]
    only_ports: List<PortRange>,

    /// Allow plain http, which anybody on the network path can read.
    #[arg(long, env = "POSTCALL_ALLOW_HTTP", value_parser = FalseyValueParser::new())]
    allow_http: bool,

    /// A file of certificates of authorities to trust, in PEM, in addition to those of the system.
    #[arg(long, env = "POSTCALL_CA_FILE", value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    ca_file: Option<PathBuf>,

    /// Send every request through this proxy, by HTTP CONNECT, such as `http://proxy.internal:3128` or
    /// `http://NAME:PASSWORD@proxy.internal:3128`. Names are looked up and targets judged here, and the proxy is told the
    /// address. It may be anywhere. Set the variable if there is a password: arguments can be seen by all who may list processes.
    #[arg(
        long,
        env = "POSTCALL_EGRESS_PROXY",
        value_name = "URL",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    egress_proxy: ProxyText,
}

impl TargetArguments {
    /// The file of further authorities, if there is one. An unset variable in a compose file is empty.
    pub(super) fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// Of this machine's own receiver, over plain http, and of public ones.
    pub(super) fn of_this_machine() -> TargetArguments {
        let loopback = IpNet::from(std::net::IpAddr::from([127, 0, 0, 1]));
        TargetArguments { allow_targets: List(vec![Range(loopback)]), allow_http: true, ..TargetArguments::default() }
    }

    /// The HTTP client that may call these targets, and the same rules as a policy.
    pub(super) fn webhook(self, hold_unreachable: bool, keep_excerpts: bool) -> Result<(Webhook, Policy), CliError> {
        let ca_file = self.ca_file().map(Path::to_owned);
        let targets = TargetRules {
            allow_http: self.allow_http,
            allow_targets: self.allow_targets.0.into_iter().map(|Range(range)| range).collect(),
            deny_targets: self.deny_targets.0,
            allow_ports: self.allow_ports.0,
            only_ports: self.only_ports.0,
        };
        let policy = targets.policy();
        let egress_proxy = self.egress_proxy.proxy()?;
        let settings = WebhookSettings {
            targets,
            hold_unreachable,
            keep_excerpts,
            egress_proxy,
            ca_file,
            ..WebhookSettings::default()
        };
        Ok((Webhook::new(settings)?, policy))
    }
}

/// The proxy as a person types it. It is read later, because clap repeats a text that cannot be read, and this one may have a
/// password. An empty text means none, because an unset variable in a compose file is empty.
#[derive(Clone, Default)]
struct ProxyText(SecretString);

impl ProxyText {
    fn proxy(&self) -> Result<Option<EgressProxy>, CliError> {
        let text = self.0.expose_secret();
        if text.is_empty() {
            return Ok(None);
        }
        let proxy: Result<EgressProxy, NotAProxy> = text.parse();
        proxy.map(Some).map_err(|why| CliError::Problem(format!("cannot use the proxy of --egress-proxy: {why}")))
    }
}

impl FromStr for ProxyText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<ProxyText, Infallible> {
        Ok(ProxyText(text.into()))
    }
}

impl fmt::Debug for ProxyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyText(…)")
    }
}

/// Items separated by commas or blanks. An empty text means none, because an unset variable in a compose file is empty.
#[derive(Clone, Debug)]
struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List(Vec::new())
    }
}

impl<T: FromStr<Err: Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<List<T>, String> {
        let items = text.split([',', ' ']).filter(|item| !item.is_empty());
        items.map(|item| item.parse().map_err(|error| format!("{item}: {error}"))).collect::<Result<_, _>>().map(List)
    }
}

/// A range of addresses, as a person types it.
#[derive(Clone, Copy, Debug)]
struct Range(IpNet);

impl FromStr for Range {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Range, &'static str> {
        text.parse().map(Range).map_err(|_| "expected an address range such as 10.1.0.0/16 or ::1/128")
    }
}
