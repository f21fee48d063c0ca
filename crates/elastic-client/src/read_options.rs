//! The options of a read.
//!
//! Owns: the options, their bounds, and their text forms, from the user's text to a request. Must not know: tables,
//! plans, or how they are serialized.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// The error of an option with an invalid value. The message does not name the table or command that has the option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option} = \"{got}\" is {expected}")]
pub struct OptionError {
    /// The name of the option.
    pub option: &'static str,
    /// The invalid value.
    pub got: String,
    /// What is wrong with the value, as the end of a sentence: "none of auto, pit, scroll".
    pub expected: &'static str,
}

/// The options that hold for every request of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The kind of search context.
    pub mode: ReadMode,
    /// The most rows of a page.
    pub page_size: PageRows,
    /// How long the server keeps the search context after each page.
    pub keep_alive: KeepAlive,
}

/// The option `read`: the kind of search context for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// A point in time (PIT) if the server supports it, else scrolls.
    #[default]
    Auto,
    /// A PIT. The read fails if the server does not support it.
    Pit,
    /// Sliced scrolls. Each slice sees the state at the time when its scroll was opened.
    Scroll,
}

impl ReadMode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Pit, Self::Scroll];

    /// Returns the value of the option.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pit => "pit",
            Self::Scroll => "scroll",
        }
    }
}

impl FromStr for ReadMode {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| OptionError {
            option: "read",
            got: text.to_owned(),
            expected: "none of auto, pit, scroll",
        })
    }
}

/// The option `page_size`: the most rows of a page, from 1 to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageRows(NonZeroU32);

impl PageRows {
    /// The largest page that servers return by their default of
    /// [`index.max_result_window`](https://www.elastic.co/guide/en/elasticsearch/reference/8.8/index-modules.html).
    pub const MAX: Self = Self(NonZeroU32::new(10_000).expect("not 0"));

    /// Returns a page size of this many rows.
    ///
    /// # Errors
    ///
    /// If the number is not from 1 to 10,000.
    pub fn try_new(rows: u64) -> Result<Self, OptionError> {
        let number = u32::try_from(rows).ok().and_then(NonZeroU32::new);
        number.map(Self).filter(|rows| *rows <= Self::MAX).ok_or_else(|| Self::refused(&rows.to_string()))
    }

    /// Returns the number of rows.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    fn refused(got: &str) -> OptionError {
        let expected = "not a number from 1 to 10000, the most rows that servers return";
        OptionError { option: "page_size", got: got.to_owned(), expected }
    }
}

impl Default for PageRows {
    fn default() -> Self {
        Self::MAX
    }
}

impl FromStr for PageRows {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        text.parse().map_err(|_| Self::refused(text)).and_then(Self::try_new)
    }
}

/// The option `keep_alive`: how long the server keeps a search context after each page, from 1 s to 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeepAlive(Duration);

impl KeepAlive {
    const MAX_SECONDS: u64 = 86_400;

    /// Returns a time of this many milliseconds.
    ///
    /// # Errors
    ///
    /// If the time is less than 1 s or more than 24 h.
    pub fn from_millis(millis: u64) -> Result<Self, OptionError> {
        match (1_000..=Self::MAX_SECONDS * 1_000).contains(&millis) {
            true => Ok(Self(Duration::from_millis(millis))),
            false => Err(Self::refused(&format!("{millis}ms"))),
        }
    }

    /// Returns the time in milliseconds.
    pub fn as_millis(self) -> u64 {
        self.0.as_millis() as u64
    }

    /// Returns the time.
    pub fn get(self) -> Duration {
        self.0
    }

    fn refused(got: &str) -> OptionError {
        let expected = "not a time such as 30s, 5m, 1h, up to 24h";
        OptionError { option: "keep_alive", got: got.to_owned(), expected }
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self(Duration::from_secs(300))
    }
}

impl FromStr for KeepAlive {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let millis = match unit {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(Self::refused(text)),
        };
        let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(millis));
        millis.and_then(|millis| Self::from_millis(millis).ok()).ok_or_else(|| Self::refused(text))
    }
}

/// Prints the time as requests contain it: `300000ms`.
impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_errors_that_name_them() {
        let error = |e: OptionError| e.to_string();
        assert_eq!(
            "other".parse::<ReadMode>().map_err(error).unwrap_err(),
            "read = \"other\" is none of auto, pit, scroll"
        );
        let pages = "page_size = \"0\" is not a number from 1 to 10000, the most rows that servers return";
        assert_eq!(PageRows::try_new(0).map_err(error).unwrap_err(), pages);
        for text in ["0", "10001", "4294967297", "-1", "", "ten"] {
            assert!(text.parse::<PageRows>().is_err(), "{text}");
        }
        assert_eq!(("1".parse(), "10000".parse()), (PageRows::try_new(1), Ok(PageRows::MAX)));
        assert_eq!(
            KeepAlive::from_millis(999).map_err(error).unwrap_err(),
            "keep_alive = \"999ms\" is not a time such as 30s, 5m, 1h, up to 24h"
        );
        for text in ["0s", "25h", "5", "5d", "m", "", "18446744073709551615h"] {
            assert!(text.parse::<KeepAlive>().is_err(), "{text}");
        }
        assert_eq!("24h".parse(), KeepAlive::from_millis(86_400_000));
        assert_eq!("5m".parse::<KeepAlive>().unwrap().to_string(), "300000ms");
        assert_eq!(KeepAlive::from_millis(1_500).unwrap().to_string(), "1500ms");
    }
}
