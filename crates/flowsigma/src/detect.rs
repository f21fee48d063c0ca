//! `flowsigma detect` and `flowsigma plan`: the same arguments, run or shown.
//!
//! Owns: turning arguments into a statement, and its rows into findings. Must not know: how the rows are computed, or
//! how findings are printed.

use crate::counts::{Counts, Decided};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::kept::{self, NewWindow};
use crate::output::{Format, print};
use crate::pairs::PairsFile;
use crate::report::{Coverage, Limits, Report};
use crate::run::{Runner, open_unless_interrupted};
use crate::scope::{Fields, Scope, Window, show_bound};
use crate::source::{Source, TABLE, name_and_value};
use crate::time::{Zone, parse_bound, show_time};
use anyhow::{Context, bail};
use ballista_elasticsearch::{Cluster, session_config, session_state};
use clap::Args;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionContext;
use datafusion_elasticsearch::EsScanExec;
use elastic_client::{ConnectionRegistry, ContextKind};
use flow_detect::{DetectSpec, MAX_PEEL, Sigma, counts_sql, pairs_sql, plan_sql, read_detection, validate};
use flowsigma_jobs::{Store, WindowTimes};
use flowsigma_node::Config;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const HOUR: i64 = 3_600_000;

/// The arguments of `flowsigma detect` and `flowsigma plan`.
#[derive(Args)]
pub(crate) struct DetectArgs {
    #[command(flatten)]
    source: Source,
    /// Field with the time of a flow
    #[arg(long, default_value = "@timestamp", value_name = "FIELD")]
    time_field: String,
    /// Field with the source address
    #[arg(long, default_value = "netflow.ipv4_src_addr", value_name = "FIELD")]
    source_field: String,
    /// Field with the destination address
    #[arg(long, default_value = "netflow.ipv4_dst_addr", value_name = "FIELD")]
    destination_field: String,
    /// Begin of the time range: a length before --until such as 90s, 30m, 1h, 7d, 2w, 3M (months) or
    /// 1y; a time such as 2026-01-01T00:00:00Z, UTC if it has no zone; a date, which means its first
    /// instant; now; or all [default: 1h; all if --query or --file is given]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End of the time range, exclusive, in the form of --since; a length counts back from now
    /// [default: now; all if there is no --since]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Condition in SQL on the flows to count, such as "src_addr_space = 'private'"
    #[arg(long, value_name = "SQL")]
    filter: Option<String>,
    /// Number of standard deviations above the mean from which an address stands out
    #[arg(long, default_value = "3", allow_negative_numbers = true)]
    sigma: Sigma,
    /// Take the addresses found out of the counts and decide again over the rest, up to N times: a very
    /// great count hides smaller ones. This process then holds the counts of all addresses
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_PEEL)))]
    peel: u32,
    /// Scheduler to submit to, such as http://scheduler.example:50050 [default: a cluster inside
    /// this process]. plan only checks that the scheduler responds
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// Keep the counts of each address in a store, for detect --from-store: file:///path,
    /// s3://bucket/path, gs://bucket/path or az://container/path. Needs --since or --until
    #[arg(long, value_name = "URL", conflicts_with = "from_store")]
    store: Option<String>,
    /// Keep also the pairs of source and destination, with flows, first and last time. They are read
    /// by a second statement, so documents that arrive in between are only in the pairs
    #[arg(long, requires = "store")]
    pairs: bool,
    /// An option of the object store, such as region=eu-central-1; repeatable. Credentials come from
    /// the environment
    #[arg(long = "store-option", value_name = "NAME=VALUE", value_parser = name_and_value)]
    store_options: Vec<(String, String)>,
    /// The name under which counts are in the store [default: detect to keep, the only one to read]
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl DetectArgs {
    fn spec(&self) -> anyhow::Result<DetectSpec> {
        let now = jiff::Timestamp::now().as_millisecond();
        let until = self.until.as_deref().map(|text| bound("--until", text, now, now)).transpose()?;
        let end = until.flatten().unwrap_or(now);
        let since = match &self.since {
            Some(text) => bound("--since", text, now, end)?,
            None if self.source.is_narrowed() => None,
            None => Some(end - HOUR),
        };
        let until = match until {
            Some(until) => until,
            None => since.is_some().then_some(now),
        };
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            let (since, until) = (show_time(since), show_time(until));
            bail!("the time range is empty: --since, {since}, is not before --until, {until}");
        }
        Ok(DetectSpec {
            table: TABLE.into(),
            time_field: self.time_field.clone(),
            source_field: self.source_field.clone(),
            destination_field: self.destination_field.clone(),
            since,
            until,
            filter: self.filter.clone(),
            sigma: self.sigma,
        })
    }

    /// Returns the statement that is run on the cluster: the counts alone if they are kept or decided several times.
    fn statement(&self, spec: &DetectSpec) -> String {
        if self.store.is_some() || self.peel > 0 { counts_sql(spec) } else { plan_sql(spec) }
    }

    fn limits(&self, share: Option<f64>) -> Limits {
        Limits { sigma: self.sigma, share, minimum_count: 0 }
    }

    /// Returns the scope of `spec` and the source, for the report.
    fn scope(&self, spec: &DetectSpec) -> anyhow::Result<Scope> {
        let window = match (&self.since, spec.since) {
            (None, Some(_)) => Window::Default,
            (Some(_), _) | (None, None) => Window::Asked,
        };
        Ok(Scope {
            place: self.source.place(),
            since: show_bound(spec.since),
            until: show_bound(spec.until),
            filter: spec.filter.clone(),
            sigma: serde_json::from_str(&spec.sigma.to_string())?,
            peel: self.peel,
            fields: Fields {
                time: spec.time_field.clone(),
                source: spec.source_field.clone(),
                destination: spec.destination_field.clone(),
            },
            window,
        })
    }
}

/// Reads a bound of the time range, in milliseconds since the epoch. None means no bound.
fn bound(option: &'static str, text: &str, now: i64, end: i64) -> anyhow::Result<Option<i64>> {
    let bound = parse_bound(text, now, end).context(option)?;
    if let (Zone::Assumed, Some(at)) = (bound.zone, bound.at) {
        eprintln!("{option}: \"{text}\" has no zone and is read as UTC, {}", show_time(at));
    }
    Ok(bound.at)
}

/// Finds the addresses that stand out, and prints them.
pub(crate) async fn detect(
    mut args: DetectArgs,
    config: &Config,
    registry: Arc<ConnectionRegistry>,
    interrupt: Interrupt,
) -> Result<(), Failure> {
    let spec = args.spec()?;
    args.source.settle()?;
    if let Some(url) = args.source.kept_counts() {
        let store = kept::open(url, &args.store_options)?;
        return detect_kept(&args, &spec, &store).await;
    }
    let keeps = args.store.as_deref().map(|url| kept::open(url, &args.store_options)).transpose()?;
    let window = keeps.as_ref().map(|_| window_of(&spec)).transpose()?;
    let runner = Runner::start(Arc::clone(&registry), config, args.scheduler.as_deref(), interrupt).await?;
    let context = runner.cluster().context();
    let (_, schema) = args.source.create_table(&registry, context, TABLE, &spec.time_field).await?;
    check_fields(&schema, &spec)?;
    let plan = context.sql(&args.statement(&spec)).await?.into_unoptimized_plan();
    let mut rows = Vec::new();
    let done = runner
        .run(plan, &mut |batch: RecordBatch| {
            rows.push(batch);
            Ok(())
        })
        .await?;
    let coverage = Coverage::of(&done, args.source.is_index()).map_err(Failure::running)?;
    let scope = args.scope(&spec)?;
    let limits = args.limits(args.source.share());
    let (Some(store), Some(window)) = (keeps, window) else {
        let decided = if args.peel > 0 {
            Counts::of(&rows).map_err(Failure::running)?.decide(args.sigma, args.peel).await
        } else {
            read_detection(&rows).map(Decided::from).map_err(anyhow::Error::from)
        };
        let report = Report::new(decided.map_err(Failure::running)?, coverage, scope, &limits);
        return report.print(args.format).map_err(Failure::running);
    };
    let pairs = if args.pairs { Some(read_pairs(&args, &runner, &spec).await?) } else { None };
    let counts = Counts::of(&rows).map_err(Failure::running)?;
    let kept = async {
        let kept =
            NewWindow { times: window, documents: coverage.documents(), counts: counts.to_parquet()?, pairs };
        let report = Report::new(counts.decide(args.sigma, args.peel).await?, coverage, scope, &limits);
        keep(&args, &store, kept, report).await
    };
    kept.await.map_err(Failure::running)
}

/// Reads the pairs on the cluster, and returns them as a Parquet file.
async fn read_pairs(args: &DetectArgs, runner: &Runner, spec: &DetectSpec) -> Result<Vec<u8>, Failure> {
    let plan = runner.cluster().context().sql(&pairs_sql(spec)).await?.into_unoptimized_plan();
    let mut file = PairsFile::try_new().map_err(Failure::running)?;
    let done = runner.run(plan, &mut |batch: RecordBatch| file.push(&batch)).await?;
    // They are complete, or this is an error.
    Coverage::of(&done, args.source.is_index()).map_err(Failure::running)?;
    file.finish().map_err(Failure::running)
}

/// Keeps a window in the store, and prints the findings.
async fn keep(args: &DetectArgs, store: &Store, kept: NewWindow, report: Report) -> anyhow::Result<()> {
    let job = args.job.as_deref().unwrap_or("detect");
    let json = serde_json::to_value(&report)?;
    let kept = kept::keep(store, job, kept, report.detection(), json).await?;
    report.with_window(kept).print(args.format)
}

/// Decides over kept counts, and prints the findings.
async fn detect_kept(args: &DetectArgs, spec: &DetectSpec, store: &Store) -> Result<(), Failure> {
    let kept = kept::read(store, args.job.as_deref(), spec.since, spec.until).await?;
    let decided = kept.counts.decide(args.sigma, args.peel).await.map_err(Failure::running)?;
    let limits = args.limits(kept.share);
    let report = Report::new(decided, Coverage::of_store(kept.documents), args.scope(spec)?, &limits);
    report.with_windows(kept.windows).print(args.format).map_err(Failure::running)
}

/// Returns the window of a detection whose counts are kept.
fn window_of(spec: &DetectSpec) -> anyhow::Result<WindowTimes> {
    let (Some(since), Some(until)) = (spec.since, spec.until) else {
        bail!("--store keeps the counts of a window: give --since and --until");
    };
    Ok(WindowTimes {
        start: jiff::Timestamp::from_millisecond(since)?,
        end: jiff::Timestamp::from_millisecond(until)?,
    })
}

/// Prints the plan of `detect` without reading a document.
pub(crate) async fn plan(
    mut args: DetectArgs,
    config: &Config,
    registry: Arc<ConnectionRegistry>,
    interrupt: Interrupt,
) -> Result<(), Failure> {
    if matches!(args.format, Format::Csv) {
        return Err(anyhow::anyhow!("plan has no CSV format: use --format table or json").into());
    }
    let spec = args.spec()?;
    args.source.settle()?;
    if let Some(url) = &args.scheduler {
        Cluster::remote(Arc::clone(&registry), config, url).await?;
    }
    // DataFusion's own planner: the plan of a cluster's planner shows only that the statement is submitted.
    let context = SessionContext::new_with_state(session_state(&registry, session_config(&registry, None)));
    let (tables, schema) = args.source.create_table(&registry, &context, TABLE, &spec.time_field).await?;
    check_fields(&schema, &spec)?;
    let sql = args.statement(&spec);
    let plan = context.sql(&sql).await?.into_unoptimized_plan();
    let running = interrupt.begin();
    let (plan, open) = open_unless_interrupted(plan, &context.state(), &running).await?;
    let planning = async { context.execute_logical_plan(plan).await?.create_physical_plan().await };
    let physical = tokio::select! {
        physical = planning => physical.map_err(Failure::from),
        () = running.interrupted() => Err(Failure::Interrupted { cleaned_up: true }),
    };
    let (slices, kind) = (open.slices(), open.kind());
    let closed = open.close().await;
    let physical = match &closed {
        Ok(()) => physical?,
        Err(_) => physical.map_err(Failure::not_cleaned_up)?,
    };
    closed?;
    let mut scans = Vec::new();
    find_scans(&physical, &mut scans);
    let queries: Vec<Value> = scans.iter().map(|scan| scan.spec().query.clone()).collect();
    let mut columns: BTreeMap<&str, &str> = BTreeMap::new();
    columns.extend(
        scans
            .iter()
            .flat_map(|scan| &scan.spec().columns)
            .map(|column| (column.name.as_str(), column.origin())),
    );
    let partitions = scans.first().map(|scan| scan.properties().output_partitioning().partition_count());
    let shown = displayable(physical.as_ref()).indent(false).to_string();
    let statements = tables.into_iter().chain([sql]);
    let text = if matches!(args.format, Format::Json) {
        let statements: Vec<_> = statements.collect();
        let plan = json!({
            "statements": statements,
            "slices": slices, "partitions": partitions,
            "consistency": kind.map(ContextKind::consistency),
            "read_from": kind.map(ContextKind::describe),
            "columns": columns, "queries": queries, "physical_plan": shown,
        });
        format!("{plan}\n")
    } else {
        // SQL with comments: the output is a script for `flowsigma sql`.
        let mut text: String = statements.map(|statement| format!("{statement};\n\n")).collect();
        if let (Some(partitions), Some(kind)) = (partitions, kind) {
            let kind = kind.describe();
            text += &format!("-- Read from: {kind}, {slices} slices in {partitions} partitions\n");
        }
        text.extend(columns.iter().map(|(name, origin)| format!("-- Column read: {name} from {origin}\n")));
        text.extend(queries.iter().map(|query| format!("-- Query sent: {query}\n")));
        text += "-- Physical plan:\n";
        text.extend(shown.lines().map(|line| format!("--   {line}\n")));
        text
    };
    print(&text).map_err(Failure::running)
}

/// The number of fields that an error lists.
const FIELDS_NAMED: usize = 20;

/// Checks that the table has the fields, with types that can be counted. An error names the option that selects
/// another field.
fn check_fields(schema: &SchemaRef, spec: &DetectSpec) -> anyhow::Result<()> {
    let Err(error) = validate(schema, spec) else { return Ok(()) };
    let flow_detect::Error::UnknownField { field, nearest, .. } = &error else { return Err(error.into()) };
    let options = [
        (&spec.source_field, "--source-field"),
        (&spec.destination_field, "--destination-field"),
        (&spec.time_field, "--time-field"),
    ];
    let option = options.iter().find(|(name, _)| *name == field).map_or("--filter", |(_, option)| option);
    let hint = match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => {
            let names: Vec<&str> =
                schema.fields().iter().map(|f| f.name().as_str()).take(FIELDS_NAMED).collect();
            let more = if schema.fields().len() > names.len() { ", …" } else { "" };
            format!("there are {}{more}", names.join(", "))
        }
    };
    bail!("there is no field {field:?}: name another one with {option}; {hint}")
}

fn find_scans<'a>(plan: &'a Arc<dyn ExecutionPlan>, scans: &mut Vec<&'a EsScanExec>) {
    scans.extend(plan.downcast_ref::<EsScanExec>());
    for child in plan.children() {
        find_scans(child, scans);
    }
}
