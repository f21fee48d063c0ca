//! The values of a job file.
//!
//! Owns: their forms and bounds. Must not know: files, or whether a server has what a job names.
//!
//! A problem names the key, the value and what was expected. A URL is not shown, because it may contain a secret.

use super::cron;
use crate::allowed::Allowed;
use crate::error::Error;
use crate::job::{DetectionSpec, Job, Limits, SinkSpec, SourceSpec, StoreSpec};
use crate::sinks::{check_template, sink_name};
use crate::span::Span;
use crate::window::Calendar;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use url::{Host, Url};

/// A name must fit into a path of every object store and into a label of Kubernetes.
const MAX_NAME: usize = 63;
/// As the threshold of a detection has them.
const MAX_SIGMA: f64 = 1000.0;
const MAX_DECIMALS: usize = 6;
const MAX_PEEL: u32 = 10;
/// Keys of `[source.options]` that have a key of their own in a job file.
const OWN_KEYS: &[(&str, &str)] = &[
    ("query", "source.query"),
    ("es.query", "source.query"),
    ("sample", "source.sample"),
    ("seed", "source.seed"),
    ("slices", "limits.slices"),
];
const STORE_SCHEMES: &[&str] = &["file", "s3", "gs", "az"];
const BUCKET_SCHEMES: &[&str] = &["s3", "gs", "az"];
const SECRET_WORDS: &[&str] =
    &["secret", "password", "token", "sas", "access_key", "account_key", "customer_key"];

type Check = Result<(), String>;

/// Checks all values of a job.
pub(super) fn check(job: &Job) -> Check {
    name("name", &job.name)?;
    source(&job.source)?;
    Calendar::try_new(&job.window).map_err(|error| error.to_string())?;
    detection(&job.detection)?;
    store(&job.store)?;
    sinks(&job.sinks)?;
    limits(&job.limits)?;
    match &job.schedule {
        Some(schedule) => cron::check(&schedule.cron, job.window.time_zone.as_deref()),
        None => Ok(()),
    }
}

/// Whether a key looks as if its value were a secret. A file or an id is none.
pub(super) fn names_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word)) && !key.ends_with("_file") && !key.ends_with("_key_id")
}

fn wrong(key: &str, value: impl std::fmt::Debug, expected: &str) -> String {
    format!("{key} = {value:?}: expected {expected}")
}

fn name(key: &str, value: &str) -> Check {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if value.is_empty() || value.len() > MAX_NAME || value.starts_with('-') || !value.chars().all(is_name) {
        let expected = format!("1 to {MAX_NAME} lower-case letters, digits and \"-\", not \"-\" first");
        return Err(wrong(key, value, &expected));
    }
    Ok(())
}

fn connection(key: &str, value: &str) -> Check {
    if value.is_empty() || !value.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Err(wrong(key, value, "the name of a connection: letters, digits, \"_\", \"-\" and \".\""));
    }
    Ok(())
}

fn some_text(key: &str, value: &str, expected: &str) -> Check {
    if value.trim().is_empty() { Err(wrong(key, value, expected)) } else { Ok(()) }
}

fn source(source: &SourceSpec) -> Check {
    connection("source.connection", &source.connection)?;
    let index = &source.index;
    elastic_client::check_index(index).map_err(|error| format!("source.index = {index:?}: {error}"))?;
    some_text("source.time_field", &source.time_field, "the name of a field")?;
    some_text("source.source_field", &source.source_field, "the name of a field")?;
    some_text("source.destination_field", &source.destination_field, "the name of a field")?;
    if source.source_field == source.destination_field {
        let expected = "another field than source.source_field";
        return Err(wrong("source.destination_field", &source.destination_field, expected));
    }
    if let Some(query) = &source.query {
        elastic_client::parse_base_query(query).map_err(|error| format!("source.query: {error}"))?;
    }
    if let Some(filter) = &source.filter {
        some_text("source.filter", filter, "a condition in SQL")?;
    }
    match source.sample {
        Some(sample) if !(sample > 0.0 && sample <= 1.0) => {
            return Err(wrong("source.sample", sample, "a share above 0 and up to 1"));
        }
        None if source.seed.is_some() => {
            return Err("source.seed has no effect without source.sample: remove it, or set both".into());
        }
        Some(_) | None => {}
    }
    for (option, own) in OWN_KEYS {
        if source.options.contains_key(*option) {
            return Err(format!("source.options.{option}: use the key {own}"));
        }
    }
    Ok(())
}

fn detection(detection: &DetectionSpec) -> Check {
    // `Display` of a float is its shortest exact decimal, without an exponent.
    let sigma = detection.sigma.to_string();
    let decimals = sigma.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    if !(detection.sigma > 0.0 && detection.sigma <= MAX_SIGMA) || decimals > MAX_DECIMALS {
        let expected =
            format!("a decimal above 0 and up to {MAX_SIGMA} with at most {MAX_DECIMALS} decimals");
        return Err(format!("detection.sigma = {sigma}: expected {expected}"));
    }
    if detection.peel > MAX_PEEL {
        return Err(wrong("detection.peel", detection.peel, &format!("a whole number from 0 to {MAX_PEEL}")));
    }
    Allowed::try_new(&detection.allow).map(|_| ()).map_err(|error| error.to_string())
}

fn store(store: &StoreSpec) -> Check {
    let expected = "expected file:///path, s3://bucket/path, gs://bucket/path or az://container/path";
    place("store", &store.url, &store.options, STORE_SCHEMES, expected)
}

/// Checks the keys `url` and `options` of a place for objects.
fn place(
    key: &str,
    text: &str,
    options: &BTreeMap<String, String>,
    schemes: &[&str],
    expected: &str,
) -> Check {
    let url = Url::parse(text).map_err(|error| format!("{key}.url is not a URL ({error}): {expected}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{key}.url has credentials: set them in the environment"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{key}.url has a part behind \"?\" or \"#\": {expected}"));
    }
    let scheme = url.scheme();
    if !schemes.contains(&scheme) {
        return Err(format!("{key}.url has the scheme {scheme:?}: {expected}"));
    }
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    if scheme == "file" && (has_host || url.path() == "/") {
        return Err(format!(
            "{key}.url: expected the absolute path of a folder, such as file:///var/lib/flowsigma"
        ));
    }
    if scheme != "file" && !has_host {
        return Err(format!("{key}.url names no bucket: {expected}"));
    }
    match options.keys().find(|name| names_secret(name)) {
        Some(name) => {
            Err(format!("{key}.options.{name} puts a secret into the file: set it in the environment"))
        }
        None => Ok(()),
    }
}

fn sinks(sinks: &[SinkSpec]) -> Check {
    let mut names = BTreeSet::new();
    for (index, sink) in sinks.iter().enumerate() {
        let key = |key: &str| format!("sinks[{index}].{key}");
        let sink_name = sink_name(sink);
        name(&key("name"), sink_name)?;
        if !names.insert(sink_name) {
            let expected = "another name than the sinks before have; without the key, the name is the type";
            return Err(wrong(&key("name"), sink_name, expected));
        }
        match sink {
            SinkSpec::Stdout { .. } => {}
            SinkSpec::File { path, .. } => absolute(&key("path"), path)?,
            SinkSpec::Bucket { url, options, .. } => {
                let expected = "expected s3://bucket/path, gs://bucket/path or az://container/path";
                place(&format!("sinks[{index}]"), url, options, BUCKET_SCHEMES, expected)?;
            }
            SinkSpec::Index { connection: target, index, template, .. } => {
                connection(&key("connection"), target)?;
                sink_index(&key("index"), index)?;
                if *template {
                    check_template(index).map_err(|problem| format!("{}: {problem}", key("template")))?;
                }
            }
            SinkSpec::Webhook { url, secret_env, .. } => {
                webhook_url(&key("url"), url)?;
                if let Some(variable) = secret_env {
                    environment_variable(&key("secret_env"), variable)?;
                }
            }
        }
    }
    Ok(())
}

fn absolute(key: &str, path: &Path) -> Check {
    // A relative path is another file in each process that runs the job.
    if path.is_absolute() { Ok(()) } else { Err(wrong(key, path, "an absolute path")) }
}

fn sink_index(key: &str, index: &str) -> Check {
    elastic_client::check_index(index).map_err(|error| format!("{key} = {index:?}: {error}"))?;
    // A document has the same id in every run, which makes it unique only in a single index.
    if index == "_all" || index.starts_with('-') || index.contains(['*', ',', ':', '<']) {
        return Err(wrong(key, index, "the name of one index or alias, not a pattern, a list or date math"));
    }
    Ok(())
}

fn webhook_url(key: &str, text: &str) -> Check {
    let expected = "expected https://HOST/PATH, or http on a loopback address";
    let url = Url::parse(text).map_err(|error| format!("{key} is not a URL ({error}): {expected}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{key} has credentials: name the key of a signature in secret_env instead"));
    }
    if url.fragment().is_some() {
        return Err(format!("{key} has a part behind \"#\": {expected}"));
    }
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback => Ok(()),
        "http" => Err(format!("{key} would send findings unencrypted: {expected}")),
        scheme => Err(format!("{key} has the scheme {scheme:?}: {expected}")),
    }
}

fn environment_variable(key: &str, name: &str) -> Check {
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_empty() || !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
        // The value may be the secret itself.
        return Err(format!("{key}: expected the name of an environment variable, such as WEBHOOK_KEY"));
    }
    Ok(())
}

fn limits(limits: &Limits) -> Check {
    if limits.slices == Some(0) {
        return Err(wrong("limits.slices", 0, "a whole number from 1"));
    }
    if let Some(text) = &limits.timeout {
        let timeout: Span = text.parse().map_err(|error: Error| format!("limits.timeout = {error}"))?;
        if timeout.seconds() == 0 {
            return Err(wrong("limits.timeout", text, "a duration above zero, such as 30m"));
        }
    }
    Ok(())
}
