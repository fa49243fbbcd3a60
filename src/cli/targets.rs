//! The settings of what may be called, which every dispatcher of an installation has alike.

use std::convert::Infallible;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use clap::builder::{FalseyValueParser, OsStringValueParser, TypedValueParser};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use super::CliError;
use super::private_file::private;
use crate::domain::body_digest::ResponseDigests;
use crate::domain::policy::Policy;
use crate::vault::Keyring;
use crate::webhook::{DeniedTarget, EgressProxy, NotAProxy, PortRange, TargetRules, Webhook, WebhookSettings};

/// The setting that names the file with the URL of the proxy.
const FILE_SETTING: &str = "--egress-proxy-file";
/// The largest such file, in bytes.
const MAX_PROXY_FILE_BYTES: usize = 16 * 1024;

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
    /// address. It may be anywhere. If there is a password, give a file (--egress-proxy-file) or set the variable: arguments can be
    /// seen by all who may list processes.
    #[arg(
        long,
        env = "POSTCALL_EGRESS_PROXY",
        value_name = "URL",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    egress_proxy: ProxyText,

    /// The same, with the URL in this file, on one line; lines that begin with # are comments. Nobody but its owner may read it. It is
    /// read at the start. Give one of the two.
    #[arg(
        long,
        env = "POSTCALL_EGRESS_PROXY_FILE",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    egress_proxy_file: ProxyFile,
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

    /// The proxy, if there is one. If both settings name one, neither is taken: whoever changes one of them should not be
    /// left with the other.
    fn proxy(&self) -> Result<Option<EgressProxy>, CliError> {
        match (self.egress_proxy.is_given(), self.egress_proxy_file.0.is_empty()) {
            (true, false) => Err(CliError::Usage(
                "give one of --egress-proxy and --egress-proxy-file (or of the variables POSTCALL_EGRESS_PROXY and \
                 POSTCALL_EGRESS_PROXY_FILE), and not both",
            )),
            (_, true) => self.egress_proxy.proxy(),
            (false, false) => self.egress_proxy_file.proxy().map(Some),
        }
    }

    /// The HTTP client that may call these targets, and the same rules as a policy.
    /// `keys` make the digests of what it answers.
    pub(super) fn webhook(
        self,
        hold_unreachable: bool,
        keep_excerpts: bool,
        keys: Option<&Keyring>,
    ) -> Result<(Webhook, Policy), CliError> {
        let (ca_file, egress_proxy) = (self.ca_file().map(Path::to_owned), self.proxy()?);
        let targets = TargetRules {
            allow_http: self.allow_http,
            allow_targets: self.allow_targets.0.into_iter().map(|Range(range)| range).collect(),
            deny_targets: self.deny_targets.0,
            allow_ports: self.allow_ports.0,
            only_ports: self.only_ports.0,
        };
        let policy = targets.policy();
        let settings = WebhookSettings {
            targets,
            hold_unreachable,
            keep_excerpts,
            response_digests: keys.map(|keys| keys.digest_key() as Arc<dyn ResponseDigests>),
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
    fn is_given(&self) -> bool {
        !self.0.expose_secret().is_empty()
    }

    fn proxy(&self) -> Result<Option<EgressProxy>, CliError> {
        if !self.is_given() {
            return Ok(None);
        }
        let proxy: Result<EgressProxy, NotAProxy> = self.0.expose_secret().parse();
        proxy.map(Some).map_err(|why| CliError::Problem(format!("cannot use the proxy of --egress-proxy: {why}")))
    }
}

/// The file with the URL of the proxy. An empty text means none, because an unset variable in a compose file is empty.
#[derive(Clone, Default)]
struct ProxyFile(String);

impl ProxyFile {
    /// The proxy that the file names.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or it holds something else than one URL of a proxy. Nothing of it is repeated.
    fn proxy(&self) -> Result<EgressProxy, CliError> {
        let path = self.0.as_str();
        // Somebody gave the URL itself, which perhaps has a password, and an error about a file would repeat it.
        if path.contains("://") || (path.contains('@') && !Path::new(path).exists()) {
            return Err(CliError::Problem(format!("{FILE_SETTING}: give the name of a file in which the URL stands")));
        }
        let text = private(path, (FILE_SETTING, "the file with the URL of the proxy"), MAX_PROXY_FILE_BYTES)?;
        let wrong = |why: &dyn Display| CliError::Problem(format!("{FILE_SETTING} {path}: {why}"));
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        // A file that somebody emptied must not let requests go out beside the proxy.
        match (lines.next(), lines.next()) {
            (Some(line), None) => line.parse().map_err(|why: NotAProxy| wrong(&why)),
            (None, _) => Err(wrong(&"the file holds no URL")),
            (Some(_), Some(_)) => Err(wrong(&"the file holds more than one line")),
        }
    }
}

impl FromStr for ProxyFile {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<ProxyFile, Infallible> {
        Ok(ProxyFile(text.into()))
    }
}

/// Perhaps it is no name of a file, but what should be in one.
impl fmt::Debug for ProxyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyFile(…)")
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
