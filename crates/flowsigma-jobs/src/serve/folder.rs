//! The folder of job files, read again and again.
//!
//! Owns: which version of which file counts. Must not know: how jobs are run.
//!
//! A file whose new version is wrong keeps its last good one. Of two files with a job of the same name, the one that
//! had it first counts.

use crate::error::{Error, Result};
use crate::job_file::JobFile;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The jobs of a folder at one time.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// By name.
    pub(super) jobs: BTreeMap<String, Arc<JobFile>>,
    /// What is wrong with a file, by the name of its job. A file that never had one counts under its own name.
    pub(super) wrong: BTreeMap<String, String>,
}

/// A folder of job files.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    files: BTreeMap<PathBuf, Known>,
    /// Which file has a name.
    owners: BTreeMap<String, PathBuf>,
}

/// What is known of a file.
#[derive(Debug, Default)]
struct Known {
    digest: Option<[u8; 32]>,
    good: Option<Arc<JobFile>>,
    problem: Option<String>,
    /// The problem that was logged last.
    logged: Option<String>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, files: BTreeMap::new(), owners: BTreeMap::new() }
    }

    /// Reads the folder. It blocks.
    pub(super) fn scan(&mut self) -> Result<Scan> {
        let paths = list(&self.path)?;
        self.files.retain(|path, _| paths.contains(path));
        for path in paths {
            let known = self.files.entry(path.clone()).or_default();
            match std::fs::read(&path) {
                Ok(bytes) => known.parse(&path, &bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.files.remove(&path);
                }
                Err(source) => {
                    known.digest = None;
                    known.problem = Some(Error::Unreadable { path, source }.to_string());
                }
            }
        }
        Ok(self.choose())
    }

    /// Returns the good files, one for each name.
    fn choose(&mut self) -> Scan {
        let Self { files, owners, .. } = self;
        let name_of = |known: &Known| known.good.as_ref().map(|file| file.job.name.clone());
        owners.retain(|name, path| files.get(path).and_then(name_of).as_ref() == Some(name));
        let mut scan = Scan::default();
        for (path, known) in files.iter_mut() {
            let mut problem = known.problem.clone();
            let mut name = None;
            if let Some(good) = &known.good {
                let owner = owners.entry(good.job.name.clone()).or_insert_with(|| path.clone());
                if owner == path {
                    name = Some(good.job.name.clone());
                    scan.jobs.insert(good.job.name.clone(), Arc::clone(good));
                } else {
                    problem.get_or_insert_with(|| same_name(path, &good.job.name, owner).to_string());
                }
            }
            if problem != known.logged {
                match &problem {
                    Some(error) => tracing::error!(error, runs = name.is_some(), "a job file is wrong"),
                    None => tracing::info!(file = %path.display(), "the job file is correct again"),
                }
                known.logged.clone_from(&problem);
            }
            if let Some(problem) = problem {
                scan.wrong.insert(name.unwrap_or_else(|| stem(path)), problem);
            }
        }
        scan
    }
}

impl Known {
    fn parse(&mut self, path: &Path, bytes: &[u8]) {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        if self.digest == Some(digest) {
            return;
        }
        self.digest = Some(digest);
        let parsed = match std::str::from_utf8(bytes) {
            Ok(text) => JobFile::parse(path, text),
            Err(_) => {
                Err(Error::JobFile { path: path.into(), problem: "this is not a text in UTF-8".into() })
            }
        };
        match parsed {
            Ok(file) => {
                self.good = Some(Arc::new(file));
                self.problem = None;
            }
            Err(error) => self.problem = Some(error.to_string()),
        }
    }
}

/// Lists each file `*.toml` that is not hidden, by name.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |source| Error::Unreadable { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn same_name(path: &Path, name: &str, owner: &Path) -> Error {
    let owner = owner.display();
    let problem = format!("name = {name:?}: {owner} has a job of the same name; rename one");
    Error::JobFile { path: path.into(), problem }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, every: &str) -> String {
        format!(
            "name = {name:?}\n[source]\nconnection = \"prod\"\nindex = \"flows-*\"\n\
             [window]\nevery = {every:?}\n[store]\nurl = \"file:///tmp/flowsigma\"\n"
        )
    }

    fn every(scan: &Scan) -> Vec<(&str, &str)> {
        scan.jobs.iter().map(|(name, file)| (name.as_str(), file.job.window.every.as_str())).collect()
    }

    #[test]
    fn a_wrong_file_keeps_its_last_good_version() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a.toml");
        let mut folder = Folder::new(temporary.path().into());
        assert!(folder.scan().unwrap().jobs.is_empty());
        std::fs::write(&path, text("hourly", "1h")).unwrap();
        let first = folder.scan().unwrap();
        assert_eq!(every(&first), [("hourly", "1h")]);
        // A file that has not changed is not parsed again.
        assert!(Arc::ptr_eq(&first.jobs["hourly"], &folder.scan().unwrap().jobs["hourly"]));
        for wrong in [b"name = ".as_slice(), b"", &[0xff], text("hourly", "7h").as_bytes()] {
            std::fs::write(&path, wrong).unwrap();
            let scan = folder.scan().unwrap();
            assert_eq!(every(&scan), [("hourly", "1h")]);
            assert!(scan.wrong["hourly"].contains("a.toml: "), "{:?}", scan.wrong);
        }
        std::fs::write(&path, text("hourly", "6h")).unwrap();
        let scan = folder.scan().unwrap();
        assert_eq!((every(&scan), scan.wrong.len()), (vec![("hourly", "6h")], 0));
        std::fs::write(temporary.path().join("never.toml"), "x").unwrap();
        assert_eq!(folder.scan().unwrap().wrong.keys().collect::<Vec<_>>(), ["never"]);
        std::fs::remove_file(&path).unwrap();
        assert!(folder.scan().unwrap().jobs.is_empty());
    }

    #[test]
    fn a_name_stays_with_the_file_that_had_it_first() {
        let temporary = tempfile::tempdir().unwrap();
        let write = |file: &str, every: &str| {
            std::fs::write(temporary.path().join(file), text("hourly", every)).unwrap();
        };
        let mut folder = Folder::new(temporary.path().into());
        write("b.toml", "1h");
        folder.scan().unwrap();
        write("a.toml", "6h");
        let scan = folder.scan().unwrap();
        assert_eq!(every(&scan), [("hourly", "1h")]);
        assert!(scan.wrong["a"].contains("b.toml has a job of the same name"), "{:?}", scan.wrong);
        std::fs::remove_file(temporary.path().join("b.toml")).unwrap();
        let scan = folder.scan().unwrap();
        assert_eq!((every(&scan), scan.wrong.len()), (vec![("hourly", "6h")], 0));
    }

    #[test]
    fn a_folder_that_is_missing_is_an_error() {
        let error = Folder::new("/nowhere/jobs".into()).scan().unwrap_err().to_string();
        assert!(error.starts_with("job file /nowhere/jobs: "), "{error}");
    }
}
