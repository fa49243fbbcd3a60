//! The operator's proxy, through which every request goes if one is set (`--egress-proxy`). A tunnel is opened by HTTP CONNECT
//! (RFC 9110, section 9.3.6), for https and for plain http, and names the address that the guard has judged. So the proxy looks up
//! no name, and cannot be led elsewhere by one. TLS goes from here to the host, through the tunnel.
//!
//! Nothing of a request is written before its tunnel is open, so what the proxy does until then is certain to have reached nobody.
//! The proxy itself is the operator's: the guard does not judge where it is.

mod answer;
mod setting;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use url::Host;
use zeroize::Zeroizing;

use self::answer::Answered;
pub use self::setting::{EgressProxy, NotAProxy};
use super::clock::Moment;
use super::evidence::{Evidence, Phase};
use super::fault::Fault;
use super::names::Names;
use super::race;

/// How often the log says that the proxy cannot be used, or can be used again, at most.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Why there is no tunnel. Nothing was sent to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoTunnel {
    /// The proxy's name has no addresses, for this reason.
    Unresolved(String),
    /// The proxy accepted no TCP connection.
    Unreachable(Fault),
    /// The proxy wants other credentials, or any (407).
    Credentials,
    /// What the proxy answered is not HTTP.
    NotHttp,
    /// The head of the proxy's answer is too long.
    TooLong,
    /// The proxy ended the connection before it had answered.
    Ended(Fault),
    /// The proxy answered with this status, and opened no tunnel.
    Refused(u16),
    /// Bytes came with the proxy's answer: the host spoke first.
    SpokeFirst,
}

impl NoTunnel {
    /// Whether this is the proxy's own trouble, which every target meets alike.
    pub(super) fn is_of_the_proxy(&self) -> bool {
        match self {
            NoTunnel::Unresolved(_)
            | NoTunnel::Unreachable(_)
            | NoTunnel::Credentials
            | NoTunnel::NotHttp
            | NoTunnel::TooLong => true,
            NoTunnel::Ended(_) | NoTunnel::Refused(_) | NoTunnel::SpokeFirst => false,
        }
    }

    /// What a delivery's record says.
    pub(super) fn detail(&self) -> String {
        let with_io_kind = |sentence: &str, fault: &Fault| match fault.io {
            Some(kind) => format!("{sentence}: {kind}"),
            None => sentence.to_owned(),
        };
        match self {
            NoTunnel::Unresolved(reason) => format!("the name of the egress proxy was not resolved: {reason}"),
            NoTunnel::Unreachable(fault) => with_io_kind("no TCP connection to the egress proxy", fault),
            NoTunnel::Credentials => "the egress proxy refuses postcall's credentials (407)".to_owned(),
            NoTunnel::NotHttp => "what the egress proxy answered is not HTTP".to_owned(),
            NoTunnel::TooLong => "the head of the egress proxy's answer is too long".to_owned(),
            NoTunnel::Ended(fault) => {
                with_io_kind("the egress proxy ended the connection before it had answered", fault)
            }
            NoTunnel::Refused(status @ (502..=504)) => {
                format!("the egress proxy could not reach the host ({status})")
            }
            NoTunnel::Refused(status) => format!("the egress proxy refused to connect to the host ({status})"),
            NoTunnel::SpokeFirst => {
                "the host, or the egress proxy, spoke first, as no HTTP server does; nothing was written".to_owned()
            }
        }
    }
}

/// Opens tunnels through the proxy.
pub(super) struct Egress {
    proxy: EgressProxy,
    /// What the log said last, and when.
    said: Mutex<Option<(Says, Moment)>>,
}

/// What the log says of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Works,
    Fails,
}

impl Egress {
    /// Tunnels through this proxy.
    pub(super) fn through(proxy: EgressProxy) -> Egress {
        Egress { proxy, said: Mutex::default() }
    }

    /// A tunnel to the first of `addresses` to which the proxy opens one.
    pub(super) async fn connect(
        &self,
        addresses: &[SocketAddr],
        names: &Names,
        evidence: &Evidence,
    ) -> Result<TcpStream, NoTunnel> {
        evidence.note(Phase::ReachingProxy);
        let proxy = self.addresses(names).await?;
        let open = |address| -> race::Opening<'_, NoTunnel> { Box::pin(self.tunnel(&proxy, address, evidence)) };
        let tunnel = race::first(addresses, open, NoTunnel::is_of_the_proxy).await;
        let tunnel = tunnel.unwrap_or(Err(NoTunnel::Unreachable(Fault::default())));
        if !tunnel.as_ref().is_err_and(NoTunnel::is_of_the_proxy) {
            self.works();
        }
        tunnel
    }

    async fn addresses(&self, names: &Names) -> Result<Vec<SocketAddr>, NoTunnel> {
        let EgressProxy { host, port, .. } = &self.proxy;
        let found = match host {
            Host::Domain(name) => names.look_up(name).await.map_err(|error| NoTunnel::Unresolved(error.to_string()))?,
            Host::Ipv4(address) => vec![(*address).into()],
            Host::Ipv6(address) => vec![(*address).into()],
        };
        Ok(race::order(&found).into_iter().map(|address| SocketAddr::new(address, *port)).collect())
    }

    async fn tunnel(&self, proxy: &[SocketAddr], to: SocketAddr, evidence: &Evidence) -> Result<TcpStream, NoTunnel> {
        let unreachable = |error| NoTunnel::Unreachable(Fault::of(&error));
        let mut tcp = race::connect(proxy).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        evidence.note(Phase::Tunnelling);
        let ended = |error: std::io::Error| NoTunnel::Ended(Fault::of(&error));
        tcp.write_all(self.request(to).as_bytes()).await.map_err(ended)?;
        match answer::read(&mut tcp).await.map_err(ended)? {
            Answered::Status { code: 200..=299, more: false } => Ok(tcp),
            Answered::Status { code: 200..=299, more: true } => Err(NoTunnel::SpokeFirst),
            Answered::Status { code: 407, .. } => Err(NoTunnel::Credentials),
            Answered::Status { code, .. } => Err(NoTunnel::Refused(code)),
            Answered::NotHttp => Err(NoTunnel::NotHttp),
            Answered::TooLong => Err(NoTunnel::TooLong),
            Answered::Ended => Err(NoTunnel::Ended(Fault::default())),
        }
    }

    /// The request for a tunnel. It is wiped after use, because it may hold the password.
    fn request(&self, to: SocketAddr) -> Zeroizing<String> {
        let authorization = self.proxy.authorization.as_ref().map(SecretString::expose_secret).unwrap_or_default();
        let (before, after) = if authorization.is_empty() { ("", "") } else { ("proxy-authorization: ", "\r\n") };
        Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n{before}{authorization}{after}\r\n"))
    }

    /// Says in the log that the proxy cannot be used, unless that is known.
    pub(super) fn fails(&self, detail: &str) {
        if self.is_news(Says::Fails) {
            tracing::warn!(error = detail, "the egress proxy cannot be used; nothing is sent");
        }
    }

    fn works(&self) {
        if self.is_news(Says::Works) {
            tracing::info!("the egress proxy can be used again");
        }
    }

    /// Whether the log should say this now. That the proxy works is news only after it has failed.
    fn is_news(&self, says: Says) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Moment::now();
        let is_news = says.is_news_after(*said, now);
        if is_news {
            *said = Some((says, now));
        }
        is_news
    }
}

impl Says {
    /// Whether this is news now, after what was said at a moment.
    fn is_news_after(self, said: Option<(Says, Moment)>, now: Moment) -> bool {
        match said {
            None => self == Says::Fails,
            Some((last, at)) => last != self && now.saturating_since(at) >= SAY_AGAIN_AFTER,
        }
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Egress").field(&self.proxy).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_the_proxy_works_is_news_after_it_has_failed_and_neither_is_said_too_often() {
        let moment = |seconds: u64| Moment::from_nanos(seconds * 1_000_000_000);
        let (then, soon, later) = (moment(100), moment(109), moment(100 + SAY_AGAIN_AFTER.as_secs()));
        assert!(Says::Fails.is_news_after(None, then));
        assert!(!Says::Works.is_news_after(None, then));
        for (last, next) in [(Says::Fails, Says::Works), (Says::Works, Says::Fails)] {
            assert!(next.is_news_after(Some((last, then)), later), "{next:?}");
            assert!(!next.is_news_after(Some((last, then)), soon), "{next:?}");
            assert!(!last.is_news_after(Some((last, then)), later), "{last:?}");
        }
        let egress = Egress::through("http://127.0.0.1:9".parse().unwrap());
        let news = [Says::Works, Says::Fails, Says::Fails, Says::Works].map(|says| egress.is_news(says));
        assert_eq!(news, [false, true, false, false]);
    }
}
