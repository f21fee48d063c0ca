//! Members of a cluster, each with a certificate that says its role.
//!
//! Owns: making an authority for each test, and what it issues. Must not know: who shows them.

use crate::caller::Proof;
use anyhow::Result;
use flowsigma_node::{Authority, ClusterTls, Issued, Role};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An authority, and the folder of what it issued.
pub struct Members {
    folder: TempDir,
    authority: Authority,
    hosts: Vec<String>,
}

impl Members {
    /// Makes a new authority for a cluster on this machine.
    pub fn make() -> Result<Self> {
        Self::for_hosts(&["localhost", "127.0.0.1"])
    }

    /// Makes a new authority for a cluster whose members are at `hosts`, each at any of them.
    pub fn for_hosts(hosts: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new("Flowsigma test cluster")?;
        std::fs::write(folder.path().join("ca.pem"), authority.certificate())?;
        Ok(Self { folder, authority, hosts: hosts.iter().map(|&host| host.to_owned()).collect() })
    }

    /// Where `ca.pem` is, and a pair `ROLE-NAME.pem` and `ROLE-NAME.key` for each member.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The certificate by which others recognise what this authority issued, PEM.
    pub fn authority(&self) -> &str {
        self.authority.certificate()
    }

    /// Issues a certificate.
    pub fn issue(&self, role: Role, name: &str) -> Result<Issued> {
        Ok(self.authority.issue(role, name, &self.hosts)?)
    }

    /// What a caller with a certificate of this authority shows to a cluster of it.
    pub fn proof(&self, role: Role, name: &str) -> Result<Proof> {
        Ok(Proof::Certificate { authority: self.authority().to_owned(), own: self.issue(role, name)? })
    }

    /// `[cluster]` of a member's configuration.
    pub fn config(&self, role: Role, name: &str) -> Result<String> {
        self.config_trusting(role, name, self)
    }

    /// `[cluster]` of a configuration with a certificate of this authority, which trusts another one.
    pub fn config_trusting(&self, role: Role, name: &str, trusted: &Self) -> Result<String> {
        let ClusterTls { cert_file, key_file, .. } = self.files(role, name)?;
        let ca_file = trusted.folder().join("ca.pem");
        Ok(format!(
            "[cluster]\ntls = {{ ca_file = {ca_file:?}, cert_file = {cert_file:?}, key_file = {key_file:?} }}\n"
        ))
    }

    /// The files of a new certificate.
    pub fn files(&self, role: Role, name: &str) -> Result<ClusterTls> {
        let issued = self.issue(role, name)?;
        let stem = format!("{}-{name}", role.unit().replace(' ', "-"));
        let file = |extension: &str, text: &str| -> Result<PathBuf> {
            let path = self.folder().join(format!("{stem}.{extension}"));
            std::fs::write(&path, text)?;
            Ok(path)
        };
        Ok(ClusterTls {
            ca_file: self.folder().join("ca.pem"),
            cert_file: file("pem", &issued.certificate)?,
            key_file: file("key", &issued.key)?,
        })
    }
}
