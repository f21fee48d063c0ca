//! Loads flows into a server, and measures how fast the server answers without Flowsigma.
//!
//! Owns: the command line, and the output as one line of JSON. Must not know: Arrow, DataFusion, Ballista, or the
//! programs of Flowsigma, which `bench/run` measures.

mod aggregate_bound;
mod bound;
mod delay;
mod expected;
mod flows;
mod generate;
mod index;
mod slices;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "flowsigma-bench", about = "Loads flows and measures the bounds of a server")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create an index of flows, the same for the same seed
    Generate(generate::Generate),
    /// Read every slice of an index at once, and throw the pages away
    Bound(bound::Bound),
    /// Count both address fields by aggregations alone, without the server's request cache
    AggregateBound(aggregate_bound::AggregateBound),
    /// Count what a detection over evenly distributed flows must find, without a server
    Expected(expected::Expected),
    /// Forward requests, and delay each page of a search
    Delay(delay::Delay),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let output = match Arguments::parse().command {
        Command::Generate(generate) => generate.run().await?,
        Command::Bound(bound) => bound.run().await?,
        Command::AggregateBound(bound) => bound.run().await?,
        Command::Expected(expected) => expected.run()?,
        Command::Delay(delay) => return delay.run().await,
    };
    println!("{output}");
    Ok(())
}
