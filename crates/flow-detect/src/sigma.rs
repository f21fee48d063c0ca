//! The threshold as an exact fraction.
//!
//! Owns: its parsing and printing. Must not know: what it is compared with.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

const MAX_DECIMALS: usize = 6;
const SCALE: u64 = 10u64.pow(MAX_DECIMALS as u32);
const MAX: u64 = 1000;

/// The number of standard deviations above the mean: a positive decimal of at most 1000 with at most six decimals. It
/// is a reduced fraction, so that the decision needs integers alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sigma {
    numerator: u64,
    denominator: u64,
}

impl Sigma {
    /// Returns the numerator of the reduced fraction, at most 10⁹.
    pub fn numerator(&self) -> u64 {
        self.numerator
    }

    /// Returns the denominator of the reduced fraction, a divisor of 10⁶.
    pub fn denominator(&self) -> u64 {
        self.denominator
    }
}

impl FromStr for Sigma {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |reason| Err(Error::Sigma { text: text.to_owned(), reason });
        let (whole, decimals) = match text.split_once('.') {
            Some((_, "")) => return refuse("a decimal such as 3 or 2.5 is expected"),
            Some(parts) => parts,
            None => (text, ""),
        };
        if whole.is_empty() || !whole.bytes().chain(decimals.bytes()).all(|b| b.is_ascii_digit()) {
            return refuse("a positive decimal such as 3 or 2.5 is expected");
        }
        if decimals.len() > MAX_DECIMALS {
            return refuse("it has more than 6 decimals");
        }
        // The digits of the number times 10⁶. Parsing them fails only if the number does not fit into a u64.
        let Ok(scaled) = format!("{whole}{decimals:0<MAX_DECIMALS$}").parse::<u64>() else {
            return refuse("it is more than 1000");
        };
        if scaled == 0 {
            return refuse("it must be more than 0");
        }
        if scaled > MAX * SCALE {
            return refuse("it is more than 1000");
        }
        let divisor = greatest_common_divisor(scaled, SCALE);
        Ok(Self { numerator: scaled / divisor, denominator: SCALE / divisor })
    }
}

impl fmt::Display for Sigma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scaled = self.numerator * (SCALE / self.denominator);
        write!(f, "{}", scaled / SCALE)?;
        let decimals = format!("{:0MAX_DECIMALS$}", scaled % SCALE);
        let decimals = decimals.trim_end_matches('0');
        if decimals.is_empty() { Ok(()) } else { write!(f, ".{decimals}") }
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigma_is_an_exact_decimal() {
        for (text, numerator, denominator, shown) in [
            ("3", 3, 1, "3"),
            ("3.0", 3, 1, "3"),
            ("2.5", 5, 2, "2.5"),
            ("0.000001", 1, 1_000_000, "0.000001"),
            ("0012.050", 241, 20, "12.05"),
            ("1000", 1000, 1, "1000"),
            ("999.999999", 999_999_999, 1_000_000, "999.999999"),
        ] {
            let sigma: Sigma = text.parse().unwrap();
            assert_eq!((sigma.numerator(), sigma.denominator()), (numerator, denominator), "{text}");
            assert_eq!(sigma.to_string(), shown);
        }
        for text in [
            "",
            "0",
            "0.000000",
            "-1",
            "-0",
            "+3",
            "NaN",
            "inf",
            "1e2",
            "3.",
            ".5",
            "1.2.3",
            " 3",
            "3 ",
            "٣",
            "1000.000001",
            "1001",
            "0.0000001",
            "2.5000000",
            "99999999999999999999999",
        ] {
            let error = text.parse::<Sigma>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("sigma {text:?} is not usable: ")), "{error}");
        }
    }
}
