//! Certificates for the processes of a cluster.
//!
//! Owns: making them, new ones for each test. Must not know: who shows them.

use anyhow::Result;
use flowsigma_node::{Authority, Role};
use std::path::Path;
use tempfile::TempDir;

/// An authority, and one certificate that it signed for this machine.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes a new authority and a certificate by it: an executor's, whose holder is listed as a scheduler and as
    /// somebody who may submit jobs as well.
    pub fn make() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new("Flowsigma test cluster")?;
        let hosts = ["localhost", "127.0.0.1"].map(str::to_owned);
        let node = authority.issue(Role::Executor, "node", &hosts)?;
        std::fs::write(folder.path().join("ca.pem"), authority.certificate())?;
        std::fs::write(folder.path().join("node.pem"), node.certificate)?;
        std::fs::write(folder.path().join("node.key"), node.key)?;
        Ok(Self { folder })
    }

    /// Where `ca.pem`, `node.pem` and `node.key` are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `[cluster]` of a configuration with this pair, which trusts `authority`.
    pub fn config(&self, authority: &Self) -> String {
        let own = self.folder().display();
        let ca = authority.folder().display();
        format!(
            "[cluster]\ntls = {{ ca_file = \"{ca}/ca.pem\", cert_file = \"{own}/node.pem\", key_file = \"{own}/node.key\" }}\n\
             [access.node]\nconnections = [\"*\"]\nindices = [\"*\"]\njobs = \"all\"\n"
        )
    }
}
