//! Admission for the scheduler's HTTP endpoints.
//!
//! Owns: which caller may request which path, and which jobs a list shows. Must not know: the other content of
//! responses.

use super::Admission;
use super::flight::ProxiedResults;
use super::identity::{Identity, Refusal};
use super::service::Admitted;
use arrow_flight::flight_service_server::FlightServiceServer;
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use flowsigma_node::Jobs;
use http::header::{CONTENT_LENGTH, ORIGIN, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::server::NamedService;

/// The gRPC services, which check their callers themselves.
const GRPC: [&str; 2] = [SchedulerGrpcServer::<Admitted>::NAME, FlightServiceServer::<ProxiedResults>::NAME];
/// The paths of health probes. They report only whether the process works.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];
/// The largest list of jobs that is filtered, in bytes.
const MAX_LIST_BYTES: usize = 64 << 20;

/// How browsers may use the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browsers {
    /// Requests from pages of other origins are rejected, and `/` returns 404.
    Refused,
    /// As the CORS options of the scheduler allow.
    AsConfigured,
}

/// Admits a request if its caller may request the path. It is a layer over Ballista's routes.
pub(crate) async fn admit_http(
    State((admission, browsers)): State<(Arc<Admission>, Browsers)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    if is_grpc(&path) || PROBES.contains(&path.as_str()) {
        return next.run(request).await;
    }
    // A CORS preflight request. It reaches no endpoint, and a browser sends no credentials with it.
    if browsers == Browsers::AsConfigured && request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    if browsers == Browsers::Refused {
        // A page of another origin may send requests, although it cannot read the responses.
        if request.headers_mut().remove(ORIGIN).is_some() && request.method() != Method::GET {
            return refuse(&Refusal::Forbidden(
                "requests of web pages are refused: see --cors-allowed-origins".into(),
            ));
        }
        if path == "/" {
            return StatusCode::NOT_FOUND.into_response();
        }
    }
    let identity = match admission.identify(request.extensions(), request.headers()) {
        Ok(identity) => identity,
        Err(refusal) => return refuse(&refusal),
    };
    if path == "/api/contexts" && request.method() == Method::GET {
        return Json(admission.open_contexts(&identity)).into_response();
    }
    if let Some(rest) = path.strip_prefix("/api/job/") {
        let id = rest.split('/').next().unwrap_or_default();
        if let Err(refusal) = admission.jobs.visible(id, &identity) {
            return refuse(&refusal);
        }
    }
    let lists_jobs = path == "/api/jobs";
    let response = next.run(request).await;
    if lists_jobs && identity.grants.jobs == Jobs::Own {
        only_own(&admission, &identity, response).await
    } else {
        response
    }
}

/// Whether a path is a method of a gRPC service. The content type of the request does not count, because a request
/// to an HTTP endpoint may have the same.
fn is_grpc(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|rest| rest.split_once('/')).map(|(service, _)| service);
    service.is_some_and(|service| GRPC.contains(&service))
}

async fn only_own(admission: &Admission, identity: &Identity, response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let listed = match to_bytes(body, MAX_LIST_BYTES).await {
        Ok(bytes) => serde_json::from_slice::<Vec<Value>>(&bytes),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let Ok(mut jobs) = listed else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    jobs.retain(|job| job["job_id"].as_str().is_some_and(|id| admission.jobs.visible(id, identity).is_ok()));
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(Value::from(jobs).to_string()))
}

fn refuse(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Unknown(_) => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
        Refusal::Unsupported(_) => StatusCode::BAD_REQUEST,
    };
    let body = Json(json!({ "http_code": status.as_u16(), "error": refusal.to_string() }));
    match refusal {
        Refusal::Unknown(_) => (status, [(WWW_AUTHENTICATE, "Bearer")], body).into_response(),
        Refusal::Forbidden(_) | Refusal::Unsupported(_) => (status, body).into_response(),
    }
}
