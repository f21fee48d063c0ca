//! Findings in a file.
//!
//! Owns: opening the file, its lock and its mode. Must not know: what its lines are.

use super::lines::Form;
use super::{append, failed};
use crate::alert::Alert;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::sink::Sink;
use async_trait::async_trait;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A new file is readable only by its account.
const FILE_MODE: u32 = 0o600;
/// How long a delivery waits for the lock of another process.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How often it tries.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Appends one line a finding to a file.
///
/// A delivery holds an exclusive lock on the file (`flock`). It completes or removes the last line of a writer that was
/// killed, writes the lines that the end part of the file does not have, and succeeds once the file system has them on
/// disk. So each finding of a revision is in the file once, however often a delivery is killed and repeated. Limits:
/// - Only the last 16 MiB, besides the size of the delivery itself, are searched for lines that are already there. If
///   other deliveries append more than that between a kill and the next delivery, the lines are written twice.
/// - If the file is moved away between the two (log rotation), the lines are in both files.
/// - Other programs that append to the file must take the same lock.
#[derive(Debug)]
pub struct FileSink {
    name: String,
    path: PathBuf,
    form: &'static Form,
    lock_wait: Duration,
}

impl FileSink {
    /// Creates a sink that appends to a file. The file need not exist, its folder must.
    pub(super) fn new(name: &str, path: &Path, form: &'static Form) -> Self {
        Self { name: name.into(), path: path.into(), form, lock_wait: LOCK_WAIT }
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Opens the file and takes its lock.
    async fn open(&self) -> std::result::Result<File, String> {
        let begin = Instant::now();
        loop {
            let file = self.open_unlocked()?;
            match file.try_lock() {
                Ok(()) if self.is_at_path(&file).map_err(|e| self.describe(&e))? => return Ok(file),
                // The file was moved away before it was locked, and lines in it would be lost.
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => {
                    return Err(format!("file {} cannot be locked: {e}", self.path.display()));
                }
            }
            if begin.elapsed() >= self.lock_wait {
                return Err(format!(
                    "file {}: another process has held its lock for {:?}",
                    self.path.display(),
                    self.lock_wait
                ));
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    fn open_unlocked(&self) -> std::result::Result<File, String> {
        let mut options = File::options();
        options.read(true).append(true).create(true).mode(FILE_MODE);
        let opened = options.open(&self.path).and_then(|file| Ok((file.metadata()?.is_file(), file)));
        match opened {
            Ok((true, file)) => Ok(file),
            Ok((false, _)) => Err(format!("{} is not a regular file", self.path.display())),
            Err(e) if e.kind() == ErrorKind::NotFound && !self.folder().is_dir() => Err(format!(
                "file {}: the folder {} does not exist; create it, or change path of this sink",
                self.path.display(),
                self.folder().display()
            )),
            Err(e) => Err(self.describe(&e)),
        }
    }

    /// Returns whether the path still leads to this file.
    fn is_at_path(&self, file: &File) -> io::Result<bool> {
        let ours = file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn describe(&self, error: &io::Error) -> String {
        format!("file {}: {error}", self.path.display())
    }
}

#[async_trait]
impl Sink for FileSink {
    fn name(&self) -> &str {
        &self.name
    }

    /// Appends the findings that the file does not have yet.
    ///
    /// # Errors
    ///
    /// If the folder does not exist, if the file cannot be opened, locked or written, or if its last line is not one of
    /// ours.
    async fn deliver(&self, manifest: &Manifest, alerts: &[Alert]) -> Result<()> {
        if alerts.is_empty() {
            return Ok(());
        }
        let error = |problem| failed(&manifest.job, &self.name, problem);
        let form = self.form;
        let lines = form.lines(alerts).map_err(error)?;
        let file = self.open().await.map_err(error)?;
        let folder = self.folder().to_owned();
        // The lock is released when the thread drops the file, also if nobody waits for the thread any more.
        let appended = tokio::task::spawn_blocking(move || {
            append::append(&file, form, &lines)?;
            // A new file's entry in its folder must be on disk as well.
            File::open(&folder)?.sync_all()
        });
        appended
            .await
            .map_err(|e| error(format!("file {}: the writer failed: {e}", self.path.display())))?
            .map_err(|e| error(self.describe(&e)))
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
