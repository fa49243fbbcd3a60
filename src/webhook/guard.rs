//! The guard decides which targets may be called: by default, https at addresses in the public Internet, at ports where
//! a web server may be. A tenant who writes a webhook's URL must not be able to reach what only this machine can reach,
//! such as a database, an admin page or a cloud's metadata service.
//!
//! A name is judged by the addresses that it has, when the connection is opened. The guard judges the very
//! addresses that are then connected to. If a name were checked first and looked up again later, its addresses could
//! change in between.

mod denied;
mod ports;
mod public;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

pub use self::denied::{DeniedTarget, NotATarget};
pub use self::ports::{NotPorts, PortRange};

/// What may be called. The default is https to public addresses, at every port that may be a web server's.
#[derive(Clone, Debug, Default)]
pub struct TargetRules {
    /// Whether plain http may be used (`--allow-http`).
    pub allow_http: bool,
    /// Ranges that may be called although they are not public (`--allow-target`).
    pub allow_targets: Vec<IpNet>,
    /// What must not be called, whatever allows it (`--deny-target`).
    pub deny_targets: Vec<DeniedTarget>,
    /// Ports that may be called although web servers do not use them (`--allow-port`).
    pub allow_ports: Vec<PortRange>,
    /// The only ports that may be called, if there are any (`--only-port`).
    pub only_ports: Vec<PortRange>,
}

/// Decides what may be called.
#[derive(Clone, Debug)]
pub(super) struct TargetGuard {
    rules: TargetRules,
}

/// Why a target may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetRefusal {
    /// The URL's scheme is plain http.
    Scheme,
    /// The port is never a web server's.
    Port(u16),
    /// The port is not one of the only ones.
    OtherPort(u16),
    /// The operator denies the host's name or address.
    Denied,
    /// The host's address is not public.
    Address,
}

impl TargetRefusal {
    /// What a delivery's record says: the cause, and what permits it.
    pub(super) fn detail(self) -> String {
        match self {
            TargetRefusal::Scheme => "plain http is refused; --allow-http permits it".to_owned(),
            TargetRefusal::Port(port) => format!("port {port} is not for web servers; --allow-port permits it"),
            TargetRefusal::OtherPort(port) => format!("port {port} is none of those that --only-port permits"),
            TargetRefusal::Denied => "the operator refuses this host (--deny-target)".to_owned(),
            TargetRefusal::Address => "the host is not at a public address; --allow-target permits others".to_owned(),
        }
    }
}

impl TargetGuard {
    /// A guard that keeps these rules.
    pub(super) fn new(rules: TargetRules) -> TargetGuard {
        TargetGuard { rules }
    }

    /// Judges what the URL itself shows: the scheme, the port, and the host as far as it is written there.
    ///
    /// # Errors
    /// Returns the [`TargetRefusal`].
    pub(super) fn check_url(&self, url: &url::Url) -> Result<(), TargetRefusal> {
        if url.scheme() != "https" && !self.rules.allow_http {
            return Err(TargetRefusal::Scheme);
        }
        self.check_port(url.port_or_known_default().unwrap_or(0))?;
        match url.host() {
            Some(url::Host::Ipv4(address)) => self.check_address(IpAddr::V4(address)),
            Some(url::Host::Ipv6(address)) => self.check_address(IpAddr::V6(address)),
            Some(url::Host::Domain(name)) if self.rules.deny_targets.iter().any(|denied| denied.names(name)) => {
                Err(TargetRefusal::Denied)
            }
            Some(url::Host::Domain(_)) | None => Ok(()),
        }
    }

    /// Whether the URL is permitted, as far as it shows: a name is judged when it is looked up, but `localhost` is this machine.
    pub(super) fn permits(&self, url: &url::Url) -> bool {
        let is_here = url.domain().is_some_and(is_localhost);
        self.check_url(url).is_ok() && (!is_here || self.check_address(Ipv4Addr::LOCALHOST.into()).is_ok())
    }

    /// Judges an address that would be connected to.
    ///
    /// # Errors
    /// Returns the [`TargetRefusal`].
    pub(super) fn check_address(&self, address: IpAddr) -> Result<(), TargetRefusal> {
        // One destination can be written in several ways. An operator may list any of them.
        let destination = public::destination(address);
        let forms = [destination, address.to_canonical(), address];
        if self.rules.deny_targets.iter().any(|denied| forms.iter().any(|form| denied.contains(*form))) {
            return Err(TargetRefusal::Denied);
        }
        // A translated address is not permitted by its IPv4 address: whether the network translates is not known here.
        let listed = |net: &IpNet| forms[1..].iter().any(|form| net.contains(form));
        if self.rules.allow_targets.iter().any(listed) || public::is_public(destination) {
            return Ok(());
        }
        Err(TargetRefusal::Address)
    }

    fn check_port(&self, port: u16) -> Result<(), TargetRefusal> {
        let within = |ports: &[PortRange]| ports.iter().any(|range| range.contains(port));
        if within(&self.rules.only_ports) {
            return Ok(());
        }
        if !self.rules.only_ports.is_empty() {
            return Err(TargetRefusal::OtherPort(port));
        }
        if ports::is_never_http(port) && !within(&self.rules.allow_ports) {
            return Err(TargetRefusal::Port(port));
        }
        Ok(())
    }
}

/// Why a dispatcher with the default rules refuses `url`, as far as the URL itself shows. Other names can only be judged
/// when they are looked up, but `localhost` and the names below it always mean this machine (RFC 6761, section 6.3).
pub fn refused_by_default(url: &url::Url) -> Vec<TargetRefusal> {
    let guard = TargetGuard::new(TargetRules::default());
    let scheme = (url.scheme() != "https").then_some(TargetRefusal::Scheme);
    let port = url.port_or_known_default().and_then(|port| guard.check_port(port).err());
    let address = match url.host() {
        Some(url::Host::Domain(name)) => is_localhost(name).then_some(TargetRefusal::Address),
        Some(url::Host::Ipv4(address)) => guard.check_address(IpAddr::V4(address)).err(),
        Some(url::Host::Ipv6(address)) => guard.check_address(IpAddr::V6(address)).err(),
        None => None,
    };
    [scheme, port, address].into_iter().flatten().collect()
}

/// Whether `name` means this machine. The `url` crate gives it in lower case, perhaps with a dot at its end.
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_permitted_as_far_as_it_shows_and_localhost_is_this_machine() {
        let strict = guard(&[]);
        let here = TargetGuard::new(TargetRules {
            allow_http: true,
            allow_targets: vec!["127.0.0.0/8".parse().unwrap()],
            ..TargetRules::default()
        });
        for (url, expected) in [
            ("https://crm.example/", [true, true]),
            ("http://crm.example/", [false, true]),
            ("https://localhost/", [false, true]),
            ("https://a.localhost./", [false, true]),
            ("https://127.0.0.1/", [false, true]),
            ("https://10.0.0.1/", [false, false]),
            ("https://crm.example:25/", [false, false]),
        ] {
            let url = url::Url::parse(url).unwrap();
            assert_eq!([strict.permits(&url), here.permits(&url)], expected, "{url}");
        }
    }

    fn guard(nets: &[&str]) -> TargetGuard {
        let allow_targets = nets.iter().map(|net| net.parse().unwrap()).collect();
        TargetGuard::new(TargetRules { allow_targets, ..TargetRules::default() })
    }

    fn denying(targets: &[&str]) -> TargetGuard {
        let deny_targets = targets.iter().map(|target| target.parse().unwrap()).collect();
        let allow_targets = vec!["10.0.0.0/8".parse().unwrap()];
        TargetGuard::new(TargetRules { allow_targets, deny_targets, ..TargetRules::default() })
    }

    fn judged(guard: &TargetGuard, url: &str) -> Result<(), TargetRefusal> {
        guard.check_url(&url::Url::parse(url).unwrap())
    }

    fn allows(guard: &TargetGuard, address: &str) -> bool {
        guard.check_address(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn a_range_that_is_allowed_opens_itself_and_nothing_beside_it() {
        let guard = guard(&["10.1.0.0/16", "fd00:1::/32"]);
        for address in ["10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3", "fd00:1::5"] {
            assert!(allows(&guard, address), "{address}");
        }
        for address in ["10.0.255.255", "10.2.0.0", "fd00:2::", "127.0.0.1", "64:ff9b::a01:1"] {
            assert!(!allows(&guard, address), "{address}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_in_a_url_is_judged_as_that_address() {
        let guard = guard(&[]);
        let spelled =
            ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "[::1]", "[::ffff:7f00:1]", "１27.0.0.1"];
        for host in spelled {
            let url = url::Url::parse(&format!("https://{host}/")).unwrap();
            assert_eq!(guard.check_url(&url), Err(TargetRefusal::Address), "{host}");
        }
    }

    #[test]
    fn plain_http_needs_leave() {
        let url = url::Url::parse("http://example.com/").unwrap();
        assert_eq!(guard(&[]).check_url(&url), Err(TargetRefusal::Scheme));
        assert_eq!(
            TargetGuard::new(TargetRules { allow_http: true, ..TargetRules::default() }).check_url(&url),
            Ok(())
        );
    }

    #[test]
    fn what_a_dispatcher_refuses_by_default_is_seen_in_the_url_as_far_as_it_can_be() {
        for (url, refusals) in [
            ("https://example.com/", &[][..]),
            ("https://localhost.example.com/", &[]),
            ("https://8.8.8.8/", &[]),
            ("http://example.com/", &[TargetRefusal::Scheme]),
            ("https://10.1.2.3:8443/${a.b}?x=${['#']}", &[TargetRefusal::Address]),
            ("https://[::1]/", &[TargetRefusal::Address]),
            ("https://LocalHost/", &[TargetRefusal::Address]),
            ("https://localhost./", &[TargetRefusal::Address]),
            ("https://a.localhost/", &[TargetRefusal::Address]),
            ("http://169.254.169.254/", &[TargetRefusal::Scheme, TargetRefusal::Address]),
            ("https://example.com:6379/", &[TargetRefusal::Port(6379)]),
            ("http://10.0.0.1:22/", &[TargetRefusal::Scheme, TargetRefusal::Port(22), TargetRefusal::Address]),
        ] {
            assert_eq!(refused_by_default(&url::Url::parse(url).unwrap()), refusals, "{url}");
        }
    }

    #[test]
    fn what_the_operator_denies_is_refused_in_every_form_whatever_allows_it() {
        let guard = denying(&["8.8.8.0/24", "2606:4700::1111", "10.1.0.0/16", "voice.example"]);
        for address in
            ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2606:4700::1111", "10.1.2.3", "::ffff:10.1.2.3"]
        {
            assert_eq!(guard.check_address(address.parse().unwrap()), Err(TargetRefusal::Denied), "{address}");
        }
        for address in ["8.8.9.8", "2606:4700::1112", "10.2.0.1"] {
            assert!(allows(&guard, address), "{address}");
        }
        for url in ["https://voice.example/", "https://VOICE.example./", "https://a.b.voice.example:8443/x"] {
            assert_eq!(judged(&guard, url), Err(TargetRefusal::Denied), "{url}");
        }
        for url in ["https://invoice.example/", "https://voice.example.org/", "https://example/"] {
            assert_eq!(judged(&guard, url), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_port_that_is_never_a_web_servers_needs_leave_and_a_list_of_the_only_ones_is_the_only_word() {
        let ports = |ports: &[&str]| ports.iter().map(|range| range.parse().unwrap()).collect::<Vec<PortRange>>();
        let rules = |allow: &[&str], only: &[&str]| {
            TargetGuard::new(TargetRules {
                allow_ports: ports(allow),
                only_ports: ports(only),
                ..TargetRules::default()
            })
        };
        let plain = rules(&[], &[]);
        for url in ["https://a.test/", "https://a.test:8443/", "https://a.test:8080/", "https://a.test:40000/"] {
            assert_eq!(judged(&plain, url), Ok(()), "{url}");
        }
        for port in [0, 22, 25, 5432, 6379, 11211, 27017] {
            assert_eq!(judged(&plain, &format!("https://a.test:{port}/")), Err(TargetRefusal::Port(port)));
        }
        let allowing = rules(&["6379", "20-25"], &[]);
        for url in ["https://a.test:6379/", "https://a.test:22/", "https://a.test/"] {
            assert_eq!(judged(&allowing, url), Ok(()), "{url}");
        }
        assert_eq!(judged(&allowing, "https://a.test:5432/"), Err(TargetRefusal::Port(5432)));
        let only = rules(&["22"], &["443", "6379"]);
        assert_eq!(judged(&only, "https://a.test/"), Ok(()));
        assert_eq!(judged(&only, "https://a.test:6379/"), Ok(()));
        for port in [22, 8443] {
            assert_eq!(judged(&only, &format!("https://a.test:{port}/")), Err(TargetRefusal::OtherPort(port)));
        }
    }
}
