//! One request and its answer, as whoever sends it sees them.
//!
//! Owns: what can be said of a request. Must not know: nodes, or how it is sent.

use crate::error::Error;
use bytes::Bytes;
use serde_json::Value;
use url::Url;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Asks whether something is there.
    Head,
    /// Searches, and opens.
    Post,
    /// Makes.
    Put,
    /// Frees.
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

/// Whether the same request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotence {
    /// Yes: the server's state is the same after one or two.
    Idempotent,
    /// No: a scroll page moves on whether or not its answer arrived.
    NotIdempotent,
}

/// One request, on whichever node.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Absolute path, percent-encoded.
    pub path: String,
    /// Query string parameters.
    pub params: Vec<(&'static str, String)>,
    /// JSON (or NDJSON) body.
    pub body: Option<Bytes>,
    /// Whether it may be repeated.
    pub idempotence: Idempotence,
    /// The largest answer that is taken; any if none.
    pub max_bytes: Option<usize>,
    /// What it is for, as errors say it: `search: index "flows" slice 3/8`.
    pub operation: String,
}

impl Request {
    /// A request without body or parameters, that may be repeated.
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

    /// Refuses a larger answer.
    pub fn with_max_bytes(mut self, max: usize) -> Self {
        self.max_bytes = Some(max);
        self
    }

    /// The address of this request on a node.
    ///
    /// # Errors
    /// If the path is not sent as it stands, such as one with `..`, which would leave the node's own path.
    pub(crate) fn url(&self, node: &Url) -> Result<Url, Error> {
        let path = format!("{}{}", node.path().trim_end_matches('/'), self.path);
        let mut url = node.clone();
        url.set_path(&path);
        if self.path.starts_with('/') && url.path() == path {
            return Ok(url);
        }
        Err(Error::Refused(format!(
            "{}: the path {:?} would ask another API than it names",
            self.operation, self.path
        )))
    }

    /// Forbids or allows a second sending.
    pub fn with_idempotence(mut self, idempotence: Idempotence) -> Self {
        self.idempotence = idempotence;
        self
    }
}

/// A successful answer.
#[derive(Debug)]
pub struct Response {
    /// The body, whole.
    pub body: Bytes,
    /// Whether the server called itself Elasticsearch in `X-Elastic-Product`.
    pub elastic_product: bool,
    /// How many retries it took.
    pub retries: u32,
}

impl Response {
    /// The body as JSON.
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
