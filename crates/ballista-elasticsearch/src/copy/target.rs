//! The target of a COPY, and what exists there.
//!
//! Owns: resolving its path, and whether existing files may be replaced. Must not know: rows, formats, or which
//! paths tasks may write to, which is checked before they begin.

use datafusion::error::{DataFusionError, Result};
use std::fs::Metadata;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use url::Url;

/// Whether a COPY writes one file or a folder of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One file.
    File,
    /// A folder of files.
    Folder,
}

/// How a COPY handles existing files at its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Existing {
    /// The COPY fails.
    #[default]
    Refuse,
    /// They are replaced when the COPY is complete.
    Replace,
}

/// What exists at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or an empty folder.
    Nothing,
    /// Files that another attempt of the same COPY has published.
    OfThisCopy,
    /// Something else.
    Other(Identity),
}

/// Identifies a file or folder independently of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A path without links, and whether it will be a file or a folder.
#[derive(Clone, Debug)]
pub(super) struct Target {
    path: PathBuf,
    parent: PathBuf,
    shape: Shape,
}

/// The extensions of files that a COPY writes. A folder with any other file is not replaced.
const WRITTEN: &[&str] = &["csv", "json", "parquet", "arrow"];
const COMPRESSED: &[&str] = &["gz", "bz2", "xz", "zst"];

/// Returns `location` in a form that is the same in every process. A relative path starts at the current folder of
/// this process.
pub(super) fn absolute(location: &str) -> Result<String> {
    if location.contains("://") {
        return Ok(location.to_owned());
    }
    let path = std::path::absolute(location).map_err(|e| failed(Path::new(location), "resolve", e))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| DataFusionError::Configuration(format!("COPY to {}: not UTF-8", path.display())))
}

impl Target {
    /// Resolves a location, following links. Without a shape it is a folder if one exists there, if it ends with
    /// `/`, or if it has no extension, as DataFusion decides.
    pub(super) fn resolve(location: &str, shape: Option<Shape>) -> Result<Self> {
        let path = real(&target_path(location)?)?;
        let Some(parent) = path.parent().map(Path::to_owned) else {
            return Err(refuse(&path, "it is the root folder; name one in it"));
        };
        let name = location.rsplit('/').next().unwrap_or_default();
        let has_extension = name.contains('.') && !name.ends_with('.');
        let shape = shape.unwrap_or(match has_extension && !path.is_dir() {
            true => Shape::File,
            false => Shape::Folder,
        });
        Ok(Self { path, parent, shape })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn parent(&self) -> &Path {
        &self.parent
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns what exists at the target, if the COPY may continue.
    pub(super) fn admit(&self, copy: &str, existing: Existing) -> Result<Found> {
        let found = self.find(copy)?;
        if matches!(found, Found::Other(_)) {
            match (existing, self.shape) {
                (Existing::Refuse, Shape::File) => {
                    return Err(refuse(&self.path, &format!("the file exists; {OVERWRITE}")));
                }
                (Existing::Refuse, Shape::Folder) => {
                    return Err(refuse(&self.path, &format!("the folder is not empty; {OVERWRITE}")));
                }
                (Existing::Replace, Shape::File) => {}
                (Existing::Replace, Shape::Folder) => self.refuse_foreign_files(&self.path)?,
            }
        }
        Ok(found)
    }

    fn find(&self, copy: &str) -> Result<Found> {
        let metadata = match std::fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(e) => return Err(failed(&self.path, "look at", e)),
        };
        let other = Found::Other(Identity::of(&metadata));
        match self.shape {
            Shape::File if metadata.is_file() => Ok(other),
            Shape::File => Err(refuse(&self.path, "it exists and is not a file")),
            Shape::Folder if !metadata.is_dir() => Err(refuse(&self.path, "it exists and is not a folder")),
            Shape::Folder => {
                let parent =
                    std::fs::metadata(&self.parent).map_err(|e| failed(&self.parent, "look at", e))?;
                if parent.dev() != metadata.dev() {
                    return Err(refuse(
                        &self.path,
                        "a file system is mounted there, which cannot be put in place at once; name a folder in it",
                    ));
                }
                if children(&self.path)?.is_empty() {
                    return Ok(Found::Nothing);
                }
                Ok(if has_files_of(&self.path, copy)? { Found::OfThisCopy } else { other })
            }
        }
    }

    /// `overwrite` deletes only a folder of data files, not one with other files.
    fn refuse_foreign_files(&self, folder: &Path) -> Result<()> {
        for child in children(folder)? {
            let name = child.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let metadata = std::fs::symlink_metadata(&child).map_err(|e| failed(&child, "look at", e))?;
            let of_a_copy = match (metadata.is_dir(), metadata.is_file()) {
                (true, _) if name.contains('=') => {
                    self.refuse_foreign_files(&child)?;
                    true
                }
                (false, true) => is_data(&name),
                _ => false,
            };
            if !of_a_copy {
                return Err(refuse(
                    &self.path,
                    &format!("overwrite would delete {}, which no COPY has written", child.display()),
                ));
            }
        }
        Ok(())
    }
}

const OVERWRITE: &str = "name another, or replace it by OPTIONS ('overwrite' 'true')";

fn is_data(name: &str) -> bool {
    let mut endings = name.rsplit('.');
    match endings.next() {
        Some(last) if COMPRESSED.contains(&last) => endings.next().is_some_and(|e| WRITTEN.contains(&e)),
        Some(last) => last != name && WRITTEN.contains(&last),
        None => false,
    }
}

/// Whether a folder has files of this COPY. Their names begin with its id.
fn has_files_of(folder: &Path, copy: &str) -> Result<bool> {
    for child in children(folder)? {
        let named = child.file_name().is_some_and(|name| name.to_string_lossy().starts_with(copy));
        if named || (child.is_dir() && !child.is_symlink() && has_files_of(&child, copy)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the paths of a folder's entries.
pub(super) fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| failed(folder, "list", e))?;
    entries.map(|entry| Ok(entry.map_err(|e| failed(folder, "list", e))?.path())).collect()
}

/// Returns the path of a location, without following links or `..`.
pub(crate) fn target_path(location: &str) -> Result<PathBuf> {
    let path = match location.split_once("://") {
        None => Some(PathBuf::from(location)),
        Some(("file", _)) => Url::parse(location).ok().and_then(|url| url.to_file_path().ok()),
        Some(_) => None,
    };
    path.filter(|path| path.is_absolute()).ok_or_else(|| {
        DataFusionError::Configuration(format!(
            "COPY to \"{location}\": a COPY writes to a path on the executor's machine; give /FOLDER/ or \
             file:///FOLDER/"
        ))
    })
}

/// Resolves links in the existing part of a path. The missing part must consist of plain names.
fn real(path: &Path) -> Result<PathBuf> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        match existing.canonicalize() {
            Ok(mut real) => {
                real.extend(missing.iter().rev());
                return Ok(real);
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let (Some(name), Some(parent)) = (existing.file_name(), existing.parent()) else {
                    return Err(refuse(path, "it steps out of a folder that is missing"));
                };
                if existing.is_symlink() {
                    return Err(refuse(path, "it leads over a link to nothing"));
                }
                missing.push(name);
                existing = parent;
            }
            Err(e) => return Err(failed(existing, "resolve", e)),
        }
    }
}

pub(super) fn refuse(path: &Path, why: &str) -> DataFusionError {
    DataFusionError::Execution(format!("COPY to \"{}\": {why}", path.display()))
}

/// Returns an I/O error, so that the failed task is retried.
pub(super) fn failed(path: &Path, operation: &str, error: Error) -> DataFusionError {
    let text = format!("COPY cannot {operation} \"{}\": {error}", path.display());
    DataFusionError::IoError(Error::new(error.kind(), text))
}
