//! The files of one attempt of a COPY, from hidden to published.
//!
//! Owns: where they are meanwhile, putting them in place at once, and clearing up. Must not know: what is
//! in them.
//!
//! An attempt writes to a hidden folder beside the target, on the same file system, under names that no
//! table has for data. Its last act is one rename: nobody sees half of a COPY, nor two attempts of it.

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

/// Hidden folders of attempts that this process has not ended.
static STAGED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Deletes what unfinished COPYs have on disk: for the end of the process, where what runs is not ended.
pub fn delete_staged_files() {
    for folder in std::mem::take(&mut *STAGED.lock().unwrap_or_else(PoisonError::into_inner)) {
        fs::remove_dir_all(folder).ok();
    }
}

const UNFINISHED: &str = ".unfinished";

/// One attempt. Dropped before it is published, it is deleted in the background.
#[derive(Debug)]
pub(super) struct Attempt {
    target: Target,
    copy: String,
    existing: Existing,
    folder: PathBuf,
    found: Found,
}

impl Attempt {
    /// Makes the hidden folder, if the target may be written.
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

    /// Where to write: a file, or a folder with `/` at its end.
    pub(super) fn output(&self) -> Result<Url> {
        let url = match self.shape() {
            Shape::File => Url::from_file_path(self.single_file()),
            Shape::Folder => Url::from_directory_path(&self.folder),
        };
        url.map_err(|()| refuse(&self.folder, "it has no URL"))
    }

    /// What files end with until they are published: a table over a folder above reads none of them.
    pub(super) fn unfinished(extension: &str) -> String {
        format!("{extension}{UNFINISHED}")
    }

    fn single_file(&self) -> PathBuf {
        let name = self.target.path().file_name().unwrap_or_default().to_string_lossy();
        self.folder.join(Self::unfinished(&name))
    }

    /// Puts the files in place, unless another attempt of this COPY has.
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
        // Other attempts have lost; one that still runs fails by it. What cannot be deleted stays hidden.
        for path in children(parent).unwrap_or_default() {
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&hidden(&self.copy))) {
                fs::remove_dir_all(path).ok();
            }
        }
        Ok(())
    }

    /// Deletes what was written.
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
            ErrorKind::AlreadyExists => refuse(target, "it was made while the COPY ran"),
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
            // A rename replaces an empty folder, and no other.
            Found::Nothing => fs::rename(&self.folder, target),
        };
        let Err(error) = renamed else { return Ok(()) };
        match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => {
                match self.target.admit(&self.copy, Existing::Refuse)? {
                    Found::OfThisCopy => Ok(()),
                    Found::Nothing | Found::Other(_) => Err(refuse(target, "it was made while the COPY ran")),
                }
            }
            _ => Err(failed(target, "put in place", error)),
        }
    }

    /// `overwrite` replaces what was there when the COPY began: an attempt that comes late, of an executor
    /// that was taken for dead, must not replace what was written since.
    fn refuse_another(&self, identity: Identity) -> Result<()> {
        match self.found == Found::Other(identity) {
            true => Ok(()),
            false => Err(refuse(self.target.path(), "it was replaced by another while the COPY ran")),
        }
    }

    /// At once, so that readers see the old files or the new. What was there is in the hidden folder then.
    fn exchange(&self) -> Result<()> {
        let target = self.target.path();
        match renameat_with(CWD, &self.folder, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            // Some network file systems cannot: for a moment there is no folder.
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

/// Gives files the name of their COPY in place of DataFusion's random one, and puts them on disk: a crash
/// of the machine must not leave the name of a file without its rows.
fn name_files(folder: &Path, copy: &str) -> Result<()> {
    for path in children(folder)? {
        if path.is_dir() {
            name_files(&path, copy)?;
            continue;
        }
        sync(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // `ID_NUMBER.EXTENSION`, and `ID.EXTENSION` where columns partition.
        let finished = name.strip_suffix(UNFINISHED);
        let Some(rest) = finished.and_then(|name| name.find(['_', '.']).map(|end| &name[end..])) else {
            return Err(refuse(&path, "the file was not written by it"));
        };
        let named = folder.join(format!("{copy}{rest}"));
        fs::rename(&path, &named).map_err(|e| failed(&path, "name", e))?;
    }
    sync(folder)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| failed(path, "write", e))
}

/// A rename that replaces nothing; by a second name where a file system has no such rename.
fn rename_to_nothing(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::hard_link(from, to),
        renamed => renamed.map_err(Into::into),
    }
}
