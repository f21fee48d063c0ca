//! One table of the file, with the context for its error messages.
//!
//! Owns: reading values from it, and rejecting unknown keys. Must not know: which keys exist.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::ConfigFileError;
use elastic_client::{SecretSource, nearest};

const PASSWORD: (&str, &str) = ("password_env or password_file", "basic");
const API_KEY: (&str, &str) = ("key_env or key_file", "api_key");
const TOKEN: (&str, &str) = ("token_env or token_file", "bearer");
/// Keys under which users write the secret itself, each with the keys to use instead.
const INLINE_SECRETS: &[(&str, (&str, &str))] = &[
    ("password", PASSWORD),
    ("passwd", PASSWORD),
    ("pass", PASSWORD),
    ("secret", PASSWORD),
    ("api_key", API_KEY),
    ("apikey", API_KEY),
    ("key", API_KEY),
    ("token", TOKEN),
    ("bearer", TOKEN),
];

/// Returns the line and the column of a byte of `text`, both from 1.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// One table of the file, with the context for its error messages.
pub(super) struct Table<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    /// The dotted path; empty for the top level of the file.
    pub(super) name: String,
    pub(super) entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// Checks that all keys are known. For a key of a secret, the error says where secrets belong.
    pub(super) fn check_keys(&self, known: &[&str]) -> Result<(), ConfigFileError> {
        self.refuse_inline_secrets()?;
        self.check_plain_keys(known)
    }

    /// Checks that all keys are known, in a table without secrets.
    pub(super) fn check_plain_keys(&self, known: &[&str]) -> Result<(), ConfigFileError> {
        for key in self.entries.keys() {
            let key = key.get_ref().as_ref();
            if !known.contains(&key) {
                return Err(ConfigFileError::UnknownKey {
                    file: self.file.to_owned(),
                    key: key.to_owned(),
                    table: self.to_string(),
                    nearest: nearest(key, known.iter().copied()),
                    known: known.iter().map(|&known| known.to_owned()).collect(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn refuse_inline_secrets(&self) -> Result<(), ConfigFileError> {
        for (key, value) in self.entries.iter() {
            let lower = key.get_ref().to_lowercase().replace('-', "_");
            let Some((_, (instead, auth_type))) = INLINE_SECRETS.iter().find(|(name, _)| *name == lower)
            else {
                continue;
            };
            return Err(ConfigFileError::InlineSecret {
                file: self.file.to_owned(),
                line: self.line(value.span()),
                key: key.get_ref().to_string(),
                table: self.to_string(),
                instead,
                auth_type,
            });
        }
        Ok(())
    }

    /// Returns the value of `key` after `read`. If `read` returns `None`, the error names the expected value.
    pub(super) fn take<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Result<Option<T>, ConfigFileError> {
        let Some(value) = self.entries.get(key) else {
            return Ok(None);
        };
        match read(value.get_ref()) {
            Some(taken) => Ok(Some(taken)),
            None => Err(self.invalid_at(key, value.span(), expected.to_owned())),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, ConfigFileError> {
        self.take(key, "a text that is not empty", |value| {
            value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
        })
    }

    /// Returns a path. A relative one starts at the folder of the file.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigFileError> {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        Ok(self.text(key)?.map(|path| folder.join(path)))
    }

    pub(super) fn table(&self, key: &str) -> Result<Option<Table<'a>>, ConfigFileError> {
        self.take(key, "a table", |value| self.inner(key, value))
    }

    /// Returns the value of `key` as a table, if it is one.
    pub(super) fn inner(&self, key: &str, value: &'a DeValue<'a>) -> Option<Table<'a>> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{}", self.name, bare(key)) };
        value.as_table().map(|entries| Table { file: self.file, text: self.text, name, entries })
    }

    pub(super) fn required_table(&self, key: &str) -> Result<Table<'a>, ConfigFileError> {
        self.table(key)?.ok_or_else(|| self.missing(&format!("{key:?}")))
    }

    pub(super) fn secret(
        &self,
        env_key: &'static str,
        file_key: &'static str,
    ) -> Result<SecretSource, ConfigFileError> {
        // A user may write the secret itself here. It must not appear in a message about a variable that is not
        // set.
        let variable = self.take(env_key, "the name of an environment variable", |value| {
            value.as_str().filter(|name| is_variable_name(name)).map(str::to_owned)
        })?;
        match (variable, self.path(file_key)?) {
            (Some(variable), None) => Ok(SecretSource::Env(variable)),
            (None, Some(path)) => Ok(SecretSource::File(path)),
            (None, None) => Err(self.missing(&format!("{env_key:?} or {file_key:?}"))),
            (Some(_), Some(_)) => Err(self.conflict(env_key, file_key)),
        }
    }

    pub(super) fn conflict(&self, first: &'static str, second: &'static str) -> ConfigFileError {
        ConfigFileError::Conflict { file: self.file.to_owned(), table: self.to_string(), first, second }
    }

    pub(super) fn missing(&self, needed: &str) -> ConfigFileError {
        ConfigFileError::MissingKey {
            file: self.file.to_owned(),
            table: self.to_string(),
            needed: needed.to_owned(),
        }
    }

    pub(super) fn invalid_at(&self, key: &str, span: Range<usize>, expected: String) -> ConfigFileError {
        ConfigFileError::InvalidValue {
            file: self.file.to_owned(),
            line: self.line(span),
            key: key.to_owned(),
            table: self.to_string(),
            expected,
        }
    }

    pub(super) fn line(&self, span: Range<usize>) -> usize {
        position(self.text, span.start).0
    }
}

impl std::fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() { f.write_str("the top level") } else { write!(f, "[{}]", self.name) }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Returns a key in the form that TOML requires in a dotted path.
fn bare(key: &str) -> String {
    if key.contains('.') { format!("{key:?}") } else { key.to_owned() }
}
