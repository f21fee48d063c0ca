//! The source of flows.
//!
//! Owns: the arguments that name an index or files, and the statements that make a table of them.
//! Must not know: which query reads the table.
//!
//! `flowsigma plan` prints the same statements that `flowsigma detect` runs.

use crate::scope::Place;
use anyhow::{Context, bail};
use clap::Args;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use elastic_client::{ConfigError, ConnectionConfig, ConnectionRegistry, UrlProblem};
use flowsigma_jobs::Job;
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The name of the table that the statements create.
pub(crate) const TABLE: &str = "flows";

/// The seed of a job's sample, unless its file has one.
const DEFAULT_SEED: u32 = 1;

/// The name of the connection of `--url`.
pub(crate) const URL_CONNECTION: &str = "url";

/// Returns the connection of `--url`. Credentials in the URL are an error that says where they belong.
pub(crate) fn connection_of_url(url: &str) -> anyhow::Result<ConnectionConfig> {
    let connection = ConnectionConfig::from_url(url);
    if let Err(ConfigError::Url { problem: UrlProblem::Credentials }) = connection {
        bail!(
            "cannot use the given URL: a URL must not hold credentials; describe a connection in flowsigma.toml with \
             auth (password_env or password_file) and use its name"
        );
    }
    Ok(connection?)
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Origin {
    /// A connection of the configuration
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// A server without credentials; for the embedded cluster only
    #[arg(long, conflicts_with = "scheduler")]
    url: Option<String>,
    /// A file of flows, or a folder of such files: .ndjson, .jsonl, .json, .csv or .parquet, also with
    /// .gz. On a cluster every executor must have it under the same path
    #[arg(long, value_name = "PATH", conflicts_with_all = ["index", "query", "sample", "slices", "options"])]
    file: Option<PathBuf>,
    /// A store of counts, of detect --store or of a job: decide again, without a request to the index.
    /// --since and --until choose windows
    #[arg(long, value_name = "URL", conflicts_with_all = ["index", "query", "sample", "slices", "options", "filter",
        "scheduler"])]
    from_store: Option<String>,
}

/// The arguments that choose an index or files, and the part of them to read.
#[derive(Args)]
pub(crate) struct Source {
    #[command(flatten)]
    origin: Origin,
    /// Index, pattern or alias
    #[arg(long, required_unless_present_any = ["file", "from_store"])]
    index: Option<String>,
    /// Base query: JSON, or a file with it
    #[arg(long, value_name = "FILE-or-JSON")]
    query: Option<String>,
    /// Share of the documents to read, above 0 and up to 1
    #[arg(long, value_name = "SHARE")]
    sample: Option<String>,
    /// Seed of the sample, which makes it repeatable [default: drawn, and printed to stderr]
    #[arg(long, requires = "sample")]
    seed: Option<u32>,
    /// Number of partitions; above the number of shards also of slices [default: one per shard]
    #[arg(long, value_name = "N")]
    slices: Option<u32>,
    /// Another option of the table, such as read=scroll, page_size=2000 or exclude=geo; repeatable
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = name_and_value)]
    options: Vec<(String, String)>,
}

pub(crate) fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no \"=\"; write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Source {
    /// Returns the source of a job.
    pub(crate) fn of_job(job: &Job) -> Self {
        let source = &job.source;
        Self {
            origin: Origin {
                connection: Some(source.connection.clone()),
                url: None,
                file: None,
                from_store: None,
            },
            index: Some(source.index.clone()),
            query: source.query.clone(),
            sample: source.sample.map(|share| share.to_string()),
            // A window that is run again reads the same documents.
            seed: source.seed.or(source.sample.map(|_| DEFAULT_SEED)),
            slices: job.limits.slices,
            options: source.options.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// Reads the base query if it is in a file, and draws the seed if none is given, so that the report names the
    /// values that are used. Call it once, before anything else.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        if let Some(query) = &self.query
            && !query.trim_start().starts_with(['{', '?'])
        {
            let text = std::fs::read_to_string(query).with_context(|| format!("--query {query}"))?;
            self.query = Some(text);
        }
        if self.sample.is_some() && self.seed.is_none() {
            let drawn = rand::random();
            eprintln!("sample: --seed {drawn} draws the same documents again");
            self.seed = Some(drawn);
        }
        Ok(())
    }

    /// Returns the place for the report.
    pub(crate) fn place(&self) -> Place {
        let json = |text: &String| {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.trim().to_owned()))
        };
        let option = |(name, value): &(String, String)| (name.to_lowercase(), Value::String(value.clone()));
        Place {
            connection: self.origin.connection.clone(),
            url: self.origin.url.clone(),
            file: self.origin.file.as_ref().map(|path| path.display().to_string()),
            store: self.origin.from_store.clone(),
            index: self.index.clone(),
            query: self.query.as_ref().map(json),
            sample: self.sample.clone(),
            seed: self.seed,
            options: self.options.iter().map(option).chain(self.slices_option()).collect(),
        }
    }

    /// Returns the share of the documents that is drawn. None means all of them.
    pub(crate) fn share(&self) -> Option<f64> {
        // Another text is refused when the table is created.
        self.sample.as_deref()?.trim().parse().ok()
    }

    fn slices_option(&self) -> Option<(String, Value)> {
        Some(("slices".to_owned(), Value::String(self.slices?.to_string())))
    }

    /// Returns whether a base query, a file or a store already chooses what is read, so that there is no default time
    /// range.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.query.is_some() || self.origin.file.is_some() || self.origin.from_store.is_some()
    }

    /// Returns the URL of the store from which counts are read.
    pub(crate) fn kept_counts(&self) -> Option<&str> {
        self.origin.from_store.as_deref()
    }

    /// Returns whether it is an index, whose documents a server counts.
    pub(crate) fn is_index(&self) -> bool {
        self.origin.file.is_none()
    }

    /// Creates the table in a session, and returns the statements that created it, and its schema.
    pub(crate) async fn create_table(
        &self,
        registry: &ConnectionRegistry,
        context: &SessionContext,
        table: &str,
        time_field: &str,
    ) -> anyhow::Result<(Vec<String>, SchemaRef)> {
        let mut statements = Vec::new();
        match &self.origin.file {
            Some(path) => {
                let create = create_file_table(path)?;
                context.sql(&create).await?;
                let files = context.table_provider("flow_file").await?;
                let view = create_view(&files.schema(), path, table, time_field)?;
                context.sql(&view).await?;
                statements.extend([create, view]);
            }
            None => {
                let create = self.create_index_table(registry, table)?;
                context.sql(&create).await?;
                statements.push(create);
            }
        }
        let schema = context.table_provider(table).await?.schema();
        Ok((statements, schema))
    }

    fn create_index_table(&self, registry: &ConnectionRegistry, table: &str) -> anyhow::Result<String> {
        let connection = match (&self.origin.connection, &self.origin.url) {
            (Some(name), _) => name.as_str(),
            (None, Some(url)) => {
                registry.insert(URL_CONNECTION, &connection_of_url(url)?)?;
                URL_CONNECTION
            }
            (None, None) => bail!("one of --connection, --url, --file and --from-store is required"),
        };
        let index = self.index.as_deref().context("--index is required")?;
        let mut options = Vec::new();
        let mut option = |name: &str, value: String| options.push(format!("'{name}' {}", quote(&value)));
        if let Some(query) = &self.query {
            option("query", query.clone());
        }
        if let Some(sample) = &self.sample {
            option("sample", sample.clone());
        }
        if let Some(seed) = self.seed {
            option("seed", seed.to_string());
        }
        if let Some(slices) = self.slices {
            option("slices", slices.to_string());
        }
        // Most often no statement reads a field of an unknown type, so it should not fail the table.
        if !self.options.iter().any(|(name, _)| name.eq_ignore_ascii_case("unknown_types")) {
            option("unknown_types", "json".into());
        }
        let mut given = HashSet::new();
        for (name, value) in &self.options {
            let name = name.to_lowercase();
            if ["query", "es.query", "sample", "seed", "slices"].contains(&name.as_str()) {
                bail!("--option {name}: give it as --{}", name.trim_start_matches("es."));
            }
            option(&name, value.clone());
            if !given.insert(name.clone()) {
                bail!("--option {name} is given twice");
            }
        }
        let location = quote(&format!("elasticsearch://{connection}/{index}"));
        let options =
            if options.is_empty() { String::new() } else { format!("\nOPTIONS ({})", options.join(", ")) };
        Ok(format!("CREATE EXTERNAL TABLE {table} STORED AS ELASTICSEARCH\nLOCATION {location}{options}"))
    }
}

fn create_file_table(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let kind = std::fs::metadata(path).with_context(|| format!("--file {shown}"))?;
    let extension = if kind.is_dir() { folder_extension(path)? } else { extension(path)? };
    let (format, options) = match extension.trim_end_matches(".gz") {
        // The schema is inferred from every row: a field that only later rows have would be silently dropped.
        "ndjson" | "jsonl" | "json" => ("JSON", "'format.schema_infer_max_rec' '4294967295'"),
        "csv" => ("CSV", "'format.has_header' 'true', 'format.schema_infer_max_rec' '4294967295'"),
        "parquet" => ("PARQUET", ""),
        other => bail!("--file {shown}: \".{other}\" is not .ndjson, .jsonl, .json, .csv or .parquet"),
    };
    let mut options: Vec<&str> = (!options.is_empty()).then_some(options).into_iter().collect();
    if extension.ends_with(".gz") {
        options.push("'format.compression' 'gzip'");
    }
    let mut location = std::path::absolute(path)?.to_string_lossy().into_owned();
    if kind.is_dir() && !location.ends_with('/') {
        location.push('/');
    }
    let options =
        if options.is_empty() { String::new() } else { format!("\nOPTIONS ({})", options.join(", ")) };
    Ok(format!("CREATE EXTERNAL TABLE flow_file STORED AS {format}\nLOCATION {}{options}", quote(&location)))
}

fn extension(path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let (name, packed) = name.strip_suffix(".gz").map_or((name.as_str(), ""), |name| (name, ".gz"));
    match name.rsplit_once('.') {
        Some((_, extension)) => Ok(format!("{extension}{packed}")),
        None => bail!("--file {}: the name must end in .ndjson, .csv or .parquet", path.display()),
    }
}

/// Returns the extension that all files of a folder have. A table has one format, so files of another extension would
/// be silently skipped.
fn folder_extension(folder: &Path) -> anyhow::Result<String> {
    let mut found: Option<String> = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() || path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        }
        let extension = extension(&path)?;
        if found.as_ref().is_some_and(|known| *known != extension) {
            bail!("--file {}: the folder holds files of more than one kind", folder.display());
        }
        found = Some(extension);
    }
    found.with_context(|| format!("--file {}: the folder holds no file", folder.display()))
}

/// Returns a view with the leaves of nested columns under dotted names, like the columns of an index, and the time
/// field as a timestamp.
fn create_view(schema: &Schema, path: &Path, table: &str, time_field: &str) -> anyhow::Result<String> {
    let mut columns = Vec::new();
    for field in schema.fields() {
        push_leaves(&quote_name(field.name()), field.name(), field.data_type(), time_field, &mut columns);
    }
    if columns.is_empty() {
        bail!("--file {}: it has no rows, so that its columns are unknown", path.display());
    }
    Ok(format!("CREATE VIEW {table} AS SELECT\n  {}\nFROM flow_file", columns.join(",\n  ")))
}

fn push_leaves(path: &str, name: &str, data_type: &DataType, time_field: &str, columns: &mut Vec<String>) {
    if let DataType::Struct(fields) = data_type {
        for field in fields {
            let (path, name) =
                (format!("{path}[{}]", quote(field.name())), format!("{name}.{}", field.name()));
            push_leaves(&path, &name, field.data_type(), time_field, columns);
        }
        return;
    }
    let is_text_or_number =
        matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Int64);
    let value = if name == time_field && is_text_or_number {
        format!("to_timestamp_millis({path})")
    } else {
        path.to_owned()
    };
    columns.push(format!("{value} AS {}", quote_name(name)));
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
