//! Names to addresses, by the system's resolver, and only to those that the guard allows.

use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::evidence::{self, Phase};
use super::guard::Guard;

/// The resolver of the client. Its answer is what the connector connects to, so nothing can change in between.
#[derive(Debug)]
pub(super) struct GuardedResolver {
    guard: Guard,
}

impl GuardedResolver {
    /// A resolver that keeps back what `guard` refuses.
    pub(super) fn new(guard: Guard) -> GuardedResolver {
        GuardedResolver { guard }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        Box::pin(async move {
            evidence::note(Phase::Resolving);
            let found = look_up(name.as_str()).await.inspect_err(|_| evidence::note(Phase::Unresolved))?;
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| guard.allows(address.ip())).collect();
            if allowed.is_empty() {
                evidence::note(Phase::Blocked);
                return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

async fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
    // Port 0 stands for the URL's own, which the connector fills in.
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
    if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
}
