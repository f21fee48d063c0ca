//! The Flight service of the scheduler, which proxies the rows of jobs.
//!
//! Owns: whose rows a caller may fetch, and from which executors. Must not know: what the rows are.
//!
//! Executors serve their files only to schedulers and executors, so a client fetches rows here. Ballista's proxy
//! connects to any host that a ticket names. So this service first checks that the job has rows there.

use super::Admission;
use super::identity::Refusal;
use super::jobs::Job;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, PollInfo,
    SchemaResult, Ticket,
};
use async_trait::async_trait;
use ballista_core::flight_proxy_service::BallistaFlightProxyService;
use ballista_core::serde::decode_protobuf;
use ballista_core::serde::protobuf::job_status::Status as JobEnd;
use ballista_core::serde::scheduler::Action as BallistaAction;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Ballista's proxy behind a check of the caller.
#[derive(Clone)]
pub(crate) struct ProxiedResults {
    proxy: BallistaFlightProxyService,
    admission: Arc<Admission>,
}

impl ProxiedResults {
    pub(crate) fn new(proxy: BallistaFlightProxyService, admission: Arc<Admission>) -> Self {
        Self { proxy, admission }
    }

    fn admit(&self, request: &Request<Ticket>) -> Result<(), Status> {
        let action = decode_protobuf(&request.get_ref().ticket)
            .map_err(|_| Status::invalid_argument("the ticket is not for rows of a job"))?;
        let BallistaAction::FetchPartition { job_id, host, port, .. } = action;
        let job = self.admission.rows_of(request, job_id.as_str())?;
        if holds_rows(&job, &host, port) {
            return Ok(());
        }
        Err(Refusal::Forbidden(format!("job {job_id} has no rows at {host}:{port}")).into())
    }
}

/// Whether the scheduler has reported rows of the job at this address.
fn holds_rows(job: &Job, host: &str, port: u16) -> bool {
    let status = job.status.borrow();
    let Some(JobEnd::Successful(ended)) = status.as_ref().and_then(|status| status.status.as_ref()) else {
        return false;
    };
    let mut executors =
        ended.partition_location.iter().filter_map(|location| location.executor_meta.as_ref());
    executors.any(|executor| executor.host == host && executor.port == u32::from(port))
}

fn unserved<T>(call: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{call} is not served here: rows of a job are fetched by do_get")))
}

#[async_trait]
impl FlightService for ProxiedResults {
    type DoActionStream = <BallistaFlightProxyService as FlightService>::DoActionStream;
    type DoExchangeStream = <BallistaFlightProxyService as FlightService>::DoExchangeStream;
    type DoGetStream = <BallistaFlightProxyService as FlightService>::DoGetStream;
    type DoPutStream = <BallistaFlightProxyService as FlightService>::DoPutStream;
    type HandshakeStream = <BallistaFlightProxyService as FlightService>::HandshakeStream;
    type ListActionsStream = <BallistaFlightProxyService as FlightService>::ListActionsStream;
    type ListFlightsStream = <BallistaFlightProxyService as FlightService>::ListFlightsStream;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        self.admit(&request)?;
        // Nothing else of the caller's request is forwarded to the executor.
        self.proxy.do_get(Request::new(request.into_inner())).await
    }

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        unserved("handshake")
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        unserved("list_flights")
    }

    async fn get_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        unserved("get_flight_info")
    }

    async fn poll_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        unserved("poll_flight_info")
    }

    async fn get_schema(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        unserved("get_schema")
    }

    async fn do_put(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        unserved("do_put")
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        unserved("do_exchange")
    }

    async fn do_action(&self, _request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        unserved("do_action")
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        unserved("list_actions")
    }
}
