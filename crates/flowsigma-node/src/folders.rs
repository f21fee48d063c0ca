//! Folders that only this account can enter.
//!
//! Owns: creating them. Must not know: their content.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// Creates a folder for this account only, in the system's folder of temporary files. It is deleted on drop.
///
/// # Errors
///
/// Returns an error if the system cannot create the folder.
pub fn private_folder(prefix: &str) -> std::io::Result<TempDir> {
    private_folder_in(&std::env::temp_dir(), prefix)
}

/// Creates a folder for this account only, in `parent`. It is deleted on drop.
///
/// # Errors
///
/// Returns an error if the system cannot create the folder.
pub fn private_folder_in(parent: &Path, prefix: &str) -> std::io::Result<TempDir> {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_account_can_enter_and_nothing_stays() {
        let folder = private_folder("flowsigma-test-").unwrap();
        let path = folder.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
