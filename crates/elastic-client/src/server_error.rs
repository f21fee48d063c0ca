//! The meaning of a server's error responses.
//!
//! Owns: the form of error bodies, which errors are retryable, and the hints for the others. Must not know: how a
//! request was sent.

use crate::error::is_retryable_status;
use elasticsearch::http::response::Exception;
use serde::de::IgnoredAny;
use serde_json::Value;

const NO_REASON: &str = "no reason given";

/// A response whose status is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerError {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The type of the cause, such as `index_not_found_exception`; empty if the body has none.
    pub(crate) kind: String,
    /// The reason of the most specific cause.
    pub(crate) reason: String,
}

impl ServerError {
    /// Reads an error body. A body that is not JSON is not quoted, because a proxy may have put secrets in it.
    pub(crate) fn parse(status: u16, body: &[u8]) -> Self {
        let (kind, reason) = cause(body);
        Self { status, kind, reason }
    }

    /// Returns the error of a redirect. It names only the origin, because the path and the query may contain secrets.
    pub(crate) fn redirect(status: u16, origin: &str) -> Self {
        Self { status, kind: "redirect".into(), reason: format!("the server points to {origin}") }
    }

    /// Returns whether the server reports a temporary failure. An aggregation has too many groups each time, although
    /// the status of that error is 503 before Elasticsearch 8.
    pub(crate) fn is_retryable(&self) -> bool {
        is_retryable_status(self.status) && self.kind != "too_many_buckets_exception"
    }

    /// Returns whether the server has lost one of its Elasticsearch nodes. First the connection to the node fails.
    /// After the server has removed the node, points in time and scrolls on it fail with other errors.
    pub(crate) fn is_lost_node(&self) -> bool {
        let reason = self.reason.as_str();
        match self.kind.as_str() {
            "node_disconnected_exception" | "node_not_connected_exception" => true,
            // While a shard loses its last copy, a search fails without the reason of any shard.
            "search_phase_execution_exception" => {
                self.status == 500 && ["", "all shards failed", "Partial shards failure"].contains(&reason)
            }
            "illegal_state_exception" => {
                reason.starts_with("no node found for id")
                    || (reason.starts_with("node [") && reason.ends_with("is not available"))
            }
            _ => false,
        }
    }

    /// Returns what the user can do about the error, as text that follows the reason. Empty if nothing is known.
    pub(crate) fn hint(&self) -> &'static str {
        match (self.status, self.kind.as_str()) {
            (300..=399, _) => {
                "; redirects are not followed, name the Elasticsearch node itself in this connection"
            }
            (401, _) => "; check the credentials of this connection",
            (403, _) => {
                "; this user needs read and view_index_metadata on the index, and on OpenSearch the \
                 permissions to open points in time, which read = \"scroll\" does not need"
            }
            (404, "search_context_missing_exception") => {
                "; the search context expired: raise keep_alive; if its Elasticsearch node was restarted, \
                 run the statement again"
            }
            (404, "index_not_found_exception") => "; check the index name",
            _ => "",
        }
    }
}

/// Returns the type and the reason of the most specific cause in an error body.
fn cause(body: &[u8]) -> (String, String) {
    let Ok(exception) = serde_json::from_slice::<Exception>(body) else {
        let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        return (String::new(), if is_json { NO_REASON } else { "the response is not JSON" }.to_owned());
    };
    let error = exception.error();
    // The official client's type has no field for failed shards: they are among its additional details.
    let shard = error.additional_details().get("failed_shards").map(|shards| &shards[0]["reason"]);
    let root = error.root_cause().first();
    let causes = [
        shard.map(|shard| in_json(&shard["caused_by"])),
        shard.map(in_json),
        root.map(|root| (root.ty(), root.reason())),
        Some((error.ty(), error.reason())),
    ];
    let told = causes.into_iter().flatten().find(|(kind, reason)| kind.is_some() || reason.is_some());
    let (kind, reason) = told.unwrap_or_default();
    (kind.unwrap_or_default().to_owned(), reason.unwrap_or(NO_REASON).to_owned())
}

fn in_json(cause: &Value) -> (Option<&str>, Option<&str>) {
    (cause["type"].as_str(), cause["reason"].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &str) -> (String, String) {
        let error = ServerError::parse(500, body.as_bytes());
        (error.kind, error.reason)
    }

    #[test]
    fn too_many_groups_are_not_requested_again() {
        let error = |kind: &str| json!({ "error": { "type": kind, "reason": "r" } }).to_string();
        for (kind, retryable) in
            [("too_many_buckets_exception", false), ("es_rejected_execution_exception", true)]
        {
            assert_eq!(ServerError::parse(503, error(kind).as_bytes()).is_retryable(), retryable, "{kind}");
        }
    }

    #[test]
    fn the_most_telling_cause_of_a_body_is_taken() {
        let cause = |kind: &str, reason: &str| json!({ "type": kind, "reason": reason });
        let all = json!({ "error": {
            "type": "search_phase_execution_exception",
            "reason": "all shards failed",
            "root_cause": [cause("root", "r")],
            "failed_shards": [{ "shard": 0, "reason": {
                "type": "shard", "reason": "s", "caused_by": cause("deep", "d"),
            } }],
        }, "status": 500 });
        let without = |part: &str, of: &str| {
            let mut less = all.clone();
            less.pointer_mut(of).unwrap().as_object_mut().unwrap().remove(part);
            less
        };
        let mut bare = without("failed_shards", "/error");
        bare["error"]["root_cause"] = json!([]);
        for (body, kind, reason) in [
            (all.clone(), "deep", "d"),
            (without("caused_by", "/error/failed_shards/0/reason"), "shard", "s"),
            (without("failed_shards", "/error"), "root", "r"),
            (bare, "search_phase_execution_exception", "all shards failed"),
            (json!({ "error": "no handler found", "status": 400 }), "", "no handler found"),
            (json!({ "error": { "type": "x_exception", "reason": null } }), "x_exception", "no reason given"),
            (
                json!({ "error": { "type": "x_exception", "header": { "a": "b" } } }),
                "x_exception",
                "no reason given",
            ),
            (json!({ "error": 5 }), "", "no reason given"),
            (json!({ "acknowledged": false }), "", "no reason given"),
            (json!([]), "", "no reason given"),
        ] {
            assert_eq!(parse(&body.to_string()), (kind.to_owned(), reason.to_owned()), "{body}");
        }
        for body in ["", "<html>secret</html>", "{\"error\":"] {
            assert_eq!(parse(body), (String::new(), "the response is not JSON".to_owned()), "{body}");
        }
    }

    #[test]
    fn a_lost_node_is_told_from_other_errors() {
        let error = |status, kind: &str, reason: &str| ServerError {
            status,
            kind: kind.into(),
            reason: reason.into(),
        };
        for (status, kind, reason, lost) in [
            (500, "node_disconnected_exception", "[n1] disconnected", true),
            (500, "node_not_connected_exception", "", true),
            (500, "search_phase_execution_exception", "all shards failed", true),
            (503, "search_phase_execution_exception", "all shards failed", false),
            (500, "search_phase_execution_exception", "too many buckets", false),
            (500, "illegal_state_exception", "no node found for id: n1", true),
            (500, "illegal_state_exception", "node [n1] is not available", true),
            (500, "illegal_state_exception", "node [n1] is busy", false),
            (404, "search_context_missing_exception", "No search context found", false),
        ] {
            assert_eq!(error(status, kind, reason).is_lost_node(), lost, "{status} {kind} {reason}");
        }
    }
}
