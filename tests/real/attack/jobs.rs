//! Another identity's job, and tickets for rows.

use super::{Ground, Setup, encoded, statement};
use ballista_core::serde::protobuf::{
    CancelJobParams, CleanJobDataParams, FetchPartition, GetJobMetricsParams, GetJobStatusParams,
};
use flowsigma_node::Role;
use flowsigma_tests::caller::{Caller, Outcome, Proof, ticket_of};
use serde_json::Value;
use std::net::TcpListener;
use tonic::Status;

/// A job of alice that has ended, and where its rows are.
async fn job(ground: &Ground) -> (String, FetchPartition) {
    job_of(&ground.caller("alice")).await
}

async fn job_of(caller: &Caller) -> (String, FetchPartition) {
    let plan = encoded(&statement("SELECT 42 AS answer").await);
    let Outcome::Rows { job, .. } = caller.run(&plan).await else { panic!("it has no job") };
    let locations = caller.end(&job).await.unwrap().unwrap();
    (job, ticket_of(&locations[0]).unwrap())
}

async fn cancel(caller: &Caller, job_id: &str) -> Result<(), Status> {
    let params = CancelJobParams { job_id: job_id.into() };
    caller.scheduler().await?.cancel_job(caller.request(params)).await.map(|_| ())
}

async fn clean(caller: &Caller, job_id: &str) -> Result<(), Status> {
    let params = CleanJobDataParams { job_id: job_id.into(), remove_stage_ids: Vec::new() };
    caller.scheduler().await?.clean_job_data(caller.request(params)).await.map(|_| ())
}

async fn status(caller: &Caller, job_id: &str) -> Result<(), Status> {
    let params = GetJobStatusParams { job_id: job_id.into() };
    caller.scheduler().await?.get_job_status(caller.request(params)).await.map(|_| ())
}

async fn metrics(caller: &Caller, job_id: &str) -> Result<(), Status> {
    let params = GetJobMetricsParams { job_id: job_id.into() };
    caller.scheduler().await?.get_job_metrics(caller.request(params)).await.map(|_| ())
}

/// Whether the caller's list of jobs shows this one.
async fn lists(caller: &Caller, job: &str) -> bool {
    let (code, _, body) = caller.http("GET", "/api/jobs", &[]).await.unwrap();
    let jobs: Vec<Value> = serde_json::from_str(&body).unwrap_or_default();
    code == 200 && jobs.iter().any(|listed| listed["job_id"] == *job)
}

const PARTS: [&str; 4] = ["", "/stages", "/dot", "/config"];
/// As calls of gRPC say of themselves; of an HTTP endpoint it means nothing.
const AS_GRPC: (&str, &str) = ("content-type", "application/grpc");

pub(super) async fn of_others(ground: &Ground) {
    let (job, rows) = job(ground).await;
    if ground.is_open() {
        // All callers are the same one.
        ground.expect("anyone lists every job", lists(&ground.caller("bob"), &job).await, "not listed");
        return;
    }
    for name in ["bob", "nobody", "root"] {
        let caller = ground.caller(name);
        ground.denied(&format!("{name} asks its status"), &status(&caller, &job).await);
        ground.denied(&format!("{name} asks its metrics"), &metrics(&caller, &job).await);
        ground.denied(&format!("{name} cancels it"), &cancel(&caller, &job).await);
        ground.denied(&format!("{name} deletes its rows"), &clean(&caller, &job).await);
        ground.denied(&format!("{name} fetches its rows"), &caller.fetch(rows.clone()).await);
        ground.expect(&format!("{name} lists it"), !lists(&caller, &job).await, "it is listed");
        for headers in [&[][..], &[AS_GRPC]] {
            for part in PARTS {
                let path = format!("/api/job/{job}{part}");
                let (code, _, body) = caller.http("GET", &path, headers).await.unwrap();
                ground.expect(&format!("{name} reads {path} {headers:?}"), code == 403, &body);
            }
            let path = format!("/api/job/{job}");
            let (code, _, body) = caller.http("PATCH", &path, headers).await.unwrap();
            ground.expect(&format!("{name} cancels it by HTTP {headers:?}"), code == 403, &body);
        }
        for path in
            [format!("/api/job/x%2F..%2F{job}"), format!("/api//job/{job}"), format!("//api/job/{job}")]
        {
            let (code, _, body) = caller.http("GET", &path, &[]).await.unwrap();
            // A path that is none is answered with nothing, in gRPC's way.
            let refused = code >= 400 || body.is_empty();
            ground.expect(&format!("{name} reads {path}"), refused, &format!("{code} {body}"));
        }
    }
    let unknown = "0000000000000000";
    ground.denied("a job that is not", &status(&ground.caller("bob"), unknown).await);
    // Nobody who proves nothing gets its rows, unless by the id of a job that was submitted by a token: the client
    // fetches without it. See docs/security.md.
    let authority = || ground.certificates.authority().to_owned();
    ground.denied("without TLS", &ground.with(Proof::Plain).fetch(rows.clone()).await);
    let anonymous = ground.with(Proof::Tls { authority: authority() });
    match ground.setup {
        Setup::Tokens => {
            let row = "rows by the id of a token's job";
            ground.expect(row, anonymous.fetch(rows.clone()).await.is_ok(), "the client cannot fetch them");
            let other = FetchPartition { job_id: unknown.into(), ..rows.clone() };
            ground.denied("an id that is guessed", &anonymous.fetch(other).await);
        }
        Setup::Certificates | Setup::Open => {
            ground.denied("without a certificate", &anonymous.fetch(rows.clone()).await);
        }
    }
    for name in ["alice", "ops"] {
        let caller = ground.caller(name);
        let row = |operation: &str| format!("{name} {operation}");
        ground.expect(&row("asks its status"), status(&caller, &job).await.is_ok(), "refused");
        ground.expect(&row("asks its metrics"), metrics(&caller, &job).await.is_ok(), "refused");
        ground.expect(&row("lists it"), lists(&caller, &job).await, "not listed");
        ground.expect(&row("fetches its rows"), caller.fetch(rows.clone()).await.is_ok(), "refused");
        for part in ["", "/stages", "/config"] {
            let (code, _, body) = caller.http("GET", &format!("/api/job/{job}{part}"), &[]).await.unwrap();
            ground.expect(&row(&format!("reads {part}")), code == 200, &format!("{code} {body}"));
        }
        // It has ended, so that this changes nothing.
        ground.expect(&row("cancels it"), cancel(&caller, &job).await.is_ok(), "refused");
    }
}

/// `[access.robot]` is for the certificate "robot-host"; another certificate is called as the entry is.
pub(super) async fn of_a_namesake(ground: &Ground) {
    if ground.setup != Setup::Certificates {
        return;
    }
    let by_certificate = |name: &str| ground.with(ground.certificates.proof(Role::Client, name).unwrap());
    let (robot, namesake) = (by_certificate("robot-host"), by_certificate("robot"));
    let (job, rows) = job_of(&robot).await;
    ground.expect("who is listed lists its job", lists(&robot, &job).await, "not listed");
    ground.denied("a namesake asks its status", &status(&namesake, &job).await);
    ground.denied("a namesake fetches its rows", &namesake.fetch(rows).await);
    ground.expect("a namesake lists it", !lists(&namesake, &job).await, "it is listed");
}

/// Tickets name the host that rows are fetched from: never one of the caller's choice.
pub(super) async fn tickets_to_elsewhere(ground: &Ground) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (job, rows) = job(ground).await;
    let there = FetchPartition { host: "127.0.0.1".into(), port: u32::from(address.port()), ..rows.clone() };
    let alice = ground.caller("alice");
    let other_host = FetchPartition { host: format!("127.0.0.1:{}#", address.port()), ..rows.clone() };
    let other_user = FetchPartition { host: format!("x@127.0.0.1:{}/", address.port()), ..rows.clone() };
    for (row, ticket) in [
        ("another port", there.clone()),
        ("another host", FetchPartition { host: "localhost".into(), ..there.clone() }),
        ("a host that holds a port", other_host),
        ("a host that holds a user", other_user),
        ("a port that is too large", FetchPartition { port: rows.port + 65_536, ..rows.clone() }),
        ("no job's id", FetchPartition { job_id: String::new(), ..there.clone() }),
        ("a path as a job's id", FetchPartition { job_id: format!("../{job}"), ..rows.clone() }),
    ] {
        match alice.fetch(ticket).await {
            // Cut to 16 bits it is the executor's own port.
            Ok(_) if row == "a port that is too large" => {}
            response => ground.denied(row, &response),
        }
    }
    ground.denied(
        "nobody's ticket",
        &ground.caller("nobody").fetch(FetchPartition { job_id: "x".into(), ..there }).await,
    );

    // Directly at the executor.
    let executor = format!("https://127.0.0.1:{}", ground.cluster.executor_ports()[0]);
    let at = |proof: Proof| Caller::new(&executor, proof);
    if !ground.is_open() {
        let authority = || ground.certificates.authority().to_owned();
        for (row, proof) in [
            ("the executor without TLS", Proof::Plain),
            ("the executor without a certificate", Proof::Tls { authority: authority() }),
            (
                "the executor by a token",
                Proof::Token { authority: authority(), token: super::token("alice") },
            ),
            ("the executor by a client", ground.certificates.proof(Role::Client, "alice").unwrap()),
        ] {
            ground.denied(row, &at(proof).fetch(rows.clone()).await);
        }
        for role in [Role::Executor, Role::Scheduler] {
            let proof = ground.certificates.proof(role, "member").unwrap();
            let outside = FetchPartition { job_id: "../..".into(), ..rows.clone() };
            ground.expect("a member", at(proof.clone()).fetch(rows.clone()).await.is_ok(), "refused");
            let response = at(proof).fetch(outside).await;
            ground.expect("a member's ticket to a folder above", response.is_err(), "it gave rows");
        }
    }
    match listener.accept() {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
        other => ground.fail("the listener", &format!("somebody connected: {other:?}")),
    }
}
