//! Job files: from text to a checked job.
//!
//! Owns: reading a file or a folder of them, and the digest of the text. Must not know: stores, servers, or which
//! windows were run.
//!
//! A [`JobFile`] is checked completely when it is parsed: its keys and types against the JSON Schema of [`Job`], its
//! values in `check`. No message contains a URL, because a URL may contain a secret.

mod check;
mod cron;
mod explain;
mod schema;

use crate::error::{Error, Result};
use crate::job::Job;
use crate::window::Calendar;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use schema::json_schema;

/// A job with the file that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFile {
    /// The job. Its values were checked.
    pub job: Job,
    /// The SHA-256 of the file's text, in hex.
    pub digest: String,
    /// The file.
    pub path: PathBuf,
}

impl JobFile {
    /// Reads a job file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not TOML, or has an unknown key or a wrong value.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Parses the text of a job file. `path` is only named in errors.
    ///
    /// # Errors
    ///
    /// If the text is not TOML, or has an unknown key or a wrong value. The error names the key, the value and what was
    /// expected.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Self> {
        let path = path.as_ref();
        let refuse = |problem| Error::JobFile { path: path.to_owned(), problem };
        let table: toml::Table = toml::from_str(text).map_err(|error| refuse(syntax(text, &error)))?;
        schema::check_table(&table).map_err(refuse)?;
        let job: Job =
            table.try_into().map_err(|error: toml::de::Error| refuse(error.message().to_owned()))?;
        check::check(&job).map_err(refuse)?;
        Ok(Self { job, digest: hex_digest(text), path: path.to_owned() })
    }

    /// Returns the windows of the job.
    ///
    /// # Errors
    ///
    /// If `job` was changed after it was parsed, and `[window]` is now wrong.
    pub fn calendar(&self) -> Result<Calendar> {
        Calendar::try_new(&self.job.window)
    }

    /// Returns the first time after `after` at which due windows are run: by the cron expression of `[schedule]`, or
    /// without one as soon as a window is due.
    ///
    /// # Errors
    ///
    /// If `job` was changed after it was parsed, and `[window]` or `[schedule]` is now wrong.
    pub fn next_run(&self, after: Timestamp) -> Result<Timestamp> {
        match &self.job.schedule {
            Some(schedule) => {
                let zone = self.job.window.time_zone.as_deref();
                cron::next(&schedule.cron, zone, after)
                    .map_err(|problem| Error::JobFile { path: self.path.clone(), problem })
            }
            None => Ok(self.calendar()?.next_due_time(after)),
        }
    }

    /// Describes in a few lines what the job does, with the next times after `now` at which a window is due.
    pub fn explain(&self, now: Timestamp) -> String {
        explain::explain(self, now)
    }
}

/// Reads all job files of a folder, in the order of their names: each file `*.toml` that is not hidden. Folders in it
/// are not searched. A folder without job files has no jobs.
///
/// # Errors
///
/// If the folder or a file cannot be read, if a job is wrong, or if two jobs have the same name.
pub fn read_folder(folder: impl AsRef<Path>) -> Result<Vec<JobFile>> {
    let folder = folder.as_ref();
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
    let mut jobs: Vec<JobFile> = Vec::with_capacity(paths.len());
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in paths {
        let file = JobFile::read(&path)?;
        if let Some(other) = names.insert(file.job.name.clone(), path.clone()) {
            let problem = format!(
                "name = {:?}: {} has a job of the same name; jobs are told apart by name, so rename one",
                file.job.name,
                other.display()
            );
            return Err(Error::JobFile { path, problem });
        }
        jobs.push(file);
    }
    Ok(jobs)
}

fn hex_digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Describes a syntax error without the text around it, which may contain a secret.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(text.len(), |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
    format!("line {line}, column {column}: not valid TOML: {}", error.message())
}

#[cfg(test)]
#[path = "job_file_tests.rs"]
mod tests;
