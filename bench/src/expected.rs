//! What a detection over generated flows must find, counted without a server.
//!
//! Owns: the counts of the addresses of evenly distributed flows, and their statistics. Must not know: how an index is
//! read.

use crate::flows::{Addresses, Flows};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

/// The options of `expected`.
#[derive(Args)]
pub(crate) struct Expected {
    /// Number of documents, as of `generate`
    #[arg(long)]
    documents: u64,
    /// Number of addresses that flows are distributed over, as of `generate`
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    addresses: u32,
    /// Seed of the documents
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many standard deviations above the mean a finding lies
    #[arg(long, default_value_t = 3.0)]
    sigma: f64,
}

impl Expected {
    /// Returns the number of addresses, and for each direction the sum, the greatest count and the number of findings.
    pub(crate) fn run(&self) -> Result<Value> {
        let flows = Flows {
            addresses: Addresses::Uniform(self.addresses),
            documents: self.documents,
            seed: self.seed,
        };
        let mut sources = vec![0_u64; self.addresses as usize];
        let mut destinations = sources.clone();
        for number in 0..self.documents {
            let (source, destination) = flows.places(number);
            sources[source as usize] += 1;
            destinations[destination as usize] += 1;
        }
        // Sources and destinations have different addresses.
        let distinct = |counts: &[u64]| counts.iter().filter(|count| **count > 0).count();
        let all = (distinct(&sources) + distinct(&destinations)) as f64;
        let direction = |counts: &[u64]| {
            let sum: u64 = counts.iter().sum();
            let squares: u64 = counts.iter().map(|count| count * count).sum();
            let mean = sum as f64 / all;
            let deviation = ((squares as f64 - mean * sum as f64) / (all - 1.0)).sqrt();
            let bound = mean + self.sigma * deviation;
            json!({
                "sum": sum,
                "max": counts.iter().max(),
                "findings": counts.iter().filter(|count| **count as f64 > bound).count(),
            })
        };
        Ok(json!({
            "addresses": all as u64,
            "outgoing": direction(&sources),
            "incoming": direction(&destinations),
        }))
    }
}
