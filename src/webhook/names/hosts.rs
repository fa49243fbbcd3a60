//! The hosts file, in which the operator of the machine lists names and their addresses (hosts(5)).

use std::collections::HashMap;
use std::net::IpAddr;

use super::MAX_ADDRESSES;

/// The names of a hosts file, in lower case.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    addresses: HashMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// Reads `text`. Like the system's resolver, it ignores lines that do not begin with an address.
    pub(super) fn parse(text: &[u8]) -> Hosts {
        let text = String::from_utf8_lossy(text);
        let mut hosts = Hosts::default();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            words.for_each(|name| hosts.add(name, address));
        }
        hosts
    }

    /// The addresses of `host`, which is in lower case and has no dot at its end.
    pub(super) fn get(&self, host: &str) -> Option<&[IpAddr]> {
        self.addresses.get(host).map(Vec::as_slice)
    }

    fn add(&mut self, name: &str, address: IpAddr) {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let addresses = self.addresses.entry(name).or_default();
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_line_has_its_address_and_lines_add_up() {
        let text =
            b"\xef\xbb\xbf# comment\n10.0.0.1 Alpha beta. # gamma\n\n::1\talpha\nnonsense delta\n10.0.0.1 alpha\n";
        let hosts = Hosts::parse(text);
        let (v4, v6): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "::1".parse().unwrap());
        assert_eq!(hosts.get("alpha"), Some([v4, v6].as_slice()));
        assert_eq!(hosts.get("beta"), Some([v4].as_slice()));
        assert_eq!((hosts.get("gamma"), hosts.get("delta")), (None, None));
    }

    #[test]
    fn of_a_name_with_very_many_addresses_the_first_ones_are_kept() {
        let addresses: Vec<IpAddr> = (0..200_u8).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let text: String = addresses.iter().map(|address| format!("{address} many\n")).collect();
        assert_eq!(Hosts::parse(text.as_bytes()).get("many"), Some(&addresses[..MAX_ADDRESSES]));
    }
}
