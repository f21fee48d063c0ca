//! Reasons why a detection cannot decide.
//!
//! Owns: the conditions and the messages. Must not know: how they are printed.
//!
//! Of n counts, none can lie more than √(n − 1) population standard deviations above their mean. So a threshold of k
//! standard deviations decides nothing unless n − 1 > k².

use std::fmt;

use crate::detection::{ColumnStatistics, Detection, Direction};
use crate::sigma::Sigma;

/// A reason why a detection without findings does not mean that all addresses are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// No count can lie as far above the mean as the threshold, because there are too few addresses.
    TooFewAddresses {
        /// The number of addresses, at least one.
        addresses: u64,
        /// The threshold.
        sigma: Sigma,
    },
    /// All counts of a direction are equal.
    NoSpread {
        /// The direction.
        direction: Direction,
        /// The number of addresses.
        addresses: u64,
        /// The count of each of them.
        count: u64,
    },
}

impl Warning {
    /// Returns a stable name for programs, which does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooFewAddresses { .. } => "too_few_addresses",
            Self::NoSpread { .. } => "no_spread",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewAddresses { addresses: 1, sigma } => write!(
                f,
                "{sigma} standard deviations cannot decide with 1 address: its count is the mean; \
                 widen the time range"
            ),
            Self::TooFewAddresses { addresses, sigma } => {
                // Rounded down, so that every threshold below the printed one can decide.
                let max = ((*addresses as f64 - 1.0).sqrt() * 1000.0).floor() / 1000.0;
                write!(
                    f,
                    "{sigma} standard deviations cannot decide with {addresses} addresses: none of \
                     {addresses} counts can lie more than {max} above their mean; widen the time \
                     range, or lower sigma below {max}"
                )
            }
            Self::NoSpread { direction, addresses, count } => {
                let direction = match direction {
                    Direction::Outgoing => "outgoing",
                    Direction::Incoming => "incoming",
                };
                write!(
                    f,
                    "no address can stand out by its {direction} flows: each of the {addresses} \
                     addresses has {count}, so the standard deviation is 0"
                )
            }
        }
    }
}

impl Detection {
    /// Returns the reasons why `sigma` cannot decide on these counts. There are none if there are no addresses at all.
    pub fn warnings(&self, sigma: Sigma) -> Vec<Warning> {
        let addresses = self.statistics.outgoing.count;
        if addresses == 0 {
            return Vec::new();
        }
        if !can_decide(addresses, sigma) {
            return vec![Warning::TooFewAddresses { addresses, sigma }];
        }
        let columns = [
            (Direction::Outgoing, &self.statistics.outgoing),
            (Direction::Incoming, &self.statistics.incoming),
        ];
        columns.into_iter().filter_map(|(direction, column)| no_spread(direction, column)).collect()
    }
}

/// Returns whether n − 1 > k², computed in integers: k is a fraction of at most 10⁹ over at least 1.
fn can_decide(addresses: u64, sigma: Sigma) -> bool {
    let (numerator, denominator) = (u128::from(sigma.numerator()), u128::from(sigma.denominator()));
    (u128::from(addresses) - 1) * denominator * denominator > numerator * numerator
}

fn no_spread(direction: Direction, column: &ColumnStatistics) -> Option<Warning> {
    let count = column.max.filter(|_| column.max == column.min)?;
    Some(Warning::NoSpread { direction, addresses: column.count, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::Statistics;

    fn detection(addresses: u64, outgoing: (u64, u64), incoming: (u64, u64)) -> Detection {
        let column = |(min, max)| ColumnStatistics {
            count: addresses,
            mean: Some(1.0),
            stddev: Some(1.0),
            max: Some(max),
            min: Some(min),
        };
        Detection {
            findings: Vec::new(),
            statistics: Statistics { outgoing: column(outgoing), incoming: column(incoming) },
        }
    }

    fn codes(addresses: u64, sigma: &str) -> Vec<&'static str> {
        let warnings = detection(addresses, (0, 9), (0, 9)).warnings(sigma.parse().unwrap());
        warnings.iter().map(Warning::code).collect()
    }

    #[test]
    fn too_few_addresses_are_those_of_which_none_can_stand_out() {
        for (sigma, max) in [("3", 10), ("2.5", 7), ("1", 2), ("0.000001", 1), ("1000", 1_000_001)] {
            assert_eq!(codes(max, sigma), ["too_few_addresses"], "{max} of {sigma}");
            assert!(codes(max + 1, sigma).is_empty(), "{} of {sigma}", max + 1);
        }
        assert!(codes(u64::MAX, "1000").is_empty());
        assert!(codes(0, "3").is_empty());
    }

    #[test]
    fn a_direction_without_spread_is_named() {
        let warnings = detection(26, (0, 1), (7, 7)).warnings("3".parse().unwrap());
        let said: Vec<_> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(
            said,
            ["no address can stand out by its incoming flows: each of the 26 addresses has 7, so the \
              standard deviation is 0"]
        );
        assert_eq!(detection(26, (1, 1), (0, 0)).warnings("3".parse().unwrap()).len(), 2);
    }

    #[test]
    fn a_message_says_what_could_decide() {
        let said = |addresses, sigma: &str| {
            detection(addresses, (0, 9), (0, 9)).warnings(sigma.parse().unwrap())[0].to_string()
        };
        assert_eq!(
            said(8, "3"),
            "3 standard deviations cannot decide with 8 addresses: none of 8 counts can lie more than \
             2.645 above their mean; widen the time range, or lower sigma below 2.645"
        );
        assert!(said(1, "3").contains("with 1 address"), "{}", said(1, "3"));
    }
}
