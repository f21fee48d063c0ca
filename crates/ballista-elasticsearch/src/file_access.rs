//! The files that tasks in this process may read and write.
//!
//! Owns: checking a path by its target and by its location. Must not know: plans, object stores.
//!
//! Each check resolves the roots again, so a root that is created later takes effect.

use crate::admission::{OWNER, Protected, Roots, resolve};
use flowsigma_node::{Config, FileRoots};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The files that tasks in this process may read and write.
#[derive(Clone, Debug)]
pub enum FileAccess {
    /// All files that the process itself may access, because the user of the process submits its tasks.
    Everything,
    /// Only files below these roots.
    Roots {
        /// The folders and files that tasks may read.
        read: Vec<PathBuf>,
        /// The folders that tasks may write to.
        write: Vec<PathBuf>,
        /// The files that no task may read or write, even below a root.
        protected: Protected,
    },
}

/// The reason why a path is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRefusal(String);

impl fmt::Display for FileRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FileRefusal {}

/// The kind of access to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

impl Use {
    fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write to",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl FileAccess {
    /// Returns the access that `[files]` of the configuration grants. Without that table: everything except
    /// protected files if only the account that runs the tasks can submit them (`owner_alone`), otherwise nothing.
    pub fn of(config: &Config, owner_alone: bool) -> Self {
        let protected = Protected::by(config);
        let root = || vec![PathBuf::from("/")];
        let FileRoots { read, write } = match (&config.files, owner_alone) {
            (Some(roots), _) => roots.clone(),
            (None, true) => FileRoots { read: root(), write: root() },
            (None, false) => FileRoots::default(),
        };
        Self::Roots { read, write, protected }
    }

    /// Returns the access that a scheduler checks when it plans jobs over files: everything that `[access]` grants
    /// to any identity. In a cluster of one account (`owner_alone`) without `[access.owner]`, that is everything
    /// except protected files.
    pub fn of_grants(config: &Config, owner_alone: bool) -> Self {
        let protected = Protected::by(config);
        let root = || vec![PathBuf::from("/")];
        if owner_alone && !config.access.contains_key(OWNER) {
            return Self::Roots { read: root(), write: root(), protected };
        }
        let grants = || config.access.values().map(|access| &access.grants);
        Self::Roots {
            read: grants().flat_map(|grants| grants.read.clone()).collect(),
            write: grants().flat_map(|grants| grants.write.clone()).collect(),
            protected,
        }
    }

    /// Rejects a path that tasks may not read: its target is outside of all roots, or is protected.
    pub(crate) fn check_read(&self, path: &Path) -> Result<(), FileRefusal> {
        self.check_target(Use::Read, path)
    }

    /// Rejects a path that tasks may not write to or delete: its target is outside of all roots, or the path
    /// itself is. A link outside that points into a root is rejected, because a write would replace the link.
    pub(crate) fn check_write(&self, path: &Path) -> Result<(), FileRefusal> {
        self.check_target(Use::Write, path)?;
        let place = place(path).map_err(|e| unresolved(Use::Write, path, &e))?;
        self.check_resolved(Use::Write, path, &place)
    }

    /// Rejects a copy or move to a place with more access: a file that tasks may not read would be readable there.
    /// Folders are rejected, because they may contain protected files.
    pub(crate) fn check_copy(&self, from: &Path, to: &Path) -> Result<(), FileRefusal> {
        if matches!(self, Self::Everything) {
            return Ok(());
        }
        self.check_read(from).or_else(|refused| match self.check_read(to) {
            Ok(()) => Err(refused),
            Err(_) => self.check_write(from),
        })?;
        self.check_write(to)?;
        match from.symlink_metadata() {
            Ok(metadata) if !metadata.is_file() => Err(FileRefusal(format!(
                "tasks copy and rename only files: {} is not a file",
                from.display()
            ))),
            // The copy itself reports that the file is missing.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn check_target(&self, operation: Use, path: &Path) -> Result<(), FileRefusal> {
        if matches!(self, Self::Everything) {
            return Ok(());
        }
        // A link in /proc does not always lead to the path that it shows: it may lead to a file of another
        // process.
        self.check_protected(operation, path, path)?;
        let resolved = resolve(path).map_err(|e| unresolved(operation, path, &e))?;
        self.check_resolved(operation, path, &resolved)
    }

    fn check_protected(&self, operation: Use, path: &Path, resolved: &Path) -> Result<(), FileRefusal> {
        match self {
            Self::Roots { protected, .. } if protected.covers(resolved) => Err(FileRefusal(format!(
                "no task may {} {}: it is configuration, a secret or a system folder",
                operation.verb(),
                path.display()
            ))),
            Self::Roots { .. } | Self::Everything => Ok(()),
        }
    }

    fn check_resolved(&self, operation: Use, path: &Path, resolved: &Path) -> Result<(), FileRefusal> {
        self.check_protected(operation, path, resolved)?;
        let Self::Roots { read, write, .. } = self else { return Ok(()) };
        let (verb, key, shown) = (operation.verb(), operation.key(), path.display());
        let roots = match operation {
            Use::Read => read,
            Use::Write => write,
        };
        match Roots::resolved(roots).cover(resolved) {
            true => Ok(()),
            false => Err(FileRefusal(format!(
                "tasks may not {verb} {shown} here: it lies below none of the folders in \"{key}\" of [files] in this \
                 executor's flowsigma.toml"
            ))),
        }
    }
}

fn unresolved(operation: Use, path: &Path, error: &io::Error) -> FileRefusal {
    FileRefusal(format!("tasks may not {} {} here: {error}", operation.verb(), path.display()))
}

/// Returns the location of a path. For a link this is not its target.
fn place(path: &Path) -> io::Result<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no name"));
    };
    Ok(resolve(folder)?.join(name))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// Tasks may read `in`, write to `out`, and both in `both`; neither in `secret`. Each folder has links to
    /// others.
    pub(crate) fn folders() -> (TempDir, PathBuf, FileAccess) {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        for name in ["in", "out", "both", "secret"] {
            std::fs::create_dir(base.join(name)).unwrap();
            std::fs::write(base.join(name).join("a.csv"), format!("a\n{name}\n")).unwrap();
        }
        symlink(base.join("secret"), base.join("in/link")).unwrap();
        symlink(base.join("secret/a.csv"), base.join("in/linked.csv")).unwrap();
        symlink(base.join("secret"), base.join("out/link")).unwrap();
        symlink(base.join("secret/a.csv"), base.join("out/linked.csv")).unwrap();
        symlink(base.join("out/a.csv"), base.join("secret/into.csv")).unwrap();
        symlink(base.join("in/a.csv"), base.join("in/own.csv")).unwrap();
        let read = vec![base.join("in"), base.join("both"), base.join("absent")];
        let write = vec![base.join("out"), base.join("both")];
        let access = FileAccess::Roots { read, write, protected: Protected::by(&Config::default()) };
        (folder, base, access)
    }

    #[test]
    fn what_is_read_lies_below_a_root_wherever_its_path_leads() {
        let (_folder, base, access) = folders();
        for path in [
            "in/a.csv",
            "in",
            "in/own.csv",
            "in/missing.csv",
            "in/none/missing.csv",
            "both/a.csv",
            "in/../in/a.csv",
        ] {
            assert_eq!(access.check_read(&base.join(path)), Ok(()), "{path}");
        }
        for path in [
            "secret/a.csv",
            "out/a.csv",
            "in/link/a.csv",
            "in/linked.csv",
            "in/../secret/a.csv",
            "in/none/../../secret/a.csv",
            "absent/a.csv",
            "absent",
            ".",
        ] {
            assert!(access.check_read(&base.join(path)).is_err(), "{path}");
        }
        assert!(access.check_read(Path::new("in/a.csv")).is_err());
        std::fs::create_dir(base.join("absent")).unwrap();
        assert_eq!(access.check_read(&base.join("absent/a.csv")), Ok(()));
    }

    #[test]
    fn what_is_written_lies_below_a_root_by_its_place_and_by_where_it_leads() {
        let (_folder, base, access) = folders();
        for path in ["out/a.csv", "out/new/b.csv", "both/b.csv"] {
            assert_eq!(access.check_write(&base.join(path)), Ok(()), "{path}");
        }
        for path in [
            "in/a.csv",
            "secret/a.csv",
            "out/link/a.csv",
            "out/linked.csv",
            "out/../secret/b.csv",
            // It points into a root, but a write would replace the link itself.
            "secret/into.csv",
            "/",
        ] {
            assert!(access.check_write(&base.join(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn no_copy_makes_readable_what_was_not() {
        let (_folder, base, access) = folders();
        let copy = |from: &str, to: &str| access.check_copy(&base.join(from), &base.join(to));
        for (from, to) in [("in/a.csv", "out/b.csv"), ("in/a.csv", "both/b.csv"), ("out/a.csv", "out/b.csv")]
        {
            assert_eq!(copy(from, to), Ok(()), "{from} {to}");
        }
        for (from, to) in [
            ("out/a.csv", "both/b.csv"),
            ("secret/a.csv", "out/b.csv"),
            ("in/linked.csv", "both/b.csv"),
            ("in/a.csv", "in/b.csv"),
            ("in/a.csv", "out/linked.csv"),
            ("both", "out/folder"),
        ] {
            assert!(copy(from, to).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn without_roots_the_owner_has_everything_but_secrets_and_others_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let file = base.join("flowsigma.toml");
        let text = "[cluster]\ntls = { ca_file = \"ca.pem\", cert_file = \"c.pem\", key_file = \"c.key\" }\n";
        for name in ["flowsigma.toml", "c.key", "flows.csv"] {
            std::fs::write(base.join(name), text).unwrap();
        }
        symlink(base.join("c.key"), base.join("link.csv")).unwrap();
        let config = Config::parse(text, &file).unwrap();
        let (owner, others) = (FileAccess::of(&config, true), FileAccess::of(&config, false));
        assert_eq!(owner.check_read(&base.join("flows.csv")), Ok(()));
        assert_eq!(owner.check_write(&base.join("results.csv")), Ok(()));
        assert!(others.check_read(&base.join("flows.csv")).is_err());
        assert!(others.check_write(&base.join("results.csv")).is_err());
        for path in ["flowsigma.toml", "c.key", "link.csv"].map(|name| base.join(name)) {
            for refused in [owner.check_read(&path), owner.check_write(&path)] {
                let text = refused.unwrap_err().to_string();
                assert!(text.contains("configuration, a secret or a system folder"), "{text}");
            }
        }
        assert!(owner.check_read(Path::new("/proc/self/environ")).is_err());
        assert!(owner.check_copy(&base.join("c.key"), &base.join("k.csv")).is_err());
        let text = format!("{text}[files]\nread = [\"{}\"]\n", base.display());
        let listed = FileAccess::of(&Config::parse(&text, &file).unwrap(), true);
        assert_eq!(listed.check_read(&base.join("flows.csv")), Ok(()));
        assert!(listed.check_write(&base.join("results.csv")).is_err());
        assert!(listed.check_read(&base.join("c.key")).is_err());
        assert_eq!(FileAccess::Everything.check_read(Path::new("/proc/self/environ")), Ok(()));
    }
}
