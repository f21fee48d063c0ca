//! `flowsigma detect`.
//!
//! Owns: from arguments to findings. Must not know: how they are computed.

use crate::Format;
use anyhow::{Context, bail};
use ballista_elasticsearch::{embedded_context, remote_context};
use clap::Args;
use comfy_table::Table;
use datafusion::catalog::TableProvider;
use datafusion_elasticsearch::{EsTable, open_snapshots};
use elastic_client::{ConnectionConfig, ConnectionRegistry};
use flow_detect::{DetectSpec, Detection, Direction, Sigma, plan_sql, read_detection, validate};
use std::collections::HashMap;
use std::sync::Arc;

/// What is read, and how.
#[derive(Args)]
pub(crate) struct DetectArgs {
    /// A connection of the configuration
    #[arg(long, required_unless_present = "url", conflicts_with = "url", value_name = "NAME")]
    connection: Option<String>,
    /// A server without credentials; for the embedded cluster only
    #[arg(long, conflicts_with = "scheduler")]
    url: Option<String>,
    /// Index, pattern or alias
    #[arg(long)]
    index: String,
    /// Field with the time of a flow
    #[arg(long, default_value = "@timestamp", value_name = "FIELD")]
    time_field: String,
    /// Field with the source address
    #[arg(long, default_value = "netflow.ipv4_src_addr", value_name = "FIELD")]
    source_field: String,
    /// Field with the destination address
    #[arg(long, default_value = "netflow.ipv4_dst_addr", value_name = "FIELD")]
    destination_field: String,
    /// Begin of the time range: a length such as 30m, 1h, 7d before now, or a time such as
    /// 2026-01-01T00:00:00Z [default: 1h, or all where --query is given]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End of the time range, not included
    #[arg(long, default_value = "now", value_name = "TIME")]
    until: String,
    /// Base query: JSON, or a file with it
    #[arg(long, value_name = "FILE-or-JSON")]
    query: Option<String>,
    /// Share of the documents to read, above 0 and up to 1
    #[arg(long, value_name = "SHARE")]
    sample: Option<String>,
    /// Seed of the sample
    #[arg(long, requires = "sample")]
    seed: Option<i64>,
    /// How many standard deviations above the mean stand out
    #[arg(long, default_value = "3")]
    sigma: Sigma,
    /// Slices to read in [default: as many as shards]
    #[arg(long, value_name = "N")]
    slices: Option<u32>,
    /// Scheduler to submit to [default: a cluster inside this process]
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl DetectArgs {
    fn options(&self) -> anyhow::Result<HashMap<String, String>> {
        let mut options = HashMap::new();
        if let Some(query) = &self.query {
            let text = if query.trim_start().starts_with(['{', '?']) {
                query.clone()
            } else {
                std::fs::read_to_string(query).with_context(|| format!("--query {query}"))?
            };
            options.insert("query".to_owned(), text);
        }
        if let Some(sample) = &self.sample {
            options.insert("sample".to_owned(), sample.clone());
        }
        if let Some(seed) = self.seed {
            options.insert("seed".to_owned(), seed.to_string());
        }
        if let Some(slices) = self.slices {
            options.insert("slices".to_owned(), slices.to_string());
        }
        Ok(options)
    }

    fn spec(&self) -> anyhow::Result<DetectSpec> {
        let now = jiff::Timestamp::now().as_millisecond();
        let since = match (&self.since, &self.query) {
            (Some(text), _) => Some(time(text, now).context("--since")?),
            (None, None) => Some(now - 3_600_000),
            (None, Some(_)) => None,
        };
        let until = time(&self.until, now).context("--until")?;
        if since.is_some_and(|since| since >= until) {
            bail!("the time range is empty: --since is not before --until");
        }
        Ok(DetectSpec {
            table: "flows".into(),
            time_field: self.time_field.clone(),
            source_field: self.source_field.clone(),
            destination_field: self.destination_field.clone(),
            since,
            until: (since.is_some() || self.until != "now").then_some(until),
            sigma: self.sigma,
        })
    }
}

/// Milliseconds since 1970 of `now`, of a length before it, or of an RFC 3339 time.
fn time(text: &str, now: i64) -> anyhow::Result<i64> {
    if text == "now" {
        return Ok(now);
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_millisecond());
    }
    let unit = match text.chars().last() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => bail!("\"{text}\" is no time: write now, 30m, 1h, 7d or 2026-01-01T00:00:00Z"),
    };
    let length = text[..text.len() - 1].parse::<u32>().ok().and_then(|n| i64::from(n).checked_mul(unit));
    let Some(length) = length else {
        bail!("\"{text}\" is no time: write now, 30m, 1h, 7d or 2026-01-01T00:00:00Z");
    };
    Ok(now - length)
}

pub(crate) async fn run(args: DetectArgs, registry: Arc<ConnectionRegistry>) -> anyhow::Result<()> {
    let (spec, options) = (args.spec()?, args.options()?);
    let connection = match (&args.connection, &args.url) {
        (Some(name), _) => name.as_str(),
        (None, Some(url)) => {
            registry.insert("url", &ConnectionConfig::from_url(url)?)?;
            "url"
        }
        (None, None) => bail!("one of --connection and --url is needed"),
    };
    let table = EsTable::try_new(Arc::clone(&registry), connection, &args.index, &options).await?;
    validate(&table.schema(), &spec)?;
    let ctx = match &args.scheduler {
        Some(url) => remote_context(registry, url).await?,
        None => embedded_context(registry).await?,
    };
    ctx.register_table("flows", Arc::new(table))?;
    let plan = ctx.sql(&plan_sql(&spec)).await?.into_unoptimized_plan();
    let (plan, open) = open_snapshots(plan).await?;
    let (slices, snapshot) = (open.slices(), open.describe().unwrap_or_default());
    let answer = async { ctx.execute_logical_plan(plan).await?.collect().await }.await;
    // Closed in every case, but the query's own error goes before that of closing.
    let closed = open.close().await;
    let answer = answer?;
    closed?;
    let detection = read_detection(&answer)?;
    match args.format {
        Format::Json => println!(
            "{}",
            serde_json::json!({
                "findings": detection.findings,
                "statistics": detection.statistics,
                "coverage": { "slices": slices, "snapshot": snapshot },
            })
        ),
        Format::Table => print_tables(&detection, &format!("{slices} slices of {snapshot}, each read whole")),
    }
    Ok(())
}

fn print_tables(detection: &Detection, coverage: &str) {
    let statistics = &detection.statistics;
    if statistics.outgoing.count == 0 {
        println!("no matching document with an address ({coverage})");
        return;
    }
    let number = |n: f64| format!("{n:.9}");
    let mut table = Table::new();
    table.set_header(["address", "direction", "outgoing", "incoming", "z"]);
    for f in &detection.findings {
        let direction = match f.direction {
            Direction::Outgoing => "outgoing",
            Direction::Incoming => "incoming",
        };
        let (outgoing, incoming) = (f.outgoing.to_string(), f.incoming.to_string());
        table.add_row([f.address.clone(), direction.into(), outgoing, incoming, format!("{:.3}", f.z)]);
    }
    println!("{table}");
    let mut table = Table::new();
    table.set_header(["", "addresses", "mean", "stddev", "max", "min"]);
    for (name, column) in [("outgoing", &statistics.outgoing), ("incoming", &statistics.incoming)] {
        let whole = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
        let (mean, stddev) = (column.mean.map(number), column.stddev.map(number));
        table.add_row([
            name.to_owned(),
            column.count.to_string(),
            mean.unwrap_or_default(),
            stddev.unwrap_or_default(),
            whole(column.max),
            whole(column.min),
        ]);
    }
    println!("{table}\n{coverage}");
}
