//! Addresses that are never found.
//!
//! Owns: the list of a job, and whether an address is on it. Must not know: why.

use crate::error::{Error, Result};
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::IpAddr;

/// The allow-list of a job: addresses, ranges in CIDR notation, and names that are no IP addresses.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    ranges: Vec<IpNet>,
    names: HashSet<String>,
}

impl Allowed {
    /// Returns the list of these entries.
    ///
    /// # Errors
    ///
    /// If an entry has a `/` and is not a range.
    pub fn try_new(entries: &[String]) -> Result<Self> {
        let mut allowed = Self::default();
        for entry in entries {
            if let Ok(address) = entry.parse::<IpAddr>() {
                allowed.ranges.push(IpNet::from(unmapped(address)));
            } else if entry.contains('/') {
                let range = entry.parse::<IpNet>().map_err(|_| Error::Allow { entry: entry.clone() })?;
                allowed.ranges.push(range);
            } else {
                allowed.names.insert(entry.clone());
            }
        }
        Ok(allowed)
    }

    /// Returns whether the address is on the list. An IPv4 address in the form of IPv6 is the same address.
    pub fn contains(&self, address: &str) -> bool {
        match address.parse::<IpAddr>() {
            Ok(address) => self.ranges.iter().any(|range| range.contains(&unmapped(address))),
            Err(_) => self.names.contains(address),
        }
    }
}

fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str]) -> Result<Allowed> {
        Allowed::try_new(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_ranges_and_names_are_on_the_list() {
        let allowed = allowed(&["10.0.0.0/8", "192.168.1.7", "2001:db8::/32", "dns.example"]).unwrap();
        for address in ["10.1.2.3", "192.168.1.7", "::ffff:10.9.9.9", "2001:db8::1", "dns.example"] {
            assert!(allowed.contains(address), "{address}");
        }
        for address in ["11.0.0.1", "192.168.1.8", "2001:db9::1", "dns.example.org", ""] {
            assert!(!allowed.contains(address), "{address}");
        }
    }

    #[test]
    fn what_is_no_range_is_an_error_that_names_it() {
        let error = allowed(&["10.0.0.0/33"]).unwrap_err().to_string();
        assert_eq!(error, "detection.allow: \"10.0.0.0/33\" is not an address or a range such as 10.0.0.0/8");
    }
}
