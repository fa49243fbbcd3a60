//! Names to addresses, by the system's resolver.

use std::net::IpAddr;

use super::SetupError;

/// Asks for names; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Names;

/// Why there are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookUpError {
    /// The resolver has none.
    #[error("the host's name does not resolve")]
    NotResolved,
}

impl Names {
    /// From the system's configuration.
    pub(super) fn system() -> Result<Names, SetupError> {
        Ok(Names)
    }

    /// All addresses of `host`, in order of preference.
    pub(super) async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, LookUpError> {
        let found = tokio::net::lookup_host((host, 0)).await.map_err(|_| LookUpError::NotResolved)?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in found.map(|address| address.ip()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() { Err(LookUpError::NotResolved) } else { Ok(addresses) }
    }
}
