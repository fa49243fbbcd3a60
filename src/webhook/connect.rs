//! Opens a connection to a target: it looks up the name, lets the guard judge every address, connects by TCP, and does
//! the TLS handshake, through the operator's proxy if there is one. It notes every step in the evidence. All of this is one future: dropping it closes what was being
//! opened.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::egress::{Egress, NoTunnel};
use super::evidence::{Evidence, Phase};
use super::fault::Fault;
use super::guard::{TargetGuard, TargetRefusal};
use super::names::Names;
use super::race;
use super::target::Target;
use super::watched_stream::Socket;

/// Opens connections, but only to what the guard allows.
pub(super) struct Connector {
    guard: TargetGuard,
    names: Names,
    tls: Arc<ClientConfig>,
    egress: Option<Egress>,
}

/// Why there is no connection. No request was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoConnection {
    /// The host's name has no addresses, for this reason.
    Unresolved(String),
    /// The guard refused one of its addresses.
    Blocked(TargetRefusal),
    /// No address accepted a TCP connection.
    Tcp(Fault),
    /// The egress proxy opened no tunnel.
    NoTunnel(NoTunnel),
    /// The TLS handshake failed.
    Tls(Fault),
}

impl Connector {
    /// A connector that looks up names with `names`, asks `guard`, trusts the certificates that `tls` trusts, and connects
    /// through `egress`, if there is one.
    pub(super) fn new(guard: TargetGuard, names: Names, tls: Arc<ClientConfig>, egress: Option<Egress>) -> Connector {
        Connector { guard, names, tls, egress }
    }

    /// The proxy through which it connects.
    pub(super) fn egress(&self) -> Option<&Egress> {
        self.egress.as_ref()
    }

    /// Connects to `target`, and speaks TLS as `tls` says, if it says anything.
    pub(super) async fn connect(
        &self,
        target: &Target,
        tls: Option<&Arc<ClientConfig>>,
        evidence: &Evidence,
    ) -> Result<Socket, NoConnection> {
        let addresses = self.addresses(target, evidence).await?;
        // If one address of a name is not allowed, the whole name is refused. Otherwise the owner of the name could
        // choose by the order of its addresses what is called.
        for address in &addresses {
            self.guard.check_address(*address).map_err(NoConnection::Blocked)?;
        }
        let addresses: Vec<SocketAddr> =
            race::order(&addresses).into_iter().map(|address| SocketAddr::new(address, target.port)).collect();
        let tcp = match &self.egress {
            // The proxy is told the judged addresses, as the kernel is without one.
            Some(egress) => egress.connect(&addresses, &self.names, evidence).await.map_err(NoConnection::NoTunnel)?,
            None => race::connect(&addresses).await.map_err(|error| NoConnection::Tcp(Fault::of(&error)))?,
        };
        // Without this, the kernel may hold back the end of a request until the beginning is acknowledged.
        tcp.set_nodelay(true).map_err(|error| NoConnection::Tcp(Fault::of(&error)))?;
        let tls = TlsConnector::from(Arc::clone(tls.unwrap_or(&self.tls)));
        let socket = if target.tls { handshake(tls, target, tcp, evidence).await? } else { Socket::Plain(tcp) };
        evidence.note(Phase::Connected);
        Ok(socket)
    }

    async fn addresses(&self, target: &Target, evidence: &Evidence) -> Result<Vec<IpAddr>, NoConnection> {
        let name = match &target.host {
            Host::Domain(name) => name,
            Host::Ipv4(address) => {
                evidence.note(Phase::Connecting);
                return Ok(vec![IpAddr::V4(*address)]);
            }
            Host::Ipv6(address) => {
                evidence.note(Phase::Connecting);
                return Ok(vec![IpAddr::V6(*address)]);
            }
        };
        evidence.note(Phase::LookingUp);
        let found = self.names.look_up(name).await.map_err(|error| NoConnection::Unresolved(error.to_string()))?;
        evidence.note(Phase::Connecting);
        Ok(found)
    }
}

async fn handshake(
    tls: TlsConnector,
    target: &Target,
    tcp: TcpStream,
    evidence: &Evidence,
) -> Result<Socket, NoConnection> {
    evidence.note(Phase::Handshaking);
    let failed = |error: &io::Error| NoConnection::Tls(Fault::of(error));
    let name = match &target.host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|error| failed(&io::Error::other(error)))?,
        Host::Ipv4(address) => ServerName::IpAddress((*address).into()),
        Host::Ipv6(address) => ServerName::IpAddress((*address).into()),
    };
    let tls = tls.connect(name, tcp).await.map_err(|error| failed(&error))?;
    Ok(Socket::Tls(Box::new(tls)))
}
