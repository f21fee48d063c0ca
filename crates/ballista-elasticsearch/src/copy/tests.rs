//! Concurrent attempts of COPYs on a real disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use super::staging::Attempt;
use super::target::{Existing, Shape, Target};
use datafusion::error::Result;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const COPY: &str = "00000000000000aa";
const ANOTHER: &str = "00000000000000bb";

fn target(path: &Path) -> Result<Target> {
    Target::resolve(path.to_str().unwrap(), None)
}

/// Returns an attempt that has written `rows`, but not published them.
fn written(path: &Path, copy: &str, existing: Existing, rows: &str) -> Result<Attempt> {
    let attempt = Attempt::begin(target(path)?, copy, existing)?;
    let output = attempt.output()?.to_file_path().unwrap();
    match attempt.shape() {
        Shape::File => fs::write(output, rows)?,
        Shape::Folder => {
            fs::create_dir(output.join("day=1"))?;
            for name in [format!("{rows}xyz_0.csv.unfinished"), "day=1/xyz.csv.unfinished".into()] {
                fs::write(output.join(name), rows)?;
            }
        }
    }
    Ok(attempt)
}

fn said(result: Result<impl std::fmt::Debug>) -> String {
    result.unwrap_err().to_string()
}

/// Returns all files below a folder, hidden ones too, with their content.
fn tree(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(tree(&path)),
            false => found.push((path.clone(), fs::read_to_string(&path).unwrap())),
        }
    }
    found.sort();
    found
}

fn published(folder: &Path, copy: &str, rows: &str) -> Vec<(PathBuf, String)> {
    let names = [format!("{copy}_0.csv"), format!("day=1/{copy}.csv")];
    names.map(|name| (folder.join(name), rows.to_owned())).to_vec()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn of_two_attempts_one_is_seen_and_only_when_it_is_whole() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let to = folder.path().join("new/out");
    let first = written(&to, COPY, Existing::Refuse, "first")?;
    assert!(!to.exists());
    let second = written(&to, COPY, Existing::Refuse, "second")?;
    second.publish()?;
    assert_eq!(tree(&to), published(&to, COPY, "second"));
    // An attempt that was considered lost: its files are deleted, and it fails.
    assert!(said(first.publish()).contains("COPY cannot list"));
    // An attempt that begins after another one of the same COPY has published.
    written(&to, COPY, Existing::Refuse, "third")?.publish()?;
    assert_eq!(tree(&folder.path().join("new")), published(&to, COPY, "second"));
    Ok(())
}

#[test]
fn a_folder_that_is_not_empty_is_an_error_unless_it_is_overwritten() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let to = folder.path().join("out");
    fs::create_dir(&to)?;
    written(&to, COPY, Existing::Refuse, "old")?.publish()?;
    let refused = said(written(&to, ANOTHER, Existing::Refuse, "new"));
    assert!(refused.contains("the folder is not empty; name another"), "{refused}");
    let discarded = written(&to, ANOTHER, Existing::Replace, "new")?;
    assert_eq!(tree(&to), published(&to, COPY, "old"));
    discarded.discard();
    assert_eq!(tree(folder.path()), published(&to, COPY, "old"));
    written(&to, ANOTHER, Existing::Replace, "new")?.publish()?;
    assert_eq!(tree(folder.path()), published(&to, ANOTHER, "new"));
    assert_eq!(names(folder.path()), ["out"]);
    Ok(())
}

#[test]
fn a_late_attempt_does_not_replace_what_was_written_since() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["out", "out.csv"] {
        let to = folder.path().join(name);
        written(&to, "00000000000000cc", Existing::Refuse, "old")?.publish()?;
        let late = written(&to, COPY, Existing::Replace, "late")?;
        written(&to, ANOTHER, Existing::Replace, "new")?.publish()?;
        let error = said(late.publish());
        assert!(error.contains("it was replaced by another while the COPY ran"), "{error}");
    }
    let mut new = published(&folder.path().join("out"), ANOTHER, "new");
    new.push((folder.path().join("out.csv"), "new".to_owned()));
    let mut left = tree(folder.path());
    left.retain(|(path, _)| !path.to_string_lossy().contains("/.flowsigma-"));
    assert_eq!(left, new);
    Ok(())
}

#[test]
fn a_file_is_replaced_only_if_that_is_asked_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let to = folder.path().join("out.csv");
    let (first, second) =
        (written(&to, COPY, Existing::Refuse, "1")?, written(&to, ANOTHER, Existing::Refuse, "2")?);
    first.publish()?;
    assert!(said(second.publish()).contains("the file exists"));
    assert!(said(written(&to, ANOTHER, Existing::Refuse, "2")).contains("the file exists"));
    written(&to, ANOTHER, Existing::Replace, "2")?.publish()?;
    assert_eq!(tree(folder.path()), [(to.clone(), "2".to_owned())]);
    assert_eq!(names(folder.path()), ["out.csv"]);
    Ok(())
}

#[test]
fn overwrite_deletes_nothing_but_data() -> Result<()> {
    for foreign in ["notes.txt", "sub/a.csv", ".bashrc", "csv", "day=1/notes", "a.gz"] {
        let folder = tempfile::tempdir()?;
        let to = folder.path().join("out");
        let file = to.join(foreign);
        fs::create_dir_all(file.parent().unwrap())?;
        fs::write(&file, "kept")?;
        let error = said(written(&to, COPY, Existing::Replace, "new"));
        assert!(error.contains("overwrite would delete"), "{foreign}: {error}");
        assert_eq!(tree(folder.path()), [(file, "kept".to_owned())]);
    }
    Ok(())
}

#[tokio::test]
async fn an_attempt_that_is_dropped_is_deleted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    drop(written(&folder.path().join("out"), COPY, Existing::Refuse, "1")?);
    while !names(folder.path()).is_empty() {
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn resolved(folder: &TempDir, location: &str, shape: Option<Shape>) -> std::result::Result<Shape, String> {
    let location = location.replace("DIR", folder.path().to_str().unwrap());
    Target::resolve(&location, shape)
        .and_then(|target| target.admit(COPY, Existing::Replace).map(|_| target.shape()))
        .map_err(|e| e.to_string())
}

#[test]
fn a_location_is_a_file_or_a_folder_as_datafusion_decides() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("folder.csv"))?;
    for (location, asked, shape) in [
        ("DIR/a.csv", None, Shape::File),
        ("file://DIR/a.csv", None, Shape::File),
        ("DIR/a.csv/", None, Shape::Folder),
        ("DIR/a", None, Shape::Folder),
        ("DIR/a.", None, Shape::Folder),
        ("DIR/folder.csv", None, Shape::Folder),
        ("DIR/a", Some(Shape::File), Shape::File),
        ("DIR/a.csv", Some(Shape::Folder), Shape::Folder),
    ] {
        assert_eq!(resolved(&folder, location, asked), Ok(shape), "{location}");
    }
    Ok(())
}

#[test]
fn a_location_that_leads_elsewhere_is_an_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::symlink(folder.path().join("missing"), folder.path().join("link"))?;
    fs::create_dir(folder.path().join("real"))?;
    std::os::unix::fs::symlink(folder.path().join("real"), folder.path().join("linked"))?;
    for (location, why) in [
        ("s3://bucket/a.csv", "a path on the executor's machine"),
        ("a.csv", "a path on the executor's machine"),
        ("DIR/link/a.csv", "a link to nothing"),
        ("DIR/missing/../a.csv", "it steps out of a folder that is missing"),
        ("/", "it is the root folder"),
        ("/dev/null", "it exists and is not a folder"),
        ("/proc/", "a file system is mounted there"),
    ] {
        let error = resolved(&folder, location, None).unwrap_err();
        assert!(error.contains(why), "{location}: {error}");
    }
    let to = folder.path().join("linked/out");
    written(&to, COPY, Existing::Refuse, "1")?.publish()?;
    assert!(folder.path().join("real/out").is_dir());
    Ok(())
}
