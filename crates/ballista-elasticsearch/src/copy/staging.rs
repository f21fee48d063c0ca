//! The files of one attempt of a COPY, from hidden to published.
//!
//! Owns: their hidden folder, publishing them atomically, and cleaning up. Must not know: their content.
//!
//! An attempt writes to a hidden folder beside the target, on the same file system, with a suffix that no table
//! reads. Its last step is one rename, so a reader never sees a part of a COPY, or two attempts of it.

use super::target::{Existing, Found, Identity, Shape, Target, children, failed, refuse};
use datafusion::error::Result;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use url::Url;

/// The hidden folders of attempts that this process has not ended.
static STAGED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Deletes the files of unfinished COPYs. Call it at the end of the process, because running attempts are not
/// dropped then.
pub fn delete_staged_files() {
    for folder in std::mem::take(&mut *STAGED.lock().unwrap_or_else(PoisonError::into_inner)) {
        fs::remove_dir_all(folder).ok();
    }
}

const UNFINISHED: &str = ".unfinished";

/// One attempt of a COPY. If it is dropped before it is published, its files are deleted in the background.
#[derive(Debug)]
pub(super) struct Attempt {
    target: Target,
    copy: String,
    existing: Existing,
    folder: PathBuf,
    found: Found,
}

impl Attempt {
    /// Creates the hidden folder, if the target may be written.
    pub(super) fn begin(target: Target, copy: &str, existing: Existing) -> Result<Self> {
        let found = target.admit(copy, existing)?;
        let parent = target.parent();
        fs::create_dir_all(parent).map_err(|e| failed(parent, "make", e))?;
        let folder = parent.join(format!("{}{:016x}", hidden(copy), rand::random::<u64>()));
        fs::create_dir(&folder).map_err(|e| failed(&folder, "make", e))?;
        STAGED.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.clone());
        Ok(Self { target, copy: copy.to_owned(), existing, folder, found })
    }

    pub(super) fn shape(&self) -> Shape {
        self.target.shape()
    }

    /// Returns the URL to write to: a file, or a folder with a trailing `/`.
    pub(super) fn output(&self) -> Result<Url> {
        let url = match self.shape() {
            Shape::File => Url::from_file_path(self.single_file()),
            Shape::Folder => Url::from_directory_path(&self.folder),
        };
        url.map_err(|()| refuse(&self.folder, "it has no URL"))
    }

    /// Returns the file extension with the suffix of unpublished files. A table over a parent folder does not read
    /// them.
    pub(super) fn unfinished(extension: &str) -> String {
        format!("{extension}{UNFINISHED}")
    }

    fn single_file(&self) -> PathBuf {
        let name = self.target.path().file_name().unwrap_or_default().to_string_lossy();
        self.folder.join(Self::unfinished(&name))
    }

    /// Publishes the files, unless another attempt of this COPY has done so.
    pub(super) fn publish(self) -> Result<()> {
        match self.shape() {
            Shape::File => self.publish_file()?,
            Shape::Folder => {
                name_files(&self.folder, &self.copy)?;
                self.publish_folder()?;
            }
        }
        let parent = self.target.parent();
        sync(parent)?;
        // Deletes other attempts of this COPY, because they have lost. One that still runs then fails. A folder
        // that cannot be deleted stays hidden.
        for path in children(parent).unwrap_or_default() {
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&hidden(&self.copy))) {
                fs::remove_dir_all(path).ok();
            }
        }
        Ok(())
    }

    /// Deletes the files of this attempt.
    pub(super) fn discard(self) {
        fs::remove_dir_all(&self.folder).ok();
    }

    fn publish_file(&self) -> Result<()> {
        let (staged, target) = (self.single_file(), self.target.path());
        sync(&staged)?;
        let renamed = match self.target.admit(&self.copy, self.existing)? {
            Found::Other(identity) => {
                self.refuse_another(identity)?;
                fs::rename(&staged, target)
            }
            Found::Nothing | Found::OfThisCopy => rename_to_nothing(&staged, target),
        };
        renamed.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => refuse(target, "it was created while the COPY ran"),
            _ => failed(target, "put in place", e),
        })
    }

    fn publish_folder(&self) -> Result<()> {
        let target = self.target.path();
        let renamed = match self.target.admit(&self.copy, self.existing)? {
            Found::OfThisCopy => return Ok(()),
            Found::Other(identity) => {
                self.refuse_another(identity)?;
                return self.exchange();
            }
            // A rename replaces an empty folder, but no other.
            Found::Nothing => fs::rename(&self.folder, target),
        };
        let Err(error) = renamed else { return Ok(()) };
        match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => {
                match self.target.admit(&self.copy, Existing::Refuse)? {
                    Found::OfThisCopy => Ok(()),
                    Found::Nothing | Found::Other(_) => {
                        Err(refuse(target, "it was created while the COPY ran"))
                    }
                }
            }
            _ => Err(failed(target, "put in place", error)),
        }
    }

    /// `overwrite` replaces only what existed when the COPY began. A late attempt, of an executor that was
    /// considered lost, must not replace what was written since.
    fn refuse_another(&self, identity: Identity) -> Result<()> {
        match self.found == Found::Other(identity) {
            true => Ok(()),
            false => Err(refuse(self.target.path(), "it was replaced by another while the COPY ran")),
        }
    }

    /// Exchanges the folders atomically, so that readers see either the old files or the new ones. The hidden
    /// folder then has the old files.
    fn exchange(&self) -> Result<()> {
        let target = self.target.path();
        match renameat_with(CWD, &self.folder, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            // Some network file systems do not support an exchange. Then the folder is missing for a moment.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                let old = self.folder.with_extension("old");
                fs::rename(target, &old)
                    .and_then(|()| {
                        fs::rename(&self.folder, target).inspect_err(|_| {
                            fs::rename(&old, target).ok();
                        })
                    })
                    .map_err(|e| failed(target, "replace", e))
            }
            Err(e) => Err(failed(target, "replace", e.into())),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.folder);
        STAGED.lock().unwrap_or_else(PoisonError::into_inner).remove(&folder);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || fs::remove_dir_all(folder).ok());
        }
    }
}

fn hidden(copy: &str) -> String {
    format!(".flowsigma-{copy}-")
}

/// Replaces DataFusion's random file names with the id of the COPY, and syncs the files. A crash of the machine
/// must not leave a file name without its rows.
fn name_files(folder: &Path, copy: &str) -> Result<()> {
    for path in children(folder)? {
        if path.is_dir() {
            name_files(&path, copy)?;
            continue;
        }
        sync(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // DataFusion names files `ID_NUMBER.EXTENSION`, and `ID.EXTENSION` with PARTITIONED BY.
        let finished = name.strip_suffix(UNFINISHED);
        let Some(rest) = finished.and_then(|name| name.find(['_', '.']).map(|end| &name[end..])) else {
            return Err(refuse(&path, "this COPY did not write the file"));
        };
        let named = folder.join(format!("{copy}{rest}"));
        fs::rename(&path, &named).map_err(|e| failed(&path, "name", e))?;
    }
    sync(folder)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| failed(path, "write", e))
}

/// Renames a file without replacing another. Uses a hard link on file systems without such a rename.
fn rename_to_nothing(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::hard_link(from, to),
        renamed => renamed.map_err(Into::into),
    }
}
