//! Folders of files that a plan may name, with links that lead out of them.

use std::path::PathBuf;
use std::sync::LazyLock;

/// The name of every link in the folders of files.
pub(crate) const LINK: &str = "link";

/// Folders with a link in each that leads to another one; the same in each run.
pub(crate) static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/fuzz-admission"));
    for name in ["in", "out", "secret"] {
        std::fs::create_dir_all(folder.join(name)).expect("a folder below target/");
        std::fs::write(folder.join(name).join("flows.csv"), "a\n1\n").expect("a file below target/");
    }
    let folder = folder.canonicalize().expect("a folder that exists");
    for name in ["in", "out"] {
        std::os::unix::fs::symlink(folder.join("secret"), folder.join(name).join(LINK)).ok();
        // A pattern to some, and the name of a folder.
        std::fs::create_dir_all(folder.join(name).join("*")).expect("a folder below target/");
    }
    folder
});
