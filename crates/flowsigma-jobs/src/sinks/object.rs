//! Findings in one file or object for each revision of a window.
//!
//! Owns: their names, and how a file is written completely or not at all. Must not know: the formats.
//!
//! The name is the same in each delivery, so a second delivery replaces what the first has written.

use super::lines::{CSV, NDJSON};
use super::{failed, parquet};
use crate::alert::Alert;
use crate::error::Result;
use crate::job::FindingsFormat;
use crate::manifest::Manifest;
use crate::sink::Sink;
use crate::store::Store;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A new folder and a new file are only for their account.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Returns the content of a file or an object.
fn encode(format: FindingsFormat, alerts: &[Alert]) -> std::result::Result<Vec<u8>, String> {
    match format {
        FindingsFormat::Ndjson => NDJSON.file(alerts),
        FindingsFormat::Csv => CSV.file(alerts),
        FindingsFormat::Parquet => parquet::file(alerts),
    }
}

/// Writes an object `JOB/START_END/rNNNNNN.FORMAT` into a bucket for each revision of a window that has findings.
///
/// Requests go only to hosts that the sink's options name, as those of a store do; see [`Store::open`].
#[derive(Debug)]
pub struct BucketSink {
    name: String,
    bucket: Store,
    format: FindingsFormat,
}

impl BucketSink {
    /// Creates a sink that writes below a URL. Sends no request.
    ///
    /// # Errors
    ///
    /// If the URL, an option or the credentials in the environment cannot be used.
    pub fn try_new(
        job: &str,
        name: &str,
        url: &str,
        options: &BTreeMap<String, String>,
        format: FindingsFormat,
    ) -> Result<Self> {
        let bucket = Store::open(url, options).map_err(|error| failed(job, name, error.to_string()))?;
        Ok(Self { name: name.into(), bucket, format })
    }
}

#[async_trait]
impl Sink for BucketSink {
    fn name(&self) -> &str {
        &self.name
    }

    /// Writes the object of the revision, or replaces it.
    ///
    /// # Errors
    ///
    /// If the bucket cannot be written.
    async fn deliver(&self, manifest: &Manifest, alerts: &[Alert]) -> Result<()> {
        if alerts.is_empty() {
            return Ok(());
        }
        let error = |problem| failed(&manifest.job, &self.name, problem);
        let content = encode(self.format, alerts).map_err(error)?;
        let written = self.bucket.write_findings(manifest, self.format.name(), content.into()).await;
        written.map_err(|e| error(e.to_string()))
    }
}

/// Writes a file `JOB/START_END/rNNNNNN.FORMAT` into a folder for each revision of a window that has findings. The file
/// is written under a temporary name, which begins with ".", and renamed once the file system has it on disk.
#[derive(Debug)]
pub struct FolderSink {
    name: String,
    folder: PathBuf,
    format: FindingsFormat,
}

impl FolderSink {
    /// Creates a sink that writes into a folder. A delivery creates the folder, whose parent must exist.
    pub fn new(name: &str, folder: &Path, format: FindingsFormat) -> Self {
        Self { name: name.into(), folder: folder.into(), format }
    }
}

#[async_trait]
impl Sink for FolderSink {
    fn name(&self) -> &str {
        &self.name
    }

    /// Writes the file of the revision, or replaces it.
    ///
    /// # Errors
    ///
    /// If the folder's parent does not exist, or if the file cannot be written.
    async fn deliver(&self, manifest: &Manifest, alerts: &[Alert]) -> Result<()> {
        if alerts.is_empty() {
            return Ok(());
        }
        let error = |problem| failed(&manifest.job, &self.name, problem);
        let content = encode(self.format, alerts).map_err(error)?;
        let (window, revision) = Store::findings_name(manifest, self.format.name());
        let (folder, job) = (self.folder.clone(), manifest.job.clone());
        let written = tokio::task::spawn_blocking(move || {
            write(&[folder, job.into(), window.into()], &revision, &content)
        });
        let shown = self.folder.display();
        written.await.map_err(|e| error(format!("folder {shown}: the writer failed: {e}")))?.map_err(|e| {
            error(format!("folder {shown}: {e}; check that its parent exists and path of this sink"))
        })
    }
}

/// Writes a file into nested folders, which are created, and waits until all of it is on disk.
fn write(folders: &[PathBuf], name: &str, content: &[u8]) -> io::Result<()> {
    let mut path = PathBuf::new();
    for folder in folders {
        let parent = path.clone();
        path.push(folder);
        match DirBuilder::new().mode(FOLDER_MODE).create(&path) {
            Ok(()) if !parent.as_os_str().is_empty() => File::open(&parent)?.sync_all()?,
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    // A killed writer leaves a file of this name, which the next one of any process replaces.
    let temporary = path.join(format!(".{name}.{}", std::process::id()));
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(FILE_MODE).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path.join(name))?;
    File::open(&path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::{alerts, manifest};
    use std::os::unix::fs::PermissionsExt;

    const NAME: &str = "scan/20260101T000000Z_20260101T010000Z/r000001";

    #[tokio::test]
    async fn a_second_delivery_replaces_the_object_of_the_revision() {
        let bucket = Store::in_memory();
        for (format, second) in
            [(FindingsFormat::Ndjson, 3), (FindingsFormat::Csv, 2), (FindingsFormat::Parquet, 2)]
        {
            let sink = BucketSink { name: "bucket".into(), bucket: bucket.clone(), format };
            sink.deliver(&manifest(), &[]).await.unwrap();
            let path = format!("{NAME}.{}", format.name());
            assert_eq!(bucket.object(&path).await, None);
            sink.deliver(&manifest(), &alerts(2)).await.unwrap();
            sink.deliver(&manifest(), &alerts(second)).await.unwrap();
            assert_eq!(bucket.object(&path).await.unwrap(), encode(format, &alerts(second)).unwrap());
        }
    }

    #[tokio::test]
    async fn a_file_is_complete_or_not_there() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("findings");
        let sink = FolderSink::new("files", &folder, FindingsFormat::Parquet);
        sink.deliver(&manifest(), &[]).await.unwrap();
        assert!(!folder.exists());
        for count in [2, 2, 1] {
            sink.deliver(&manifest(), &alerts(count)).await.unwrap();
            let path = folder.join(format!("{NAME}.parquet"));
            assert_eq!(std::fs::read(&path).unwrap(), parquet::file(&alerts(count)).unwrap());
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
            assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        }
        let sink = FolderSink::new("files", &parent.path().join("a/b"), FindingsFormat::Parquet);
        let error = sink.deliver(&manifest(), &alerts(1)).await.unwrap_err().to_string();
        assert!(error.contains("/a/b: ") && error.contains("check that its parent exists"), "{error}");
    }
}
