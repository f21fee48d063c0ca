//! What a store is told by its surroundings: the environment, and the hosts that options name.
//!
//! Owns: which URLs of options name a host. Must not know: the options of a service.

use super::client::{Connector, Origin};
use std::collections::BTreeSet;
use url::Url;

/// The environment: the value of a variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The hosts that options name.
#[derive(Default)]
pub(super) struct Hosts {
    pub(super) allowed: BTreeSet<Origin>,
}

impl Hosts {
    /// Adds the host of an option's value.
    ///
    /// # Errors
    ///
    /// If it is not an http or https URL, or if it has credentials.
    pub(super) fn add(&mut self, option: &str, text: &str) -> Result<Url, String> {
        // The value is not shown: it may have a password where none belongs.
        let url = Url::parse(text).map_err(|e| format!("option {option}: this is not a URL ({e})"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(format!("option {option}: use https://host[:port] or http://host[:port]"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(format!(
                "option {option}: the URL has a user, a password or a query; use https://host[:port]"
            ));
        }
        self.allowed.insert(Origin::of(&url));
        Ok(url)
    }

    pub(super) fn connector(self) -> Connector {
        Connector { allowed: self.allowed }
    }
}
