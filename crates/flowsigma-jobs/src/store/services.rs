//! The services in the cloud.
//!
//! Owns: the options, the credentials and the hosts of S3, GCS and Azure. Must not know: how a request is sent.

use super::hosts::{Environment, Hosts};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// A service in the cloud.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Service {
    S3,
    Gcs,
    Azure,
}

/// Options of every service.
const CLIENT: [&str; 3] = ["allow_http", "connect_timeout", "timeout"];

impl Service {
    /// Returns the options that name hosts from which credentials are fetched. Each is off without its option.
    fn credential_hosts(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &["container_credentials_full_uri", "endpoint_url_sts", "metadata_endpoint"],
            // object_store finds this host itself. The option only permits it.
            Self::Gcs => &["metadata_endpoint"],
            Self::Azure => &["authority_host", "msi_endpoint"],
        }
    }

    /// Returns the other options.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &[
                "checksum_algorithm",
                "endpoint",
                "region",
                "request_payer",
                "server_side_encryption",
                "sse_bucket_key_enabled",
                "sse_kms_key_id",
                "unsigned_payload",
                "virtual_hosted_style_request",
            ],
            Self::Gcs => &["base_url"],
            Self::Azure => &["account_name", "endpoint", "msi_resource_id", "object_id"],
        }
    }

    /// Returns the environment variables with credentials.
    fn variables(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &[
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_SESSION_TOKEN",
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "AWS_ROLE_ARN",
                "AWS_ROLE_SESSION_NAME",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                "AWS_SSE_CUSTOMER_KEY_BASE64",
            ],
            Self::Gcs => {
                &["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"]
            }
            Self::Azure => &[
                "AZURE_STORAGE_ACCOUNT_KEY",
                "AZURE_STORAGE_SAS_TOKEN",
                "AZURE_STORAGE_TOKEN",
                "AZURE_CLIENT_ID",
                "AZURE_CLIENT_SECRET",
                "AZURE_TENANT_ID",
                "AZURE_FEDERATED_TOKEN_FILE",
            ],
        }
    }

    /// Returns the sets of variables and options of which one must be complete.
    fn credentials(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::S3 => &[
                &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
                &["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "endpoint_url_sts"],
                &["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "container_credentials_full_uri"],
                &["metadata_endpoint"],
            ],
            Self::Gcs => &[
                &["GOOGLE_SERVICE_ACCOUNT"],
                &["GOOGLE_SERVICE_ACCOUNT_KEY"],
                &["GOOGLE_APPLICATION_CREDENTIALS"],
                &["metadata_endpoint"],
            ],
            Self::Azure => &[
                &["AZURE_STORAGE_ACCOUNT_KEY"],
                &["AZURE_STORAGE_SAS_TOKEN"],
                &["AZURE_STORAGE_TOKEN"],
                &["AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "authority_host"],
                &["AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_TENANT_ID", "authority_host"],
                &["msi_endpoint"],
            ],
        }
    }
}

/// Returns the object store of a bucket or container, with the URL's path as its root.
pub(super) fn cloud(
    service: Service,
    url: &Url,
    options: &BTreeMap<String, String>,
    environment: Environment<'_>,
) -> Result<Arc<dyn ObjectStore>, String> {
    let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or("the URL has no bucket")?;
    if url.port().is_some() {
        return Err("the URL has a port; name the host with the option endpoint".into());
    }
    let root = Path::from_url_path(url.path()).map_err(|e| e.to_string())?;
    check_options(service, options)?;
    let secrets: BTreeMap<&str, String> = service
        .variables()
        .iter()
        .filter_map(|name| Some((*name, environment(name).filter(|value| !value.is_empty())?)))
        .collect();
    check_credentials(service, options, &secrets)?;
    let hosts = hosts(service, bucket, options)?;
    let settings = options
        .iter()
        .map(|(k, v)| (k.to_lowercase(), v))
        .chain(secrets.iter().map(|(k, v)| (k.to_lowercase(), v)));
    let store = build(service, bucket, settings, hosts).map_err(|e| {
        // object_store shows some values that it cannot parse.
        secrets.values().fold(e.to_string(), |text, secret| text.replace(secret.as_str(), "***"))
    })?;
    Ok(if root.is_root() { store } else { Arc::new(PrefixStore::new(store, root)) })
}

fn check_options(service: Service, options: &BTreeMap<String, String>) -> Result<(), String> {
    let mut known: Vec<&str> = [&CLIENT[..], service.credential_hosts(), service.options()].concat();
    known.sort_unstable();
    for (key, value) in options {
        if !known.contains(&key.as_str()) {
            let known = known.join(", ");
            return Err(format!(
                "option {key}: not known, or a secret, which the environment must hold; use {known}"
            ));
        }
        let is_flag = matches!(
            key.as_str(),
            "allow_http"
                | "request_payer"
                | "sse_bucket_key_enabled"
                | "unsigned_payload"
                | "virtual_hosted_style_request"
        );
        if is_flag && !matches!(value.as_str(), "true" | "false") {
            return Err(format!("option {key}: {value:?} is neither \"true\" nor \"false\""));
        }
    }
    Ok(())
}

fn check_credentials(
    service: Service,
    options: &BTreeMap<String, String>,
    secrets: &BTreeMap<&str, String>,
) -> Result<(), String> {
    let has = |name: &&str| options.contains_key(*name) || secrets.contains_key(*name);
    if service.credentials().iter().any(|set| set.iter().all(has)) {
        return Ok(());
    }
    let sets: Vec<String> = service.credentials().iter().map(|set| set.join(" and ")).collect();
    Err(format!(
        "there are no credentials; set one of these (capitals: environment variables, others: options): {}",
        sets.join("; ")
    ))
}

fn hosts(service: Service, bucket: &str, options: &BTreeMap<String, String>) -> Result<Hosts, String> {
    let mut hosts = Hosts::default();
    let option = |name: &str| options.get(name).map(String::as_str);
    for name in service.credential_hosts() {
        if let Some(text) = option(name) {
            hosts.add(name, text)?;
        }
    }
    let (name, default) = match service {
        Service::S3 => {
            let region = option("region");
            let default = match (region, option("virtual_hosted_style_request")) {
                (Some(region), Some("true")) => Some(format!("https://{bucket}.s3.{region}.amazonaws.com")),
                (Some(region), _) => Some(format!("https://s3.{region}.amazonaws.com")),
                (None, _) => None,
            };
            ("endpoint", default.ok_or("set the option region, or endpoint for a server of your own"))
        }
        Service::Gcs => ("base_url", Ok(GCS.to_owned())),
        Service::Azure => {
            let account = option("account_name").ok_or("set the option account_name")?;
            ("endpoint", Ok(format!("https://{account}.blob.core.windows.net")))
        }
    };
    let endpoint = match option(name) {
        Some(endpoint) => hosts.add(name, endpoint)?,
        None => hosts.add(name, &default?)?,
    };
    if endpoint.scheme() == "http" && option("allow_http") != Some("true") {
        return Err(format!(
            "option {name}: the URL is http, without encryption; use https, or set allow_http = \"true\""
        ));
    }
    Ok(hosts)
}

/// As object_store has it. It is always set, because the file of a service account may name another.
const GCS: &str = "https://storage.googleapis.com";

/// A request is given up after a minute, in place of the three of object_store: a lease must be renewed in time.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

fn build<'a>(
    service: Service,
    bucket: &str,
    settings: impl Iterator<Item = (String, &'a String)>,
    hosts: Hosts,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let connector = hosts.connector();
    Ok(match service {
        Service::S3 => {
            let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
            for (key, value) in settings {
                builder = builder.with_config(key.parse()?, value);
            }
            Arc::new(builder.with_retry(retry()).with_http_connector(connector).build()?)
        }
        Service::Gcs => {
            let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket).with_base_url(GCS);
            for (key, value) in settings.filter(|(key, _)| key != "metadata_endpoint") {
                builder = builder.with_config(key.parse()?, value);
            }
            Arc::new(builder.with_retry(retry()).with_http_connector(connector).build()?)
        }
        Service::Azure => {
            let mut builder = MicrosoftAzureBuilder::new().with_container_name(bucket);
            for (key, value) in settings {
                builder = builder.with_config(key.parse()?, value);
            }
            Arc::new(builder.with_retry(retry()).with_http_connector(connector).build()?)
        }
    })
}
