//! The place of a secret, and reading the secret from there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::ConfigError;

/// The place of a secret. Logs and errors may show it, because it does not contain the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The environment variable of this name.
    Env(String),
    /// The file at this path. Line breaks at its end are not part of the secret.
    File(PathBuf),
}

impl SecretSource {
    /// Reads the secret.
    ///
    /// # Errors
    ///
    /// If the secret is missing, empty or not valid UTF-8. The error names the place.
    pub fn read(&self) -> Result<SecretString, ConfigError> {
        match self {
            Self::Env(variable) => from_variable(variable, std::env::var_os(variable)),
            Self::File(path) => from_file(path),
        }
    }
}

fn from_variable(variable: &str, value: Option<OsString>) -> Result<SecretString, ConfigError> {
    let unusable = |problem| ConfigError::VariableUnusable { variable: variable.to_owned(), problem };
    let Some(value) = value else {
        return Err(ConfigError::VariableUnset { variable: variable.to_owned() });
    };
    match value.into_string() {
        Ok(secret) if secret.is_empty() => Err(unusable("is empty")),
        Ok(secret) => Ok(secret.into()),
        Err(_) => Err(unusable("is not valid UTF-8")),
    }
}

fn from_file(path: &Path) -> Result<SecretString, ConfigError> {
    let mut secret = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::SecretFileUnreadable { path: path.to_owned(), source })?;
    secret.truncate(secret.trim_end_matches(['\r', '\n']).len());
    if secret.is_empty() {
        return Err(ConfigError::SecretFileEmpty { path: path.to_owned() });
    }
    Ok(secret.into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn variables_are_named_and_never_shown() {
        let secret = from_variable("ES_PASSWORD", Some("hunter2".into())).unwrap();
        assert_eq!(secret.expose_secret(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        let unset = SecretSource::Env("FLOWSIGMA_TEST_NEVER_SET".into()).read().unwrap_err().to_string();
        let expected =
            r#"environment variable "FLOWSIGMA_TEST_NEVER_SET", which should hold a secret, is not set"#;
        assert_eq!(unset, expected);
        let empty = from_variable("ES_PASSWORD", Some("".into())).unwrap_err().to_string();
        assert_eq!(empty, r#"environment variable "ES_PASSWORD", which should hold a secret, is empty"#);
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_no_text_is_not_shown() {
        use std::os::unix::ffi::OsStringExt;
        let value = OsString::from_vec(b"hunter2\xff".to_vec());
        let error = from_variable("ES_PASSWORD", Some(value)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn files_lose_their_line_breaks_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("flowsigma-secret-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("password");
        for (text, expected) in [("hunter2", "hunter2"), ("hunter2\r\n", "hunter2"), (" a b \n", " a b ")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(SecretSource::File(path.clone()).read().unwrap().expose_secret(), expected);
        }
        std::fs::write(&path, "\n").unwrap();
        let empty = SecretSource::File(path.clone()).read().unwrap_err().to_string();
        assert_eq!(empty, format!("secret file {path:?} is empty"));
        std::fs::remove_dir_all(&folder).unwrap();
        let missing = SecretSource::File(path.clone()).read().unwrap_err().to_string();
        assert!(missing.starts_with(&format!("cannot read secret file {path:?}: ")), "{missing}");
    }
}
