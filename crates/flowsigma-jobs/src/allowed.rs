//! Addresses that are never found.
//!
//! Owns: the list of a job, and whether an address is on it. Must not know: why.

use crate::error::{Error, Result};
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::IpAddr;

const FORMS: &str =
    "an address such as 10.0.0.1, a range such as 10.0.0.0/8, or a name such as dns.example.org";

/// The allow-list of a job: addresses, ranges in CIDR notation, and names that are no IP addresses.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    ranges: Vec<IpNet>,
    names: HashSet<String>,
}

impl Allowed {
    /// Returns the list of these entries: an address, a range without host bits, or the exact name of a host, because a
    /// field may have names in place of addresses.
    ///
    /// # Errors
    ///
    /// If an entry is empty, has white space, has the digits of an address and is none, or has a `/` and is not a range
    /// without host bits.
    pub fn try_new(entries: &[String]) -> Result<Self> {
        let mut allowed = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            let wrong = |expected: String| Error::Allow { index, entry: entry.clone(), expected };
            if let Ok(address) = entry.parse::<IpAddr>() {
                allowed.ranges.push(IpNet::from(unmapped(address)));
            } else if entry.contains('/') {
                let range: IpNet = entry.parse().map_err(|_| wrong(FORMS.into()))?;
                if range != range.trunc() {
                    let (range, address) = (range.trunc(), range.addr());
                    return Err(wrong(format!("a range without host bits: {range}, or {address} alone")));
                }
                allowed.ranges.push(range);
            } else if is_name(entry) {
                allowed.names.insert(entry.clone());
            } else {
                return Err(wrong(FORMS.into()));
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

/// Returns whether a text may be a name. One of digits and dots, or with a colon, is an address with a mistake.
fn is_name(text: &str) -> bool {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c == ':')
        && !text.chars().all(is_number)
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
    fn what_is_neither_address_range_nor_name_is_an_error_that_names_it() {
        for wrong in ["10.0.0.0/33", "10.0.0", "", "10.0.0.1 ", "dns/8", "2001:db8", "a b"] {
            let error = allowed(&["::1", wrong]).unwrap_err().to_string();
            assert_eq!(error, format!("detection.allow[1] = {wrong:?}: expected {FORMS}"));
        }
        let error = allowed(&["10.1.2.3/8"]).unwrap_err().to_string();
        let expected = "expected a range without host bits: 10.0.0.0/8, or 10.1.2.3 alone";
        assert_eq!(error, format!("detection.allow[0] = \"10.1.2.3/8\": {expected}"));
    }
}
