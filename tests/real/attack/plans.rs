//! What is no logical plan of known nodes, and settings that are not listed.

use super::{Ground, encoded, node, statement};
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::{CreateUpdateSessionParams, KeyValuePair, RemoveSessionParams};
use ballista_elasticsearch::EsPhysicalCodec;
use datafusion::arrow::datatypes::Schema;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::logical_plan_node::LogicalPlanType;
use datafusion_proto::protobuf::{LogicalExtensionNode, LogicalPlanNode, PhysicalPlanNode};
use flowsigma_tests::caller::Outcome;
use prost::Message;
use std::sync::Arc;

pub(super) async fn of_other_kinds(ground: &Ground) {
    let caller = ground.caller("root");
    let empty = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
    let codec = EsPhysicalCodec::new(Arc::default());
    let physical = PhysicalPlanNode::try_from_physical_plan(empty, &codec).unwrap().encode_to_vec();
    let extension = |inputs: Vec<LogicalPlanNode>| {
        let node = LogicalExtensionNode { node: b"unknown".to_vec(), inputs };
        LogicalPlanNode { logical_plan_type: Some(LogicalPlanType::Extension(node)) }.encode_to_vec()
    };
    let one = statement("SELECT 1").await;
    let mut kinds = vec![
        ("a physical plan", Some(Query::PhysicalPlan(physical))),
        ("a Substrait plan", Some(Query::SubstraitPlan(b"\x0a\x00".to_vec()))),
        ("no plan", None),
        ("an empty plan", Some(Query::LogicalPlan(Vec::new()))),
        ("bytes that are no plan", Some(Query::LogicalPlan(vec![0xff; 64]))),
        ("an unknown node", Some(Query::LogicalPlan(extension(Vec::new())))),
        ("an unknown node over a plan", Some(Query::LogicalPlan(extension(vec![node(&one)])))),
    ];
    for sql in [
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t (a INT) STORED AS CSV LOCATION 'file:///etc/hostname'",
        "PREPARE p AS SELECT 1",
    ] {
        kinds.push((sql, Some(Query::LogicalPlan(encoded(&statement(sql).await)))));
    }
    for (row, query) in kinds {
        match caller.submit(query, &[], "").await {
            Err(status) => ground.denied::<()>(row, &Err(status)),
            Ok(job) => ground.fail(row, &format!("it is job {job}")),
        }
    }
    ground.done("a logical plan", &caller.run(&encoded(&one)).await, "1");
}

pub(super) async fn with_settings(ground: &Ground) {
    let plan = encoded(&statement("SELECT 1").await);
    let caller = ground.caller("alice");
    for (key, value) in [
        ("ballista.testing.chaos_execution.enabled", "true"),
        ("datafusion.catalog.location", "file:///"),
        ("datafusion.catalog.format", "CSV"),
        ("datafusion.runtime.temp_directory", "/tmp"),
        ("no.such.key", "x"),
    ] {
        let outcome = caller.run_with(&plan, &[(key, value)], "").await;
        ground.refused(&format!("a job with {key}"), &outcome);
        let made = session(ground, "alice", "settings", &[(key, value)]).await;
        ground.denied(&format!("a session with {key}"), &made);
    }
    let listed = [("datafusion.execution.batch_size", "77")];
    ground.done("a job with a smaller batch", &caller.run_with(&plan, &listed, "").await, "1");

    // Sessions of the same name are apart.
    let row = "bob names alice's session";
    if let Err(status) = session(ground, "alice", "shared", &listed).await {
        ground.fail(row, &format!("alice's session: {status:?}"));
    }
    if ground.is_open() {
        return;
    }
    let bob = ground.caller("bob");
    match bob.run_with(&plan, &[], "shared").await {
        Outcome::Rows { job, .. } => {
            let path = format!("/api/job/{job}/config");
            let (status, _, config) = bob.http("GET", &path, &[]).await.unwrap();
            ground.expect(row, status == 200 && !config.contains("\"77\""), &format!("{status} {config}"));
        }
        other => ground.fail(row, &format!("{other:?}")),
    }
    let removed = async {
        let params = RemoveSessionParams { session_id: "shared".into() };
        bob.scheduler().await?.remove_session(bob.request(params)).await
    };
    // That of his own, of the same name.
    ground.expect(row, removed.await.is_ok(), "bob cannot remove his own");
}

async fn session(
    ground: &Ground,
    name: &str,
    session: &str,
    settings: &[(&str, &str)],
) -> Result<(), tonic::Status> {
    let caller = ground.caller(name);
    let pair = |&(key, value): &(&str, &str)| KeyValuePair { key: key.into(), value: Some(value.into()) };
    let params = CreateUpdateSessionParams {
        session_id: session.into(),
        settings: settings.iter().map(pair).collect(),
    };
    caller.scheduler().await?.create_update_session(caller.request(params)).await.map(|_| ())
}
