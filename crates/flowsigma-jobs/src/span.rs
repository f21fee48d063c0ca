//! The text form of durations in job files.
//!
//! Owns: its units and bounds. Must not know: which key has the duration, or time zones.

use crate::error::Error;
use jiff::SignedDuration;
use std::fmt;
use std::str::FromStr;

/// Ten years. A longer duration is a mistake, and every shorter one can be added to the time of any flow.
const MAX_SECONDS: i64 = 3650 * 86_400;

/// A duration such as `90s`, `5m`, `1h`, `1d` or `1w`: a whole number of one unit, at most 3650 days. It is never
/// negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
}

impl Unit {
    fn from_letter(letter: char) -> Option<Self> {
        match letter {
            's' => Some(Self::Second),
            'm' => Some(Self::Minute),
            'h' => Some(Self::Hour),
            'd' => Some(Self::Day),
            'w' => Some(Self::Week),
            _ => None,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Second => 's',
            Self::Minute => 'm',
            Self::Hour => 'h',
            Self::Day => 'd',
            Self::Week => 'w',
        }
    }

    fn seconds(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
        }
    }
}

impl Span {
    /// Returns the length in seconds. A day counts 24 hours, and a week 7 such days.
    pub fn seconds(self) -> i64 {
        i64::from(self.count) * self.unit.seconds()
    }

    /// Returns the length as a duration that can be added to a timestamp. A day counts 24 hours.
    pub fn signed_duration(self) -> SignedDuration {
        SignedDuration::from_secs(self.seconds())
    }

    /// Returns the length as a duration of the standard library, such as a timeout has. A day counts 24 hours.
    pub fn duration(self) -> std::time::Duration {
        self.signed_duration().unsigned_abs()
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |problem| Error::Span { text: text.to_owned(), problem };
        let form = "use a whole number and a unit, such as 90s, 5m, 1h, 1d or 1w";
        let unit = text.chars().next_back().and_then(Unit::from_letter).ok_or_else(|| refuse(form))?;
        // `from_letter` accepts only letters of one byte.
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse(form));
        }
        let too_long = "it is longer than 3650d";
        let span = Self { count: digits.parse().map_err(|_| refuse(too_long))?, unit };
        if span.seconds() > MAX_SECONDS {
            return Err(refuse(too_long));
        }
        Ok(span)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit.letter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, seconds, shown) in [
            ("90s", 90, "90s"),
            ("5m", 300, "5m"),
            ("1h", 3600, "1h"),
            ("1d", 86_400, "1d"),
            ("1w", 604_800, "1w"),
            ("0s", 0, "0s"),
            ("007m", 420, "7m"),
            ("3650d", 315_360_000, "3650d"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.seconds(), seconds, "{text}");
            assert_eq!(span.duration().as_secs(), u64::try_from(seconds).unwrap(), "{text}");
            assert_eq!(span.to_string(), shown);
            assert_eq!(shown.parse::<Span>().unwrap(), span);
        }
    }

    #[test]
    fn another_text_is_refused_with_the_forms() {
        for text in
            ["", "5", "m", "-5m", "+5m", "5 m", "5min", "1.5h", "5M", "1y", "1h30m", "٣h", "5µ", "5ms"]
        {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "{text:?} is not a duration: use a whole number and a unit, such as 90s, 5m, 1h, 1d or 1w"
                )
            );
        }
        for text in ["3651d", "4294967295w", "99999999999999999999s"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not a duration: it is longer than 3650d"));
        }
    }
}
