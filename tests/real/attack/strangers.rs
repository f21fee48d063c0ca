//! Those who are no member of the cluster, and what members do that they must not.

use super::{Ground, encoded, statement};
use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::serde::protobuf::executor_status::Status as ExecutorState;
use ballista_core::serde::protobuf::{
    ExecutorOperatingSystemSpecification, ExecutorRegistration, ExecutorStatus, ExecutorStoppedParams,
    HeartBeatParams, PollWorkParams, RegisterExecutorParams, UpdateTaskStatusParams,
};
use ballista_core::serde::scheduler::ExecutorSpecification;
use elastic_client::{Method, Request};
use flowsigma_node::Role;
use flowsigma_tests::caller::{Caller, Proof};
use flowsigma_tests::members::Members;
use serde_json::Value;
use tonic::{Code, Status};

const STRANGER: &str = "a-stranger";

fn registration() -> ExecutorRegistration {
    ExecutorRegistration {
        id: STRANGER.into(),
        host: Some("127.0.0.1".into()),
        port: 1,
        grpc_port: 2,
        specification: Some(ExecutorSpecification::default().with_vcores(64).into()),
        os_info: Some(ExecutorOperatingSystemSpecification::default()),
        ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
    }
}

/// All calls that only an executor makes.
pub(crate) async fn calls(caller: &Caller, executor: &str) -> Vec<(&'static str, Result<(), Status>)> {
    let mut scheduler = match caller.scheduler().await {
        Ok(scheduler) => scheduler,
        Err(status) => return vec![("connect", Err(status))],
    };
    let metadata = Some(registration());
    let register = RegisterExecutorParams { metadata: metadata.clone() };
    let poll = PollWorkParams { metadata: metadata.clone(), num_free_vcores: 64, task_status: Vec::new() };
    let state = ExecutorState::Terminating(String::new());
    let beat = HeartBeatParams {
        executor_id: executor.into(),
        metrics: Vec::new(),
        status: Some(ExecutorStatus { status: Some(state) }),
        metadata,
    };
    let update = UpdateTaskStatusParams { executor_id: executor.into(), task_status: Vec::new() };
    let stop = ExecutorStoppedParams { executor_id: executor.into(), reason: "attack".into() };
    vec![
        ("registers", scheduler.register_executor(caller.request(register)).await.map(|_| ())),
        ("asks for work", scheduler.poll_work(caller.request(poll)).await.map(|_| ())),
        ("sends a heartbeat", scheduler.heart_beat_from_executor(caller.request(beat)).await.map(|_| ())),
        ("reports tasks", scheduler.update_task_status(caller.request(update)).await.map(|_| ())),
        ("stops an executor", scheduler.executor_stopped(caller.request(stop)).await.map(|_| ())),
    ]
}

async fn executors(ground: &Ground) -> Vec<String> {
    let ask = Request::new(Method::Get, "/api/executors", "executors");
    let listed = ground.cluster.rest().unwrap().send(&ask).await.unwrap().json("executors").unwrap();
    let id =
        |executor: &Value| executor["id"].as_str().or(executor["executor_id"].as_str()).map(str::to_owned);
    listed.as_array().unwrap().iter().map(|executor| id(executor).unwrap_or_default()).collect()
}

pub(super) async fn as_executors(ground: &Ground) {
    if ground.is_open() {
        // Whoever reaches the port is an executor if it says so: that is what the flag says.
        return;
    }
    let real = executors(ground).await;
    ground.expect("the executors", real.len() == 1 && !real[0].is_empty(), &format!("{real:?}"));
    let theirs = Members::make().unwrap();
    let ours = || ground.certificates.authority().to_owned();
    let foreign =
        Proof::Certificate { authority: ours(), own: theirs.issue(Role::Executor, "executor").unwrap() };
    for (who, proof) in [
        ("without TLS", Proof::Plain),
        ("without a certificate", Proof::Tls { authority: ours() }),
        ("by a client's token", Proof::Token { authority: ours(), token: super::token("root") }),
        ("by an unknown token", Proof::Token { authority: ours(), token: "guessed".into() }),
        ("by a client's certificate", ground.certificates.proof(Role::Client, "root").unwrap()),
        ("by a client called executor", ground.certificates.proof(Role::Client, "executor").unwrap()),
        // An owner is one only of the cluster that was made for it.
        ("by an owner's certificate", ground.certificates.proof(Role::Owner, "owner").unwrap()),
        ("by a scheduler's certificate", ground.certificates.proof(Role::Scheduler, "scheduler").unwrap()),
        ("by another authority's certificate", foreign),
    ] {
        for (operation, response) in calls(&ground.with(proof), &real[0]).await {
            let row = format!("a stranger {operation} {who}");
            match response {
                // The handshake itself fails.
                Err(status) if who.starts_with("by another") => {
                    let expected = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal];
                    ground.expect(&row, expected.contains(&status.code()), &format!("{status:?}"));
                }
                response => ground.denied(&row, &response),
            }
        }
    }
    let now = executors(ground).await;
    ground.expect("the executors after the attacks", now == real, &format!("{now:?}"));
    // They still work, so nobody has stopped them.
    let plan = encoded(&statement("SELECT 7 AS seven").await);
    ground.done("a job after the attacks", &ground.caller("alice").run(&plan).await, "7");
}

/// Jobs and HTTP endpoints for callers that prove nothing.
pub(super) async fn as_anybody(ground: &Ground) {
    let plan = encoded(&statement("SELECT 1").await);
    let paths =
        ["/api/jobs", "/api/executors", "/api/metrics", "/api/state", "/api/contexts", "/api/openapi.json"];
    if ground.is_open() {
        ground.done("anyone submits a job", &ground.caller("anyone").run(&plan).await, "1");
        return;
    }
    let ours = || ground.certificates.authority().to_owned();
    for (who, proof) in [
        ("without TLS", Proof::Plain),
        ("without a certificate", Proof::Tls { authority: ours() }),
        ("by an unknown token", Proof::Token { authority: ours(), token: "guessed".into() }),
        ("by an empty token", Proof::Token { authority: ours(), token: String::new() }),
    ] {
        let caller = ground.with(proof);
        ground.refused(&format!("a job {who}"), &caller.run(&plan).await);
        for headers in [&[][..], &[("content-type", "application/grpc")]] {
            for path in paths {
                let (code, _, body) = caller.http("GET", path, headers).await.unwrap();
                ground.expect(&format!("{path} {who} {headers:?}"), code == 401, &format!("{code} {body}"));
            }
        }
        for path in ["/healthz", "/readyz"] {
            let (code, _, body) = caller.http("GET", path, &[]).await.unwrap();
            ground.expect(
                &format!("{path} {who}"),
                code == 200 && body.len() < 10,
                &format!("{code} {body}"),
            );
        }
    }
    // Members of the cluster submit no jobs.
    for role in [Role::Scheduler, Role::Executor] {
        let member = ground.with(ground.certificates.proof(role, "member").unwrap());
        ground.refused(&format!("a job of {role:?}"), &member.run(&plan).await);
    }
}
