//! The index template of findings.
//!
//! Owns: the types of a document's fields, and installing them. Must not know: how documents are made.

use elastic_client::{Connection, Error, Method, Request};
use elasticsearch::indices::IndicesPutIndexTemplateParts;
use serde_json::{Value, json};

/// The name of the template.
const NAME: &str = "flowsigma-alerts";
/// The indices to which the template applies.
pub const INDEX_PATTERN: &str = "flowsigma-alerts*";
/// Grows with each change of the mappings.
const VERSION: u32 = 2;
/// Above the templates that servers bring along, which have up to 100.
const PRIORITY: u32 = 200;

/// Installs the composable index template `flowsigma-alerts`, or replaces it. It applies to indices that are created
/// later and whose name matches [`INDEX_PATTERN`]. The caller checks that the connection says `write = true`.
///
/// # Errors
///
/// If the server refuses the template or does not confirm it.
pub async fn install_template(connection: &Connection) -> Result<(), Error> {
    let operation = format!("install index template \"{NAME}\"");
    let path = IndicesPutIndexTemplateParts::Name(NAME).url();
    let request = Request::new(Method::Put, path, &operation).with_body(&template());
    let response = connection.send(&request).await?.json(&operation)?;
    match response["acknowledged"] == true {
        true => Ok(()),
        false => Err(Error::Protocol { operation, detail: "the server did not acknowledge it".into() }),
    }
}

/// Checks that the template applies to an index.
///
/// # Errors
///
/// If it does not.
pub(crate) fn check_template(index: &str) -> Result<(), String> {
    let is_matched = index.starts_with(INDEX_PATTERN.trim_end_matches('*'));
    if is_matched {
        return Ok(());
    }
    Err(format!(
        "the template applies to indices {INDEX_PATTERN}, and not to {index:?}; rename the index, or remove template"
    ))
}

fn template() -> Value {
    let of = |kind: &str| json!({ "type": kind });
    let (keyword, date, long, double) = (of("keyword"), of("date"), of("long"), of("double"));
    let end = json!({ "properties": { "address": keyword, "ip": of("ip") } });
    json!({
        "index_patterns": [INDEX_PATTERN],
        "priority": PRIORITY,
        "version": VERSION,
        "_meta": { "managed_by": "flowsigma" },
        "template": { "mappings": { "properties": {
            "@timestamp": date,
            "message": of("text"),
            "ecs": { "properties": { "version": keyword } },
            "event": { "properties": {
                "kind": keyword, "category": keyword, "type": keyword,
                "module": keyword, "dataset": keyword, "id": keyword,
                "start": date, "end": date, "created": date,
            } },
            "rule": { "properties": { "name": keyword } },
            "related": { "properties": { "ip": of("ip"), "hosts": keyword } },
            "source": end,
            "destination": end,
            "flowsigma": { "properties": {
                "job": keyword,
                "window": { "properties": { "start": date, "end": date } },
                "revision": long,
                "state": keyword,
                "count": long,
                "mean": double,
                "stddev": double,
                "z": double,
                "direction": keyword,
                "outgoing": long,
                "incoming": long,
            } },
        } } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::document::document;
    use crate::sinks::test_server::{TestServer, response};
    use crate::sinks::tests::alert;

    /// Checks that each field of a document is in the mappings.
    fn check(document: &Value, mapping: &Value, path: &str) {
        match document.as_object() {
            None => assert!(mapping["type"].is_string(), "{path} has no type"),
            Some(fields) => {
                fields.iter().for_each(|(name, value)| {
                    check(value, &mapping["properties"][name], &format!("{path}.{name}"));
                });
            }
        }
    }

    #[test]
    fn each_field_of_a_document_has_a_type() {
        let template = template();
        for direction in ["outgoing", "incoming"] {
            let mut alert = alert(1);
            alert.finding.direction = direction.into();
            check(&document(&alert).unwrap(), &template["template"]["mappings"], "");
        }
    }

    #[tokio::test]
    async fn the_template_is_put_and_must_be_acknowledged() {
        let server = TestServer::start([
            response(200, r#"{"acknowledged":true}"#),
            response(200, r#"{"acknowledged":false}"#),
        ])
        .await;
        install_template(&server.connection(elastic_client::Access::Write)).await.unwrap();
        let error = install_template(&server.connection(elastic_client::Access::Write))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("did not acknowledge"), "{error}");
        let request = server.requests().remove(0);
        assert_eq!(
            (request.method.as_str(), request.uri.as_str()),
            ("PUT", "/_index_template/flowsigma-alerts")
        );
        assert_eq!(request.json(), template());
    }
}
