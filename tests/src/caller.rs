//! Callers of a cluster that are none of its own programs: what they prove is chosen, and so is each byte they send.
//!
//! Owns: gRPC, Flight and HTTP calls with a chosen proof. Must not know: what a test expects of them.

use anyhow::{Context, Result};
use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use ballista_core::serde::protobuf::action::ActionType;
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::execute_query_result;
use ballista_core::serde::protobuf::job_status::Status as JobEnd;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    Action, ExecuteQueryParams, FetchPartition, GetJobStatusParams, KeyValuePair, PartitionLocation,
};
use ballista_core::version::insert_version_header;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use flowsigma_node::Issued;
use futures::TryStreamExt;
use prost::Message;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use std::time::{Duration, Instant};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

/// A call that has no answer by then has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A job that has not ended by then never does.
const JOB_TIMEOUT: Duration = Duration::from_secs(60);

/// What a caller proves about itself.
#[derive(Clone)]
pub enum Proof {
    /// Nothing, without TLS.
    Plain,
    /// Nothing, by TLS; `authority` is whom it trusts itself.
    Tls {
        /// PEM.
        authority: String,
    },
    /// A certificate.
    Certificate {
        /// Whom it trusts itself, PEM.
        authority: String,
        /// What it shows.
        own: Issued,
    },
    /// A bearer token, by TLS.
    Token {
        /// Whom it trusts itself, PEM.
        authority: String,
        /// What it sends.
        token: String,
    },
}

/// What became of a job.
#[derive(Debug)]
pub enum Outcome {
    /// It was not taken.
    Refused(Status),
    /// It was taken, and failed.
    Failed(String),
    /// It gave these rows.
    Rows {
        /// The job's id.
        job: String,
        /// As a table.
        text: String,
    },
}

/// Somebody who calls one address.
#[derive(Clone)]
pub struct Caller {
    authority: String,
    proof: Proof,
}

impl Caller {
    /// Calls `url`, such as `https://127.0.0.1:50050`; whether by TLS is said by `proof`.
    pub fn new(url: &str, proof: Proof) -> Self {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        Self { authority: authority.trim_end_matches('/').to_owned(), proof }
    }

    fn url(&self) -> String {
        let scheme = if matches!(self.proof, Proof::Plain) { "http" } else { "https" };
        format!("{scheme}://{}", self.authority)
    }

    async fn channel(&self) -> Result<Channel, Status> {
        let failed = |e: tonic::transport::Error| {
            let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            Status::unavailable(format!("{e}: {cause}"))
        };
        let endpoint = Endpoint::from_shared(self.url()).map_err(failed)?.timeout(CALL_TIMEOUT);
        let tls = |authority: &str| ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        let endpoint = match &self.proof {
            Proof::Plain => endpoint,
            Proof::Tls { authority } | Proof::Token { authority, .. } => {
                endpoint.tls_config(tls(authority)).map_err(failed)?
            }
            Proof::Certificate { authority, own } => endpoint
                .tls_config(tls(authority).identity(Identity::from_pem(&own.certificate, &own.key)))
                .map_err(failed)?,
        };
        endpoint.connect().await.map_err(failed)
    }

    /// A message with what the caller proves by it.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        insert_version_header(request.metadata_mut());
        if let Proof::Token { token, .. } = &self.proof
            && let Ok(value) = format!("Bearer {token}").parse()
        {
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    /// A client of the scheduler's gRPC service.
    pub async fn scheduler(&self) -> Result<SchedulerGrpcClient<Channel>, Status> {
        Ok(SchedulerGrpcClient::new(self.channel().await?))
    }

    /// Submits a job and returns its id.
    pub async fn submit(
        &self,
        query: Option<Query>,
        settings: &[(&str, &str)],
        session: &str,
    ) -> Result<String, Status> {
        let pair = |&(key, value): &(&str, &str)| KeyValuePair {
            key: key.to_owned(),
            value: Some(value.to_owned()),
        };
        let params = ExecuteQueryParams {
            session_id: session.to_owned(),
            settings: settings.iter().map(pair).collect(),
            operation_id: "test".into(),
            query,
        };
        let response = self.scheduler().await?.execute_query(self.request(params)).await?.into_inner();
        match response.result {
            Some(execute_query_result::Result::Success(success)) => Ok(success.job_id),
            other => Err(Status::internal(format!("{other:?}"))),
        }
    }

    /// Where the rows of a job are, once it has ended; or why it failed.
    pub async fn end(&self, job: &str) -> Result<Result<Vec<PartitionLocation>, String>, Status> {
        let mut scheduler = self.scheduler().await?;
        let give_up = Instant::now() + JOB_TIMEOUT;
        loop {
            let ask = self.request(GetJobStatusParams { job_id: job.to_owned() });
            let status = scheduler.get_job_status(ask).await?.into_inner().status;
            match status.and_then(|status| status.status) {
                Some(JobEnd::Successful(ended)) => return Ok(Ok(ended.partition_location)),
                Some(JobEnd::Failed(failed)) => return Ok(Err(failed.error)),
                Some(JobEnd::Queued(_) | JobEnd::Running(_)) | None if Instant::now() < give_up => {}
                other => return Err(Status::deadline_exceeded(format!("job {job}: {other:?}"))),
            }
        }
    }

    /// Submits a logical plan, waits for its end and fetches its rows.
    pub async fn run(&self, plan: &[u8]) -> Outcome {
        self.run_with(plan, &[], "").await
    }

    /// As [`Caller::run`], with settings and a session.
    pub async fn run_with(&self, plan: &[u8], settings: &[(&str, &str)], session: &str) -> Outcome {
        let query = Some(Query::LogicalPlan(plan.to_vec()));
        let job = match self.submit(query, settings, session).await {
            Ok(job) => job,
            Err(status) => return Outcome::Refused(status),
        };
        let locations = match self.end(&job).await {
            Ok(Ok(locations)) => locations,
            Ok(Err(error)) => return Outcome::Failed(error),
            Err(status) => return Outcome::Refused(status),
        };
        let mut rows = Vec::new();
        for location in &locations {
            match ticket_of(location) {
                Some(ticket) => match self.fetch(ticket).await {
                    Ok(batches) => rows.extend(batches),
                    Err(status) => return Outcome::Refused(status),
                },
                None => return Outcome::Failed("the job's rows are nowhere".into()),
            }
        }
        match pretty_format_batches(&rows) {
            Ok(text) => Outcome::Rows { job, text: text.to_string() },
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// Rows of a job, by Flight.
    pub async fn fetch(&self, ticket: FetchPartition) -> Result<Vec<RecordBatch>, Status> {
        let action = Action { settings: Vec::new(), action_type: Some(ActionType::FetchPartition(ticket)) };
        let ticket = Ticket { ticket: action.encode_to_vec().into() };
        let mut client = FlightServiceClient::new(self.channel().await?);
        let stream = client.do_get(self.request(ticket)).await?.into_inner();
        let rows = FlightRecordBatchStream::new_from_flight_data(stream.map_err(FlightError::from));
        rows.try_collect().await.map_err(|e| match e {
            FlightError::Tonic(status) => *status,
            other => Status::internal(other.to_string()),
        })
    }

    /// What an HTTP endpoint answers: its status, headers and body.
    pub async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(u16, HeaderMap, String)> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALL_TIMEOUT);
        let trusting =
            |authority: &str| -> Result<_> { Ok(reqwest::Certificate::from_pem(authority.as_bytes())?) };
        let client = match &self.proof {
            Proof::Plain => client,
            Proof::Tls { authority } | Proof::Token { authority, .. } => {
                client.add_root_certificate(trusting(authority)?)
            }
            Proof::Certificate { authority, own } => {
                let pem = format!("{}\n{}", own.certificate, own.key);
                client
                    .add_root_certificate(trusting(authority)?)
                    .identity(reqwest::Identity::from_pem(pem.as_bytes())?)
            }
        };
        let method = method.parse().context("no method")?;
        let mut request = client.build()?.request(method, format!("{}{path}", self.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Proof::Token { token, .. } = &self.proof {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok((status, headers, response.text().await?))
    }
}

/// Asks for the rows at a place; none if it names no job or no executor.
pub fn ticket_of(location: &PartitionLocation) -> Option<FetchPartition> {
    let (part, executor) = (location.partition_id.as_ref()?, location.executor_meta.as_ref()?);
    Some(FetchPartition {
        job_id: part.job_id.clone(),
        stage_id: part.stage_id,
        partition_id: part.partition_id,
        host: executor.host.clone(),
        port: executor.port,
        file_id: location.file_id,
        layout: ballista_core::serde::protobuf::ShuffleLayout::from(location.layout()) as i32,
        file_kind: 0,
        byte_ranges: Vec::new(),
    })
}
