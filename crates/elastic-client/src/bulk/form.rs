//! The body and the response of a bulk request.
//!
//! Owns: splitting documents into requests, and what the server says about each document. Must not know: how a request
//! is sent, or how often.

use crate::error::Error;
use bytes::Bytes;
use elasticsearch::http::request::Body;
use elasticsearch::{BulkOperation, BulkOperations};
use serde::{Deserialize, Serialize};

/// The most documents of one request.
const MAX_DOCUMENTS: usize = 1_000;
/// The largest body of one request, in bytes. A single larger document has a request of its own.
const MAX_BYTES: usize = 5_000_000;

/// The part of a response that is read.
pub(super) const RESPONSE_FILTER: &str = "items.*._id,items.*.status,items.*.error.type,items.*.error.reason";

/// A document as a bulk request has it: it is written under its id, and replaces one with the same id.
#[derive(Clone, Debug)]
pub struct BulkDocument {
    id: String,
    /// The action and the document, a line each.
    bytes: Bytes,
}

impl BulkDocument {
    /// Serializes a document.
    ///
    /// # Errors
    ///
    /// If the document cannot be written as JSON.
    pub fn try_new(id: &str, document: &impl Serialize) -> Result<Self, Error> {
        let mut operations = BulkOperations::new();
        operations
            .push(BulkOperation::index(document).id(id))
            .map_err(|e| Error::Refused(format!("document {id} cannot be written as JSON: {e}")))?;
        Ok(Self { id: id.into(), bytes: operations.bytes().unwrap_or_default() })
    }
}

/// Splits operations into those of one request each.
pub(super) fn split(operations: &[BulkDocument]) -> Vec<&[BulkDocument]> {
    let mut requests = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (place, operation) in operations.iter().enumerate() {
        let full = place - start == MAX_DOCUMENTS || bytes + operation.bytes.len() > MAX_BYTES;
        if full && place > start {
            requests.push(&operations[start..place]);
            (start, bytes) = (place, 0);
        }
        bytes += operation.bytes.len();
    }
    if start < operations.len() {
        requests.push(&operations[start..]);
    }
    requests
}

/// Returns the body of a request.
pub(super) fn body(operations: &[BulkDocument]) -> Bytes {
    operations.iter().flat_map(|document| document.bytes.iter().copied()).collect()
}

/// Why the server did not write a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The document.
    pub(super) id: String,
    /// The status of this document.
    pub(super) status: u16,
    /// The type of the error.
    pub(super) kind: String,
    /// The reason of the error.
    pub(super) reason: String,
}

impl Refusal {
    /// Returns whether the same document may be written later.
    pub(super) fn is_retryable(&self) -> bool {
        matches!(self.status, 429 | 500..)
    }
}

#[derive(Deserialize)]
struct BulkResponse {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: ItemResult,
}

#[derive(Deserialize)]
struct ItemResult {
    #[serde(rename = "_id")]
    id: String,
    status: u16,
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
}

/// Reads what the server did with each operation, in their order: `None` if it wrote the document.
///
/// # Errors
///
/// If the response is not about these documents.
pub(super) fn refusals(body: &[u8], sent: &[BulkDocument]) -> Result<Vec<Option<Refusal>>, String> {
    let response: BulkResponse = serde_json::from_slice(body)
        .map_err(|e| format!("the response to _bulk does not have the form that the API defines: {e}"))?;
    let is_about_sent = response.items.len() == sent.len()
        && response.items.iter().zip(sent).all(|(item, operation)| item.index.id == operation.id);
    if !is_about_sent {
        return Err(format!(
            "the response to _bulk has {} items that are not those of the {} documents sent",
            response.items.len(),
            sent.len()
        ));
    }
    Ok(response.items.into_iter().map(|item| refusal(item.index)).collect())
}

fn refusal(item: ItemResult) -> Option<Refusal> {
    let ItemResult { id, status, error } = item;
    if (200..300).contains(&status) && error.is_none() {
        return None;
    }
    let (kind, reason) = error.map_or((None, None), |error| (error.kind, error.reason));
    let or_none = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.into());
    Some(Refusal {
        id,
        status,
        kind: or_none(kind, "no type given"),
        reason: or_none(reason, "no reason given"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn operations(count: usize, bytes: usize) -> Vec<BulkDocument> {
        (0..count)
            .map(|n| BulkDocument { id: n.to_string(), bytes: Bytes::from(vec![b'x'; bytes]) })
            .collect()
    }

    #[test]
    fn an_operation_is_two_lines() {
        let operation = BulkDocument::try_new("a", &json!({ "b": 1 })).unwrap();
        let expected = "{\"index\":{\"_id\":\"a\"}}\n{\"b\":1}\n";
        assert_eq!(body(&[operation.clone(), operation]), [expected, expected].concat());
    }

    #[test]
    fn no_request_is_larger_than_allowed() {
        for (count, bytes, expected) in [
            (0, 1, vec![]),
            (1000, 1, vec![1000]),
            (1001, 1, vec![1000, 1]),
            (2000, 1, vec![1000, 1000]),
            (5, 2_500_000, vec![2, 2, 1]),
            (3, 2_500_001, vec![1, 1, 1]),
            (2, 6_000_000, vec![1, 1]),
        ] {
            let operations = operations(count, bytes);
            let requests = split(&operations);
            assert_eq!(requests.iter().map(|r| r.len()).collect::<Vec<_>>(), expected, "{count} of {bytes}");
            let ids: Vec<_> = requests.concat().into_iter().map(|document| document.id).collect();
            assert_eq!(ids, operations.iter().map(|document| document.id.clone()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn each_document_has_its_own_result() {
        let body = json!({ "items": [
            { "index": { "_id": "0", "status": 201 } },
            { "index": { "_id": "1", "status": 400, "error": { "type": "t", "reason": "r" } } },
            { "index": { "_id": "2", "status": 429, "error": { "type": "busy" } } },
            { "index": { "_id": "3", "status": 503 } },
        ] });
        let refusals = refusals(body.to_string().as_bytes(), &operations(4, 1)).unwrap();
        let refusal = |id: &str, status, kind: &str, reason: &str| {
            Some(Refusal { id: id.into(), status, kind: kind.into(), reason: reason.into() })
        };
        let expected = [
            None,
            refusal("1", 400, "t", "r"),
            refusal("2", 429, "busy", "no reason given"),
            refusal("3", 503, "no type given", "no reason given"),
        ];
        assert_eq!(refusals, expected);
        let retryable: Vec<bool> = refusals.iter().flatten().map(Refusal::is_retryable).collect();
        assert_eq!(retryable, [false, true, true]);
    }

    #[test]
    fn a_response_about_other_documents_proves_nothing() {
        let sent = operations(2, 1);
        for body in [
            "",
            "{}",
            r#"{"items":[]}"#,
            r#"{"items":[{"index":{"_id":"0","status":201}}]}"#,
            r#"{"items":[{"index":{"_id":"0","status":201}},{"index":{"_id":"2","status":201}}]}"#,
            r#"{"items":[{"index":{"_id":"0","status":201}},{"create":{"_id":"1","status":201}}]}"#,
        ] {
            refusals(body.as_bytes(), &sent).unwrap_err();
        }
    }
}
