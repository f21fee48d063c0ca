//! Findings as documents of an index.
//!
//! Owns: the fields of a document, in the names of the Elastic Common Schema (ECS). Must not know: requests, or the
//! types of the fields in an index, which the template has.

use crate::alert::{Alert, AlertState};
use crate::manifest::Finding;
use serde_json::{Value, json};
use std::net::IpAddr;

/// The version of ECS whose fields are used.
const ECS_VERSION: &str = "8.17.0";

/// Returns the document of a finding.
///
/// # Errors
///
/// If its direction is neither `outgoing` nor `incoming`.
pub(super) fn document(alert: &Alert) -> Result<Value, String> {
    let finding = &alert.finding;
    let (end, count) = match finding.direction.as_str() {
        "outgoing" => ("source", finding.outgoing),
        "incoming" => ("destination", finding.incoming),
        other => {
            return Err(format!(
                "finding {} has the direction {other:?}; expected \"outgoing\" or \"incoming\"",
                alert.id
            ));
        }
    };
    let mut document = json!({
        "@timestamp": alert.window.end,
        "message": message(alert, count),
        "ecs": { "version": ECS_VERSION },
        "event": {
            "kind": "alert",
            "category": ["network"],
            "type": ["info"],
            "module": "flowsigma",
            "dataset": "flowsigma.alert",
            "id": alert.id,
            "start": alert.window.start,
            "end": alert.window.end,
            "created": alert.detected,
        },
        "rule": { "name": alert.job },
        "flowsigma": {
            "job": alert.job,
            "window": alert.window,
            "revision": alert.revision,
            "state": alert.state,
            "count": count,
            "mean": finding.mean,
            "stddev": finding.stddev,
            "z": finding.z,
            "direction": finding.direction,
            "outgoing": finding.outgoing,
            "incoming": finding.incoming,
        },
    });
    // An index may have names where addresses belong. A field of type `ip` would reject the document.
    let address = &finding.address;
    (document[end], document["related"]) = match address.parse::<IpAddr>() {
        Ok(_) => (json!({ "address": address, "ip": address }), json!({ "ip": [address] })),
        Err(_) => (json!({ "address": address }), json!({ "hosts": [address] })),
    };
    Ok(document)
}

fn message(alert: &Alert, count: u64) -> String {
    let Finding { address, direction, mean, z, .. } = &alert.finding;
    let withdrawn = match alert.state {
        AlertState::New | AlertState::Amended => "",
        AlertState::Withdrawn => "withdrawn: ",
    };
    format!("{withdrawn}{address}: {count} {direction} flows, z {z:.1} (mean {mean:.1})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::alert;

    #[test]
    fn a_finding_has_the_fields_of_ecs() {
        let id = format!("{:064x}", 1);
        assert_eq!(
            document(&alert(1)).unwrap(),
            json!({
                "@timestamp": "2026-01-01T01:00:00Z",
                "message": "10.0.0.1: 90 outgoing flows, z 35.0 (mean 10.5)",
                "ecs": { "version": "8.17.0" },
                "event": {
                    "kind": "alert", "category": ["network"], "type": ["info"],
                    "module": "flowsigma", "dataset": "flowsigma.alert", "id": id,
                    "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z",
                    "created": "2026-01-01T01:06:00Z",
                },
                "rule": { "name": "scan" },
                "source": { "address": "10.0.0.1", "ip": "10.0.0.1" },
                "related": { "ip": ["10.0.0.1"] },
                "flowsigma": {
                    "job": "scan",
                    "window": { "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z" },
                    "revision": 1, "state": "new", "count": 90, "mean": 10.5, "stddev": 2.25, "z": 35.0,
                    "direction": "outgoing", "outgoing": 90, "incoming": 4,
                },
            })
        );
    }

    #[test]
    fn an_incoming_finding_is_about_a_destination() {
        let mut incoming = alert(1);
        incoming.finding.direction = "incoming".into();
        incoming.finding.address = "printer".into();
        let document = document(&incoming).unwrap();
        assert_eq!(document["destination"], json!({ "address": "printer" }));
        assert_eq!(document["related"], json!({ "hosts": ["printer"] }));
        assert_eq!((&document["source"], &document["flowsigma"]["count"]), (&Value::Null, &json!(4)));
    }

    #[test]
    fn another_direction_is_an_error() {
        let mut alert = alert(1);
        alert.finding.direction = "both".into();
        let error = document(&alert).unwrap_err();
        assert!(error.contains(&alert.id) && error.contains("\"both\""), "{error}");
    }
}
