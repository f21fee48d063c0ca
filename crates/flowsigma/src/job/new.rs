//! `flowsigma job new`: a job file from flags, and on a terminal from answers.
//!
//! Owns: which values are required, the questions, and writing the file. Must not know: the text of a job file, or the
//! known schemas of flows (crate `flowsigma-jobs`).

mod fields;

use crate::failure::Failure;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use elastic_client::{Access, ConnectionRegistry, distinct_mappings, fetch_mappings};
use fields::Fields;
use flowsigma_jobs::{FindingsFormat, JobFile, NewJob, SinkSpec, write_job_file};
use rustyline::error::ReadlineError;
use rustyline::{Behavior, Config, DefaultEditor};
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// The arguments of `flowsigma job new`. On a terminal, what is required and not given is asked for.
#[derive(Args)]
pub(super) struct NewArgs {
    /// The job file to write [default: NAME.toml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Name of the job: lower-case letters, digits and "-" [default: the name of FILE without .toml]
    #[arg(long)]
    name: Option<String>,
    /// A connection of the configuration
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// Index, pattern or alias
    #[arg(long)]
    index: Option<String>,
    /// Distance between the starts of two windows, such as 5m, 1h or 1d
    #[arg(long, value_name = "LENGTH")]
    every: Option<String>,
    /// Number of standard deviations above the mean from which an address stands out
    #[arg(long, default_value = "3")]
    sigma: f64,
    /// Where counts are kept: file:///path, s3://bucket/path, gs://bucket/path or az://container/path
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Who gets the findings: stdout, file=PATH, index=CONNECTION/INDEX or webhook=URL; repeatable
    /// [default: they stay in the store]
    #[arg(long = "sink", value_name = "TYPE", value_parser = parse_sink)]
    sinks: Vec<SinkSpec>,
    /// Field with the time of a flow [default: that of the schema which the index's mapping has]
    #[arg(long, value_name = "FIELD")]
    time_field: Option<String>,
    /// Field with the source address [default: as for --time-field]
    #[arg(long, value_name = "FIELD")]
    source_field: Option<String>,
    /// Field with the destination address [default: as for --time-field]
    #[arg(long, value_name = "FIELD")]
    destination_field: Option<String>,
    /// Replace FILE if it exists
    #[arg(long)]
    overwrite: bool,
}

/// Writes a job file, and prints to stderr where it is and what to do next.
pub(super) async fn new(args: NewArgs, registry: &ConnectionRegistry) -> Result<(), Failure> {
    if let Some(file) = &args.file {
        refuse_existing(file, args.overwrite)?;
    }
    let stem = args.file.as_deref().and_then(stem);
    let mut terminal = Terminal::open()?;
    if matches!(terminal, Terminal::Absent) {
        refuse_missing(&args, stem.as_deref())?;
    }
    let NewArgs { file, overwrite, sigma, .. } = args;
    let name = match (args.name, stem) {
        (Some(name), _) => name,
        (None, stem) => terminal.ask("--name", "name of the job", stem.as_deref()).await?,
    };
    let connection =
        terminal.value(args.connection, "--connection", "connection of flowsigma.toml", None).await?;
    let index = terminal.value(args.index, "--index", "index, pattern or alias", None).await?;
    let given = [args.time_field, args.source_field, args.destination_field];
    let [time_field, source_field, destination_field] =
        choose_fields(given, registry, &connection, &index, &mut terminal).await?;
    let every = terminal.value(args.every, "--every", "distance between windows", Some("1h")).await?;
    let store = default_store(&name);
    let store = terminal.value(args.store, "--store", "store of counts", store.as_deref()).await?;
    let sinks = if args.sinks.is_empty() { terminal.ask_sinks().await? } else { args.sinks };
    let path = file.unwrap_or_else(|| PathBuf::from(format!("{name}.toml")));
    let job = NewJob {
        name,
        connection,
        index,
        time_field,
        source_field,
        destination_field,
        every,
        sigma,
        store,
        sinks,
    };
    let text = write_job_file(&job);
    JobFile::parse(&path, &text)?;
    write_file(&path, &text, overwrite)?;
    tell_next(&path, &job, registry);
    Ok(())
}

/// Returns the names of the time, source and destination fields: those that are given, else those of a known schema,
/// else the answers. No request is sent if all three are given.
async fn choose_fields(
    given: [Option<String>; 3],
    registry: &ConnectionRegistry,
    connection: &str,
    index: &str,
    terminal: &mut Terminal,
) -> Result<[String; 3], Failure> {
    if let [Some(time), Some(source), Some(destination)] = given {
        return Ok([time, source, destination]);
    }
    let mappings = fetch_mappings(registry.get(connection)?.as_ref(), index).await?;
    let fields = Fields::of_mappings(distinct_mappings(&mappings));
    let known = fields.known();
    if let Some(known) = &known {
        eprintln!(
            "index \"{index}\" has the fields of {}: {}, {} and {}",
            known.schema, known.time_field, known.source_field, known.destination_field
        );
    } else if matches!(terminal, Terminal::Absent) {
        return Err(anyhow!(fields.refusal(index, &given)).into());
    } else {
        eprintln!("index \"{index}\" has the fields of no known schema of flows");
    }
    let known = known.map(|known| [known.time_field, known.source_field, known.destination_field]);
    let [known_time, known_source, known_destination] = match known {
        Some(known) => known.map(Some),
        None => [None, None, None],
    };
    let [time, source, destination] = given;
    let times = format!("field with the time ({})", fields.time_candidates());
    let sources = format!("field with the source address ({})", fields.address_candidates());
    let destinations = "field with the destination address";
    Ok([
        terminal.value(time.or(known_time), "--time-field", &times, Some("@timestamp")).await?,
        terminal.value(source.or(known_source), "--source-field", &sources, None).await?,
        terminal.value(destination.or(known_destination), "--destination-field", destinations, None).await?,
    ])
}

/// Where answers come from.
enum Terminal {
    /// Stdin is a terminal. The editor is elsewhere only while it reads a line.
    Open(Box<Option<DefaultEditor>>),
    /// Stdin is no terminal: nothing is asked.
    Absent,
}

impl Terminal {
    fn open() -> anyhow::Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Absent);
        }
        // Questions go to the terminal itself: stdout may be a file.
        let config = Config::builder().behavior(Behavior::PreferTerm).build();
        Ok(Self::Open(Box::new(Some(DefaultEditor::with_config(config)?))))
    }

    /// Returns the value of a flag, or else the answer to a question.
    async fn value(
        &mut self,
        given: Option<String>,
        flag: &str,
        question: &str,
        default: Option<&str>,
    ) -> Result<String, Failure> {
        match given {
            Some(value) => Ok(value),
            None => self.ask(flag, question, default).await,
        }
    }

    /// Asks until there is an answer. An empty one chooses the default, if there is one.
    async fn ask(&mut self, flag: &str, question: &str, default: Option<&str>) -> Result<String, Failure> {
        let Self::Open(slot) = self else {
            // Only a name has a default that is also valid without a terminal.
            return match default.filter(|_| flag == "--name") {
                Some(default) => Ok(default.to_owned()),
                None => Err(anyhow!("{flag} is missing, and stdin is no terminal to ask for it").into()),
            };
        };
        let prompt = match default {
            Some(default) => format!("{question} [{default}]: "),
            None => format!("{question}: "),
        };
        loop {
            let mut editor = slot.take().context("the terminal was closed")?;
            let line_prompt = prompt.clone();
            let (editor, line) = tokio::task::spawn_blocking(move || {
                let line = editor.readline(&line_prompt);
                (editor, line)
            })
            .await
            .map_err(anyhow::Error::from)?;
            **slot = Some(editor);
            let line = line.map_err(|error| match error {
                ReadlineError::Interrupted => Failure::Interrupted { cleaned_up: false },
                ReadlineError::Eof => Failure::Refused(anyhow!("{flag}: the input ended before an answer")),
                error => Failure::Refused(error.into()),
            })?;
            match (line.trim(), default) {
                ("", Some(default)) => return Ok(default.to_owned()),
                ("", None) => {}
                (answer, _) => return Ok(answer.to_owned()),
            }
        }
    }

    /// Asks for sinks, with spaces between. Without a terminal there are none.
    async fn ask_sinks(&mut self) -> Result<Vec<SinkSpec>, Failure> {
        if matches!(self, Self::Absent) {
            return Ok(Vec::new());
        }
        let question = "sinks (stdout, file=PATH, index=CONNECTION/INDEX, webhook=URL)";
        loop {
            let answer = self.ask("--sink", question, Some("stdout")).await?;
            match answer.split_whitespace().map(parse_sink).collect() {
                Ok(sinks) => return Ok(sinks),
                Err(problem) => eprintln!("{problem}"),
            }
        }
    }
}

/// Names all required flags that are missing, before a request is sent.
fn refuse_missing(args: &NewArgs, stem: Option<&str>) -> anyhow::Result<()> {
    let required = [
        ("--name", args.name.is_some() || stem.is_some()),
        ("--connection", args.connection.is_some()),
        ("--index", args.index.is_some()),
        ("--every", args.every.is_some()),
        ("--store", args.store.is_some()),
    ];
    let missing: Vec<_> = required.iter().filter(|(_, given)| !given).map(|(flag, _)| *flag).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("stdin is no terminal to ask for what is missing: give {}", missing.join(", "))
}

/// Reads a sink: `stdout`, `file=PATH`, `index=CONNECTION/INDEX` or `webhook=URL`. No message contains the URL, because
/// it may contain a secret.
fn parse_sink(text: &str) -> Result<SinkSpec, String> {
    let (kind, target) = text.split_once('=').unwrap_or((text, ""));
    match (kind, target) {
        ("stdout", "") => Ok(SinkSpec::Stdout { name: None }),
        ("file", "") => Err("a sink of the type file has no path: write file=PATH".into()),
        ("file", path) => {
            Ok(SinkSpec::File { name: None, path: PathBuf::from(path), format: FindingsFormat::Ndjson })
        }
        ("index", target) => match target.split_once('/') {
            Some((connection, index)) if !connection.is_empty() && !index.is_empty() => Ok(SinkSpec::Index {
                name: None,
                connection: connection.into(),
                index: index.into(),
                template: false,
            }),
            _ => Err(format!("{text:?} does not name an index: write index=CONNECTION/INDEX")),
        },
        ("webhook", "") => Err("a sink of the type webhook has no URL: write webhook=URL".into()),
        ("webhook", url) => Ok(SinkSpec::Webhook { name: None, url: url.into(), secret_env: None }),
        (kind, _) => Err(format!(
            "{kind:?} is not a sink: write stdout, file=PATH, index=CONNECTION/INDEX or webhook=URL"
        )),
    }
}

fn stem(file: &Path) -> Option<String> {
    Some(file.file_stem()?.to_str()?.to_owned())
}

/// Returns a folder for the store beside the file, for a question's default.
fn default_store(name: &str) -> Option<String> {
    let folder = std::path::absolute(format!("{name}-store")).ok()?;
    // A blank or a "%" would have to be escaped in a URL.
    let path = folder.to_str()?;
    (!path.contains([' ', '%', '?', '#'])).then(|| format!("file://{path}"))
}

fn refuse_existing(path: &Path, overwrite: bool) -> anyhow::Result<()> {
    if !overwrite && path.exists() {
        bail!("{} exists: choose another file, or replace it with --overwrite", path.display());
    }
    Ok(())
}

/// Writes a file. `job serve` may read its folder at any time, so a file that is replaced is complete at once.
fn write_file(path: &Path, text: &str, overwrite: bool) -> anyhow::Result<()> {
    refuse_existing(path, overwrite)?;
    let written = if overwrite {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, path))
    } else {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
    };
    written.with_context(|| format!("cannot write the job file {}", path.display()))
}

fn tell_next(path: &Path, job: &NewJob, registry: &ConnectionRegistry) {
    let shown = path.display();
    eprintln!("wrote {shown}");
    for sink in &job.sinks {
        if let SinkSpec::Index { connection, .. } = sink
            && registry.get(connection).is_ok_and(|connection| connection.access() == Access::Read)
        {
            eprintln!(
                "the sink cannot write yet: set write = true in [connections.{connection}] of flowsigma.toml"
            );
        }
    }
    eprintln!("Next:\n  flowsigma job check {shown}\n  flowsigma job run {shown}");
}

#[cfg(test)]
#[path = "new_tests.rs"]
mod tests;
