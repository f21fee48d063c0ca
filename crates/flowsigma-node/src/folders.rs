//! Folders that only this account can enter.
//!
//! Owns: making them. Must not know: what is put there.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// Makes a folder among the temporary ones, for this account alone. It is deleted when it is dropped.
///
/// # Errors
///
/// If the system refuses.
pub fn private_folder(prefix: &str) -> std::io::Result<TempDir> {
    private_folder_in(&std::env::temp_dir(), prefix)
}

/// As [`private_folder`], in another folder than that of temporary files.
///
/// # Errors
///
/// If the system refuses.
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
