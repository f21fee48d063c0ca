//! The URL of an Elasticsearch node. Pure.

use super::error::UrlProblem;
use url::Url;

/// Reads the URL of an Elasticsearch node, and makes its path end in `/`.
///
/// # Errors
///
/// If the text is not a URL, if its scheme is neither `http` nor `https`, or if it contains credentials, a query or a
/// fragment.
pub fn parse_node(text: &str) -> Result<Url, UrlProblem> {
    let mut url = Url::parse(text).map_err(UrlProblem::Malformed)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlProblem::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlProblem::Credentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(UrlProblem::QueryOrFragment);
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}
