//! Resolving a path, and checking whether it is below a root.
//!
//! Owns: resolving a path before it is checked, and the files that no root covers. Must not know: the caller.
//!
//! Links, `.` and `..` are resolved as the system does. If a path does not exist yet, its existing part is
//! resolved, and the rest must be plain names.

use elastic_client::{Auth, HeaderSource, SecretSource};
use flowsigma_node::Config;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Folders of the system that contain no data files. A process reads its own environment and memory through them.
const SYSTEM: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Returns the target of a path.
///
/// # Errors
///
/// Returns an error if the path is not absolute, cannot be read, or goes up from a folder that does not exist.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    if !path.is_absolute() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not absolute"));
    }
    let mut missing = Vec::new();
    let mut known = path;
    loop {
        match known.canonicalize() {
            Ok(mut resolved) => {
                resolved.extend(missing.iter().rev());
                return Ok(resolved);
            }
            // A dangling link exists, and a write through it creates its target.
            Err(e) if e.kind() == io::ErrorKind::NotFound && known.symlink_metadata().is_err() => {
                let Some(Component::Normal(name)) = known.components().next_back() else {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "it goes up from a folder that does not exist",
                    ));
                };
                missing.push(name.to_owned());
                known = known.parent().unwrap_or(Path::new("/"));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link to nothing"));
            }
            Err(e) => return Err(e),
        }
    }
}

/// The folders below which paths are allowed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots(Vec<PathBuf>);

impl Roots {
    /// Resolves the roots now, as a path below them will be. A root that does not exist covers nothing.
    pub(crate) fn resolved(roots: &[PathBuf]) -> Self {
        Self(roots.iter().filter_map(|root| root.canonicalize().ok()).collect())
    }

    /// Whether a resolved path is a root or below one.
    pub(crate) fn cover(&self, resolved: &Path) -> bool {
        self.0.iter().any(|root| resolved.starts_with(root))
    }
}

/// The files that no job may read or write, even if they are granted.
#[derive(Clone, Debug, Default)]
pub struct Protected(Vec<PathBuf>);

impl Protected {
    /// Returns the configuration, the files with secrets that it names, and the folders of the system.
    pub fn by(config: &Config) -> Self {
        let mut files: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        files.extend(config.file.clone());
        if let Some(tls) = &config.cluster_tls {
            files.push(tls.key_file.clone());
        }
        for connection in config.connections.values() {
            let secret = match &connection.auth {
                Auth::None => None,
                Auth::Basic { password: secret, .. }
                | Auth::ApiKey { key: secret }
                | Auth::Bearer { token: secret } => Some(secret),
            };
            let headers = connection.headers.values().filter_map(|header| match header {
                HeaderSource::Secret(secret) => Some(secret),
                HeaderSource::Text(_) => None,
            });
            let proxy = connection.proxy.iter().filter_map(|proxy| Some(&proxy.auth.as_ref()?.1));
            let secrets = secret.into_iter().chain(headers).chain(proxy);
            files.extend(secrets.filter_map(|secret| match secret {
                SecretSource::File(path) => Some(path.clone()),
                SecretSource::Env(_) => None,
            }));
            files.extend(connection.tls.client.iter().map(|client| client.key_file.clone()));
        }
        Self(files.iter().map(|file| file.canonicalize().unwrap_or_else(|_| file.clone())).collect())
    }

    /// Returns all protected files, resolved.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(PathBuf::as_path)
    }

    /// Whether a resolved path is a protected file or below a protected folder.
    pub(crate) fn covers(&self, resolved: &Path) -> bool {
        self.0.iter().any(|protected| resolved.starts_with(protected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_is_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("root/in")).unwrap();
        std::fs::create_dir(base.join("secret")).unwrap();
        std::fs::write(base.join("secret/key"), "x").unwrap();
        symlink(base.join("secret"), base.join("root/link")).unwrap();
        symlink(base.join("nowhere"), base.join("root/dangling")).unwrap();
        let roots = Roots::resolved(&[base.join("root")]);
        let covered = |path: &str| resolve(&base.join(path)).is_ok_and(|resolved| roots.cover(&resolved));
        for path in ["root", "root/", "root/in", "root/in/new/file.csv", "root/./in/../in", "root/in/../x"] {
            assert!(covered(path), "{path}");
        }
        for path in [
            "secret/key",
            "root/../secret/key",
            "root/link/key",
            "root/link/new",
            "root/in/../../secret/key",
            "root/missing/../../secret",
            "root/dangling",
            "root/dangling/file",
            "rootless",
        ] {
            assert!(!covered(path), "{path}");
        }
        assert!(resolve(Path::new("relative")).is_err());
        assert!(!Roots::resolved(&[base.join("absent")]).cover(&base.join("absent/file")));
    }

    #[test]
    fn no_root_covers_the_configuration_and_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let file = base.join("flowsigma.toml");
        let text = "[connections.prod]\nnodes = [\"http://127.0.0.1:9200\"]\nauth = { type = \"api_key\", \
                    key_file = \"key\" }\n[cluster]\ntls = { ca_file = \"ca.pem\", cert_file = \"c.pem\", key_file = \"c.key\" }\n";
        for name in ["flowsigma.toml", "key", "c.key"] {
            std::fs::write(base.join(name), text).unwrap();
        }
        let protected = Protected::by(&Config::parse(text, &file).unwrap());
        for path in ["flowsigma.toml", "key", "c.key"] {
            assert!(protected.covers(&base.join(path)), "{path}");
        }
        for path in ["/proc/self/environ", "/dev/shm/x", "/sys/x"] {
            assert!(protected.covers(Path::new(path)), "{path}");
        }
        assert!(!protected.covers(&base.join("flows.csv")));
    }
}
