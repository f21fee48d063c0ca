//! A request and its response.
//!
//! Owns: the parts of a request. Must not know: Elasticsearch nodes, or how a request is sent.

use crate::error::Error;
use bytes::Bytes;
use serde_json::Value;
use url::Url;

/// The HTTP method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`: reads.
    Get,
    /// `HEAD`: checks whether something exists.
    Head,
    /// `POST`: searches, or opens a search context.
    Post,
    /// `PUT`: creates.
    Put,
    /// `DELETE`: closes a search context, or deletes.
    Delete,
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Delete => Self::DELETE,
        }
    }
}

/// Whether the same request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotence {
    /// The request may be retried, because the server's state is the same after one or two of them.
    Idempotent,
    /// The request is not retried. A scroll, for example, advances even if the response is lost.
    NotIdempotent,
}

/// A request to any Elasticsearch node of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// The absolute path, percent-encoded.
    pub path: String,
    /// The parameters of the query string.
    pub params: Vec<(&'static str, String)>,
    /// The body, in JSON or NDJSON.
    pub body: Option<Bytes>,
    /// Whether the request may be retried.
    pub idempotence: Idempotence,
    /// The largest response body, in bytes. `None` for no limit.
    pub max_bytes: Option<usize>,
    /// The purpose of the request, for errors and logs: `search: index "flows" slice 3/8`.
    pub operation: String,
}

impl Request {
    /// Returns an idempotent request without parameters, body or limit.
    pub fn new(method: Method, path: impl Into<String>, operation: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            params: Vec::new(),
            body: None,
            idempotence: Idempotence::Idempotent,
            max_bytes: None,
            operation: operation.into(),
        }
    }

    /// Adds a query string parameter.
    pub fn with_param(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.params.push((key, value.into()));
        self
    }

    /// Sets the JSON body.
    pub fn with_body(mut self, body: &Value) -> Self {
        self.body = Some(Bytes::from(body.to_string()));
        self
    }

    /// Sets the largest response body, in bytes.
    pub fn with_max_bytes(mut self, max: usize) -> Self {
        self.max_bytes = Some(max);
        self
    }

    /// Returns the URL of this request on an Elasticsearch node.
    ///
    /// # Errors
    ///
    /// If the URL would change the path. A `..` for example would leave the path prefix of the node.
    pub(crate) fn url(&self, node: &Url) -> Result<Url, Error> {
        let path = format!("{}{}", node.path().trim_end_matches('/'), self.path);
        let mut url = node.clone();
        url.set_path(&path);
        if self.path.starts_with('/') && url.path() == path {
            return Ok(url);
        }
        Err(Error::Refused(format!(
            "{}: the path {:?} is not sent, because it resolves to another API",
            self.operation, self.path
        )))
    }

    /// Sets whether the request may be retried.
    pub fn with_idempotence(mut self, idempotence: Idempotence) -> Self {
        self.idempotence = idempotence;
        self
    }
}

/// A response with a 2xx status.
#[derive(Debug)]
pub struct Response {
    /// The complete body.
    pub body: Bytes,
    /// Whether the response has the header `X-Elastic-Product: Elasticsearch`.
    pub elastic_product: bool,
    /// The number of retries before this response.
    pub retries: u32,
}

impl Response {
    /// Returns the body as JSON.
    ///
    /// # Errors
    ///
    /// If the body is not JSON. The error names the operation.
    pub fn json(&self, operation: &str) -> Result<Value, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::Protocol { operation: operation.into(), detail: format!("not JSON: {e}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_that_of_its_node() {
        let url = |node: &str, path: &str| {
            let node = Url::parse(node).unwrap();
            Request::new(Method::Get, path, "ask").url(&node).map(|url| url.to_string()).ok()
        };
        for (node, path, expected) in [
            ("http://es/", "/", "http://es/"),
            ("http://es/logs/", "/", "http://es/logs/"),
            ("http://es/logs/", "/a/_mapping", "http://es/logs/a/_mapping"),
            ("http://es/logs/", "/%3Ca-%7Bnow%2Fd%7D%3E/_pit", "http://es/logs/%3Ca-%7Bnow%2Fd%7D%3E/_pit"),
            ("http://es/l%20s/", "/a", "http://es/l%20s/a"),
        ] {
            assert_eq!(url(node, path).as_deref(), Some(expected));
        }
        for path in [
            "",
            "a",
            "/..",
            "/../_search",
            "/./a",
            "/a/..",
            "/%2e%2E/a",
            "/.%2e/a",
            "/a?b",
            "/a#b",
            r"/a\b",
            "/a b",
        ] {
            for node in ["http://es/", "http://es/logs/"] {
                assert_eq!(url(node, path), None, "{path}");
            }
        }
    }
}
