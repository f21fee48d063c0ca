//! The server with users and TLS.
//!
//! Owns: what `scripts/test` says about it, and the text of configurations that reach it. A variable
//! that is missing fails the test that asks: a security test that was skipped proves nothing.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The one index that the reader may read.
pub const READABLE_INDEX: &str = "seceon_flows";

/// A secured server, its superuser, and a reader who may only read [`READABLE_INDEX`].
#[derive(Debug)]
pub struct Secured {
    /// `https://…`.
    pub url: String,
    /// The superuser.
    pub admin: String,
    /// Holds the superuser's password.
    pub admin_password_file: PathBuf,
    /// The reader.
    pub reader: String,
    /// Holds the reader's password.
    pub reader_password_file: PathBuf,
    /// Who signed the server's certificate.
    pub ca_file: PathBuf,
    /// Who did not.
    pub wrong_ca_file: PathBuf,
    /// Certificate of a client, signed by the same authority.
    pub client_cert_file: PathBuf,
    /// The key of that certificate.
    pub client_key_file: PathBuf,
}

impl Secured {
    /// As `scripts/test` exports it.
    pub fn from_env() -> Result<Self> {
        let fact = |key: &str| {
            let name = format!("FLOWSIGMA_TEST_SECURE_{key}");
            std::env::var(&name).with_context(|| format!("{name} is not set: run scripts/test"))
        };
        Ok(Self {
            url: fact("URL")?,
            admin: fact("USER")?,
            admin_password_file: fact("PASSWORD_FILE")?.into(),
            reader: fact("READER_USER")?,
            reader_password_file: fact("READER_PASSWORD_FILE")?.into(),
            ca_file: fact("CA_FILE")?.into(),
            wrong_ca_file: fact("WRONG_CA_FILE")?.into(),
            client_cert_file: fact("CLIENT_CERT_FILE")?.into(),
            client_key_file: fact("CLIENT_KEY_FILE")?.into(),
        })
    }

    /// A configuration with one connection, `test`, with these values of `auth` and `tls`.
    pub fn config_with(&self, auth: &str, tls: &str) -> String {
        format!("[connections.test]\nnodes = [\"{}\"]\nauth = {auth}\ntls = {tls}\n", self.url)
    }

    /// The same with the right authority.
    pub fn config(&self, auth: &str) -> String {
        self.config_with(auth, &tls(&self.ca_file))
    }

    /// The same under another name.
    pub fn connection(&self, name: &str, auth: &str) -> String {
        self.config(auth).replace("connections.test", &format!("connections.{name}"))
    }

    /// The superuser's configuration.
    pub fn admin_config(&self) -> String {
        self.config(&password_file(&self.admin, &self.admin_password_file))
    }

    /// The reader's configuration.
    pub fn reader_config(&self) -> String {
        self.config(&password_file(&self.reader, &self.reader_password_file))
    }

    /// The reader's password itself, to look for it where it must not be.
    pub fn reader_password(&self) -> Result<String> {
        let text = std::fs::read_to_string(&self.reader_password_file)?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// `auth` with a password in a file.
pub fn password_file(user: &str, file: &Path) -> String {
    format!("{{ type = \"basic\", username = \"{user}\", password_file = \"{}\" }}", file.display())
}

/// `auth` with an API key in a file.
pub fn key_file(file: &Path) -> String {
    format!("{{ type = \"api_key\", key_file = \"{}\" }}", file.display())
}

/// `auth` with a bearer token in a file.
pub fn token_file(file: &Path) -> String {
    format!("{{ type = \"bearer\", token_file = \"{}\" }}", file.display())
}

/// `auth` with a password in a variable.
pub fn password_env(user: &str, variable: &str) -> String {
    format!("{{ type = \"basic\", username = \"{user}\", password_env = \"{variable}\" }}")
}

/// `tls` that trusts `ca_file`.
pub fn tls(ca_file: &Path) -> String {
    format!("{{ ca_file = \"{}\" }}", ca_file.display())
}
