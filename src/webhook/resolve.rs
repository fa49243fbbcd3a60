//! Names to addresses, and only to those that the guard allows.

use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::evidence::{self, Phase};
use super::guard::Guard;
use super::names::Names;

/// The resolver of the client. Its answer is what the connector connects to, so nothing can change in between.
#[derive(Debug)]
pub(super) struct GuardedResolver {
    names: Names,
    guard: Guard,
}

impl GuardedResolver {
    /// A resolver that asks `names` and keeps back what `guard` refuses.
    pub(super) fn new(names: Names, guard: Guard) -> GuardedResolver {
        GuardedResolver { names, guard }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, guard) = (self.names.clone(), self.guard.clone());
        Box::pin(async move {
            evidence::note(Phase::Resolving);
            let found =
                names.look_up(name.as_str()).await.inspect_err(|error| evidence::note(Phase::Unresolved(*error)))?;
            let allowed = found.into_iter().filter(|address| guard.allows(*address));
            // Port 0 stands for the URL's own, which the connector fills in.
            let allowed: Vec<SocketAddr> = allowed.map(|address| SocketAddr::new(address, 0)).collect();
            if allowed.is_empty() {
                evidence::note(Phase::Blocked);
                return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
