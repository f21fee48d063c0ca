//! Names of a cluster's members.
//!
//! Owns: their validation. Must not know: what they are used for.

use flowsigma_node::is_loopback_host;
use rustls::pki_types::ServerName;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Identities that a scheduler assigns by itself.
const RESERVED: [&str; 2] = ["owner", "anyone"];
/// The longest name of a client, in bytes: it is a folder's name as well.
const MAX_CLIENT_NAME: usize = 64;

/// A machine of a cluster, by the names and addresses that others use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    name: String,
    others: Vec<String>,
}

impl Host {
    /// Returns a placeholder for the reader to fill in.
    pub(super) fn unknown(placeholder: &str) -> Self {
        Self { name: placeholder.to_owned(), others: Vec::new() }
    }

    /// Returns the name or address that others use.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns every name and address that its certificate is valid for.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = vec![self.name.clone()];
        let this_machine = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let more = if self.is_this_machine() { &this_machine[..] } else { &[] };
        for name in self.others.iter().chain(more) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Returns whether it is a loopback name or address.
    pub(super) fn is_this_machine(&self) -> bool {
        is_loopback_host(&self.name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = text.split(',').map(|name| checked_host(name.trim()));
        let name = names.next().ok_or("no name")??;
        // Ballista joins host and port by a colon, without brackets.
        if name.contains(':') {
            return Err(format!(
                "\"{name}\" is an IPv6 address: give the machine's name first, and the address after a comma"
            ));
        }
        Ok(Self { name, others: names.collect::<Result<_, _>>()? })
    }
}

fn checked_host(name: &str) -> Result<String, String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return match address.is_unspecified() {
            true => Err(format!(
                "\"{name}\" is an address to listen on; give the name or address by which others reach the machine"
            )),
            false => Ok(address.to_string()),
        };
    }
    match ServerName::try_from(name) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => Err(format!(
            "\"{name}\" is no name or address of a machine; use one such as es1.example or 10.0.0.7, without scheme or port"
        )),
    }
}

/// A client's name, which its certificate, its folder and its `[access.NAME]` have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientName(String);

impl ClientName {
    /// Returns the name as a part of a TOML key, quoted if necessary.
    pub(super) fn toml_key(&self) -> String {
        let bare = self.0.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if bare { self.0.clone() } else { format!("\"{}\"", self.0) }
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClientName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.@".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !name.chars().all(plain)
            || name.len() > MAX_CLIENT_NAME
        {
            return Err(format!(
                "\"{name}\" is not a valid client name: use at most {MAX_CLIENT_NAME} letters, digits, \"_\", \"-\", \".\" \
                 and \"@\", beginning with a letter or digit"
            ));
        }
        match RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            true => Err(format!("\"{name}\" is a name that schedulers reserve; choose another one")),
            false => Ok(Self(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for name in ["es1.example", "under_score", "10.0.0.7"] {
            let host: Host = name.parse().unwrap();
            assert_eq!((host.name(), host.names()), (name, vec![name.to_owned()]));
        }
        let several: Host = "a.example, 10.0.0.7,a.example,FD00:0::7".parse().unwrap();
        assert_eq!(several.names(), ["a.example", "10.0.0.7", "fd00::7"]);
        assert_eq!("127.0.0.1".parse::<Host>().unwrap().names(), ["127.0.0.1", "localhost", "::1"]);
        for text in [
            "",
            "a.example,",
            "https://a.example",
            "a.example:50050",
            "a/b",
            "../x",
            "..",
            "a b",
            "*.example",
            "-a",
            "0.0.0.0",
            "::",
            "::1",
            "fd00::7",
            "[::1]",
            "fe80::1%eth0",
            "300.1.1.1",
            "ä.example",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_client_is_a_folder_and_a_toml_key() {
        for (name, key) in [("alice", "alice"), ("etl-1", "etl-1"), ("al.ice@example", "\"al.ice@example\"")]
        {
            assert_eq!(name.parse::<ClientName>().unwrap().toml_key(), key);
        }
        let long = "a".repeat(65);
        for name in ["", ".", "..", "../x", "a/b", "a b", "a\"b", "-x", "ä", "owner", "Anyone", &long] {
            assert!(name.parse::<ClientName>().is_err(), "{name}");
        }
    }
}
