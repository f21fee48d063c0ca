//! Probes and metrics by HTTP.
//!
//! Owns: the paths, and what they return. Must not know: jobs.
//!
//! `/healthz` returns 200 while the loop lives, with a line for each problem: a restart does not make a job file
//! correct or a server respond. `/readyz` returns 200 once the job files were read.

use super::status::Status;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Returns the routes `/healthz`, `/readyz` and `/metrics`.
pub fn router(status: Arc<Status>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(status)
}

/// Serves the routes until a future resolves.
///
/// # Errors
///
/// If the listener fails.
pub async fn serve_http(
    listener: TcpListener,
    status: Arc<Status>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(status)).with_graceful_shutdown(stop).await
}

async fn healthz(State(status): State<Arc<Status>>) -> Response {
    if !status.is_alive() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the loop that reads job files hangs\n").into_response();
    }
    let problems = status.problems().into_iter().map(|problem| problem + "\n");
    (StatusCode::OK, "ok\n".to_owned() + &problems.collect::<String>()).into_response()
}

async fn readyz(State(status): State<Arc<Status>>) -> Response {
    if status.is_ready() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the job files were not read yet\n").into_response()
    }
}

async fn metrics(State(status): State<Arc<Status>>) -> Response {
    match status.metrics() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics were not encoded");
            (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded; see the log\n")
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::test_data::hour;
    use std::collections::BTreeSet;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn probes_and_metrics_are_served() {
        let status = Arc::new(Status::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve_http(listener, Arc::clone(&status), stop.clone().cancelled_owned()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = async |path: &str| {
            let response = client.get(format!("{url}{path}")).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        assert_eq!(get("/readyz").await.0, 503);
        status.ready();
        assert_eq!(get("/readyz").await, (200, "ok\n".into()));
        status.add("hourly", hour(0).start);
        status.failing("hourly", true);
        status.wrong_files(["hourly".to_owned()].into_iter(), BTreeSet::from(["new".to_owned()]));
        let problems =
            "ok\njob \"new\": the job file is wrong\njob \"hourly\": the last run failed, or a sink did\n";
        assert_eq!(get("/healthz").await, (200, problems.into()));
        let (code, text) = get("/metrics").await;
        assert_eq!(code, 200);
        for line in [
            "flowsigma_job_failures_total{name=\"hourly\"} 0",
            "flowsigma_job_file_errors{name=\"hourly\"} 0",
            "flowsigma_job_file_errors{name=\"new\"} 1",
            "flowsigma_job_last_success_timestamp_seconds{name=\"hourly\"} 1767225600",
            "# TYPE flowsigma_job_documents_total counter",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert_eq!(get("/").await.0, 404);
        stop.cancel();
        served.await.unwrap().unwrap();
    }
}
