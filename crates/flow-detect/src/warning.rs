//! Reasons why a detection cannot decide, or decides less than it seems to.
//!
//! Owns: the conditions and the messages. Must not know: how they are printed.
//!
//! Of n counts, none can lie more than √(n − 1) population standard deviations above their mean. So a threshold of k
//! standard deviations decides nothing unless n − 1 > k².
//!
//! A sample draws each document with the same probability p. So of C flows it holds a binomial number c, and c/p estimates
//! C with a relative standard error of about √((1 − p)/c).

use std::collections::BTreeSet;
use std::fmt;

use crate::detection::{ColumnStatistics, Detection, Direction, Finding, Statistics};
use crate::sigma::Sigma;

/// The greatest number of times that findings are taken out of the counts, to decide again over the rest.
pub const MAX_PEEL: u32 = 10;

/// The relative standard error above which a count of a sample is noisy.
const NOISY: f64 = 0.1;

/// A reason why the findings do not say all: an address may stand out without being found, or be found by chance.
#[derive(Debug, Clone, PartialEq)]
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
    /// Only a share of the documents was read, and the smallest count that stands out is too small for it.
    NoisySample {
        /// The direction.
        direction: Direction,
        /// The share of the documents that was read, below 1.
        share: f64,
        /// The smallest count that stands out, or would if an address had it.
        count: u64,
        /// The number of findings whose count is noisy too.
        findings: usize,
    },
    /// Addresses stand out as soon as those found are taken out of the counts.
    Masking {
        /// The number of these addresses.
        hidden: usize,
        /// How many times findings were taken out already.
        peel: u32,
    },
}

impl Warning {
    /// Returns the warning that the findings hide others: `hidden` are the findings of one round more, after findings
    /// were taken out `peel` times. None if nothing is hidden.
    pub fn masking(hidden: &[Finding], peel: u32) -> Option<Self> {
        let addresses: BTreeSet<&str> = hidden.iter().map(|finding| finding.address.as_str()).collect();
        (!addresses.is_empty()).then_some(Self::Masking { hidden: addresses.len(), peel })
    }

    /// Returns a stable name for programs, which does not change with the message.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooFewAddresses { .. } => "too_few_addresses",
            Self::NoSpread { .. } => "no_spread",
            Self::NoisySample { .. } => "noisy_sample",
            Self::Masking { .. } => "masking",
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
            Self::NoSpread { direction, addresses, count } => write!(
                f,
                "no address can stand out by its {direction} flows: each of the {addresses} \
                 addresses has {count}, so the standard deviation is 0"
            ),
            Self::NoisySample { direction, share, count, findings } => {
                let percent = 100.0 * relative_error(*share, *count);
                write!(
                    f,
                    "the sample makes {direction} counts noisy: the smallest that stands out is {count} in a share of \
                     {share}, so the number of all flows has a relative standard error of {percent:.1} %; "
                )?;
                let limit = 100.0 * NOISY;
                match findings {
                    0 => {}
                    1 => write!(f, "it is above {limit} % for 1 finding; ")?,
                    _ => write!(f, "it is above {limit} % for {findings} findings; ")?,
                }
                f.write_str("read a greater share")
            }
            Self::Masking { hidden, peel } => {
                match peel {
                    0 => f.write_str("the addresses found hide others: without them, ")?,
                    _ => write!(f, "the addresses found in {} rounds hide others: without them, ", peel + 1)?,
                }
                match hidden {
                    1 => f.write_str("1 more address stands out")?,
                    _ => write!(f, "{hidden} more addresses stand out")?,
                }
                match peel {
                    0 => f.write_str("; find more with --peel, or peel in [detection] of a job"),
                    1..MAX_PEEL => {
                        f.write_str("; find more with a greater --peel, or peel in [detection] of a job")
                    }
                    _ => Ok(()),
                }
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

    /// Returns the directions in which a sample of `share` of the documents makes counts noisy: the smallest count that
    /// can be found has a relative standard error above 10 %. A count below `minimum_count` cannot be found. There are
    /// none if `sigma` cannot decide.
    pub fn sample_warnings(&self, sigma: Sigma, share: f64, minimum_count: u64) -> Vec<Warning> {
        let Statistics { outgoing, incoming } = &self.statistics;
        if outgoing.count == 0 || !can_decide(outgoing.count, sigma) {
            return Vec::new();
        }
        let is_noisy = |count| relative_error(share, count) > NOISY;
        let columns = [(Direction::Outgoing, outgoing), (Direction::Incoming, incoming)];
        let warning = |(direction, column)| {
            let found = || self.findings.iter().filter(|f| f.direction == direction).map(Finding::count);
            let threshold = smallest_count(column, sigma)?.max(minimum_count);
            // The threshold of a later round is smaller.
            let count = found().fold(threshold, u64::min);
            let findings = found().filter(|count| is_noisy(*count)).count();
            is_noisy(count).then_some(Warning::NoisySample { direction, share, count, findings })
        };
        columns.into_iter().filter_map(warning).collect()
    }
}

/// Returns the relative standard error of a number of flows that is estimated from `count` of them in a sample.
fn relative_error(share: f64, count: u64) -> f64 {
    ((1.0 - share).max(0.0) / count as f64).sqrt()
}

/// Returns the smallest count that stands out. It is only shown: the decision itself is exact. None if all counts are
/// equal, because then no count stands out.
fn smallest_count(column: &ColumnStatistics, sigma: Sigma) -> Option<u64> {
    let (mean, stddev) = (column.mean?, column.stddev?);
    if column.max == column.min {
        return None;
    }
    let sigma = sigma.numerator() as f64 / sigma.denominator() as f64;
    Some((mean + sigma * stddev).floor() as u64 + 1)
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

    fn finding(address: &str, outgoing: u64) -> Finding {
        Finding {
            address: address.to_owned(),
            direction: Direction::Outgoing,
            outgoing,
            incoming: 0,
            mean: 1.0,
            stddev: 1.0,
            z: 9.0,
            round: None,
        }
    }

    fn noisy(share: f64, mean: f64, minimum_count: u64, found: &[u64]) -> Vec<String> {
        // Only outgoing counts have a spread.
        let mut detection = detection(1000, (0, 5000), (1, 1));
        detection.statistics.outgoing.mean = Some(mean);
        detection.findings = found.iter().map(|count| finding("a", *count)).collect();
        let warnings = detection.sample_warnings("3".parse().unwrap(), share, minimum_count);
        assert!(warnings.iter().all(|warning| warning.code() == "noisy_sample"));
        warnings.iter().map(Warning::to_string).collect()
    }

    #[test]
    fn a_sample_is_noisy_if_the_smallest_count_that_can_be_found_is_small() {
        // The standard deviation is 1, so a mean of 46 has the threshold 49, and the smallest count above it is 50.
        // Its relative standard error √(0.5/50) is exactly 10 %.
        assert!(noisy(0.5, 46.0, 0, &[]).is_empty());
        assert_eq!(
            noisy(0.5, 45.0, 0, &[]),
            [
                "the sample makes outgoing counts noisy: the smallest that stands out is 49 in a share of 0.5, so the \
              number of all flows has a relative standard error of 10.1 %; read a greater share"
            ]
        );
        let said = noisy(0.01, 21.0, 0, &[30, 98, 100]).remove(0);
        assert!(said.contains(" is 25 in a share of 0.01, "), "{said}");
        assert!(said.contains(" of 19.9 %; it is above 10 % for 2 findings; "), "{said}");
        // A finding of a later round.
        let said = noisy(0.01, 1000.0, 0, &[5000, 4]).remove(0);
        assert!(said.contains(" is 4 in a share of 0.01, "), "{said}");
        assert!(said.contains(" for 1 finding; "), "{said}");
        assert!(noisy(0.01, 21.0, 100, &[]).is_empty());
        assert_eq!(noisy(0.01, 21.0, 98, &[]).len(), 1);
        for share in [1.0, 1.5] {
            assert!(noisy(share, 0.0, 0, &[4]).is_empty());
        }
        assert!(detection(10, (0, 9), (0, 9)).sample_warnings("3".parse().unwrap(), 0.01, 0).is_empty());
        assert_eq!(detection(11, (0, 9), (0, 9)).sample_warnings("3".parse().unwrap(), 0.01, 0).len(), 2);
    }

    #[test]
    fn masking_names_the_number_of_hidden_addresses_and_the_option() {
        let hidden = [finding("a", 1), finding("b", 1), finding("a", 2)];
        let said = |peel| Warning::masking(&hidden, peel).unwrap().to_string();
        assert_eq!(
            said(0),
            "the addresses found hide others: without them, 2 more addresses stand out; find more with --peel, or peel \
             in [detection] of a job"
        );
        assert!(said(1).starts_with("the addresses found in 2 rounds hide others: "), "{}", said(1));
        assert!(said(9).ends_with("find more with a greater --peel, or peel in [detection] of a job"));
        assert!(said(MAX_PEEL).ends_with("2 more addresses stand out"));
        let one = Warning::masking(&hidden[..1], 0).unwrap();
        assert!(one.to_string().contains("1 more address stands out"));
        assert_eq!(one.code(), "masking");
        assert_eq!(Warning::masking(&[], 0), None);
    }
}
