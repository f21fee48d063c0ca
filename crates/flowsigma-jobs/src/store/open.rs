//! From a URL and options to an object store.
//!
//! Owns: which URLs, options and environment variables are accepted, and which hosts they name. Must not know: jobs.
//!
//! Options name hosts and behaviour, the environment holds credentials, and nothing is in both: an option for a secret
//! is refused, and an endpoint of the environment is not read. Instance metadata and token services are hosts like any
//! other: without the option that names one, it is not asked.

use super::hosts::Environment;
use super::services::{Service, cloud};
use crate::error::{Error, Result as StoreResult};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use url::Url;

const FORMS: &str = "file:///path, s3://bucket/path, gs://bucket/path or az://container/path";

/// Returns the object store of a URL, with the URL's path as its root.
///
/// # Errors
///
/// If the URL, an option or the credentials cannot be used, or if a folder cannot be created.
pub(super) fn open(
    text: &str,
    options: &BTreeMap<String, String>,
    environment: Environment<'_>,
) -> StoreResult<Arc<dyn ObjectStore>> {
    let refused = |problem: String| Error::StoreUrl { url: without_credentials(text), problem };
    let url = Url::parse(text).map_err(|e| refused(format!("this is not a URL ({e}); use {FORMS}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(
            "the URL has a user or a password; credentials come from the environment".into(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("the URL has a query or a fragment; use [store.options]".into()));
    }
    let service = match url.scheme() {
        "file" => return local(&url, options).map_err(refused),
        "s3" => Service::S3,
        "gs" => Service::Gcs,
        "az" => Service::Azure,
        other => {
            return Err(refused(format!("the scheme {other} is not supported; use file, s3, gs or az")));
        }
    };
    cloud(service, &url, options, environment).map_err(refused)
}

/// Cuts off everything of a URL that may be a credential.
pub(super) fn without_credentials(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.into(),
        (_, None) => text.into(),
    }
}

fn local(url: &Url, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>, String> {
    if let Some(key) = options.keys().next() {
        return Err(format!("option {key}: file:// has no options"));
    }
    let folder = url
        .to_file_path()
        .map_err(|()| "this is not a folder of this host; use file:///path with three slashes".to_owned())?;
    create_folder(&folder).map_err(|e| format!("the folder cannot be created: {e}"))?;
    // With the clean-up, the folders of a dropped job are removed with their last object.
    let store =
        LocalFileSystem::new_with_prefix(&folder).map_err(|e| e.to_string())?.with_automatic_cleanup(true);
    Ok(Arc::new(store))
}

/// Creates a folder and its parents for the owner only. One that exists keeps its mode.
fn create_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
