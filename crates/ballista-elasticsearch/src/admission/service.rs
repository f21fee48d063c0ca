//! The scheduler's gRPC service in front of Ballista's.
//!
//! Owns: which calls each role may make, and admitting a submission as a job. Must not know: how a plan is checked
//! (`plan`).
//!
//! Two calls are long polls, which replace many short requests: that of an idle executor for work, and that of a
//! client for the end of its job. Both have a time limit.

use super::audit::{Line, statement_of};
use super::identity::{Identity, Refusal};
use super::jobs::{Job, is_last};
use super::opening::open_and_prove;
use super::plan::{decode_plan, reach_of};
use super::{Admission, settings};
use crate::caller::Caller;
use crate::end_wait::EndWait;
use crate::scan_report::metrics_of;
use crate::work_signal::WorkSignal;
use async_trait::async_trait;
use ballista_core::config::BALLISTA_JOB_NAME;
use ballista_core::extension::SessionConfigHelperExt;
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::get_job_status_result::FlightProxy;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{
    CancelJobParams, CancelJobResult, CleanJobDataParams, CleanJobDataResult, CreateUpdateSessionParams,
    CreateUpdateSessionResult, ExecuteQueryParams, ExecuteQueryResult, ExecuteQuerySuccessResult,
    ExecutorStoppedParams, ExecutorStoppedResult, GetJobMetricsParams, GetJobMetricsResult,
    GetJobStatusParams, GetJobStatusResult, HeartBeatParams, HeartBeatResult, JobStatus, PollWorkParams,
    PollWorkResult, RegisterExecutorParams, RegisterExecutorResult, RemoveSessionParams, RemoveSessionResult,
    UpdateTaskStatusParams, UpdateTaskStatusResult, execute_query_result,
};
use ballista_core::serde::scheduler::ExecutorSpecification;
use ballista_core::{BALLISTA_VERSION, JobId, version};
use ballista_scheduler::scheduler_server::SchedulerServer;
use ballista_scheduler::scheduler_server::event::SubmitPlan;
use datafusion_elasticsearch::QueryContexts;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use futures::{Stream, StreamExt, future};
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

/// Ballista's scheduler with the plan types of this workspace.
pub(crate) type BallistaScheduler = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// How long the request of an idle executor waits for work. The scheduler drops an executor after 30 s without a
/// heartbeat.
const WORK_WAIT: Duration = Duration::from_secs(5);
/// The first and the longest poll interval for work of running jobs while an executor waits. A signal resets it.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);
/// The poll interval for the status of a job. Ballista drops status updates if the channel is full.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// A job is considered lost after this number of polls without a status.
const READINGS_UNTIL_FORGOTTEN: u32 = 5;
/// The capacity of the channel for status updates.
const STATUS_BUFFER: usize = 64;

/// Ballista's scheduler behind admission.
#[derive(Clone)]
pub(crate) struct Admitted {
    scheduler: BallistaScheduler,
    admission: Arc<Admission>,
    work: WorkSignal,
    end: EndWait,
    /// Executors that reported their shutdown. They get no more tasks.
    ending: Arc<Mutex<HashSet<String>>>,
}

/// An admitted and submitted job.
struct Submitted {
    id: JobId,
    session_id: String,
    job: Arc<Job>,
}

impl Admitted {
    /// Creates the service. Ballista's scheduler raises `work` as well.
    pub(crate) fn new(scheduler: BallistaScheduler, admission: Arc<Admission>, work: WorkSignal) -> Self {
        Self { scheduler, admission, work, end: EndWait::default(), ending: Arc::default() }
    }

    fn identify<T>(&self, request: &Request<T>) -> Result<Identity, Refusal> {
        self.admission.identify(request.extensions(), request.metadata().as_ref())
    }

    /// Returns the caller if it is an executor of this cluster.
    fn executor<T>(&self, request: &Request<T>) -> Result<Identity, Refusal> {
        let identity = self.identify(request)?;
        if identity.is_executor() {
            return Ok(identity);
        }
        Err(Refusal::Forbidden(format!(
            "\"{}\" is not an executor of this cluster: its certificate has another role, and [cluster] executors of \
             the scheduler's flowsigma.toml does not list it",
            identity.name
        )))
    }

    /// Returns the caller if it may submit jobs.
    fn client<T>(&self, request: &Request<T>) -> Result<Identity, Refusal> {
        let identity = self.identify(request)?;
        if identity.is_client() {
            return Ok(identity);
        }
        Err(Refusal::Forbidden(format!(
            "\"{}\" is a scheduler or an executor and may not submit jobs: use a client's certificate",
            identity.name
        )))
    }

    async fn submit(&self, request: Request<ExecuteQueryParams>) -> Result<Submitted, Status> {
        let identity = self.client(&request)?;
        let client = version::version_from_metadata(request.metadata());
        version::check_compatibility(client, Some(BALLISTA_VERSION)).map_err(Status::failed_precondition)?;
        let from = request.extensions().get::<Caller>().map_or_else(String::new, Caller::from);
        let mut statement = String::new();
        let submitted = self.submit_from(&identity, &from, request.into_inner(), &mut statement).await;
        if let Err(status) = &submitted {
            self.admission.audit.write(&Line::refused(
                &identity.name,
                &from,
                &statement,
                status.message().to_owned(),
            ));
        }
        submitted
    }

    async fn submit_from(
        &self,
        identity: &Identity,
        from: &str,
        params: ExecuteQueryParams,
        statement: &mut String,
    ) -> Result<Submitted, Status> {
        let ExecuteQueryParams { query, settings, session_id, operation_id: _ } = params;
        let Some(Query::LogicalPlan(bytes)) = query else {
            return Err(Refusal::Unsupported("a scheduler accepts only logical plans".into()).into());
        };
        settings::check(&settings, &self.admission.defaults)?;
        let config = self.admission.defaults.clone().update_from_key_value_pair(&settings);
        let session = self
            .scheduler
            .state
            .session_manager
            .create_or_update_session(&own_session(identity, &session_id), &config)
            .await
            .map_err(|e| Status::internal(format!("the session cannot be created: {e}")))?;
        let codec = Arc::clone(&self.admission.codec);
        let plan = decode_plan(&bytes, &session.task_ctx(), codec.as_ref())?;
        *statement = statement_of(&plan);
        let reach = reach_of(&plan)?;
        reach.judge(identity, &self.admission.protected)?;
        let (plan, contexts) = open_and_prove(plan, &session.state()).await?;
        let (subscriber, statuses) = mpsc::channel(STATUS_BUFFER);
        let job = Arc::new(Job {
            owner: identity.name.clone(),
            by_certificate: identity.by_certificate,
            from: from.to_owned(),
            submitted: jiff::Timestamp::now().as_millisecond(),
            statement: statement.clone(),
            reach,
            contexts: contexts.slices(),
            status: watch::Sender::new(None),
        });
        let name = settings.iter().find(|pair| pair.key == BALLISTA_JOB_NAME);
        let name = name.and_then(|pair| pair.value.as_deref()).unwrap_or_default();
        let plan = SubmitPlan::Logical(plan);
        let id = match self.scheduler.submit_plan(name, session, &plan, Some(subscriber)).await {
            Ok(id) => id,
            Err(error) => {
                contexts.close().await.ok();
                return Err(Status::internal(format!("the job cannot be queued: {error}")));
            }
        };
        self.admission.jobs.add(id.as_str(), Arc::clone(&job));
        tokio::spawn(self.clone().watch_job(id.clone(), Arc::clone(&job), statuses, contexts));
        Ok(Submitted { id, session_id, job })
    }

    /// Watches a job until its end. Then closes the search contexts that were opened for it, and writes the audit
    /// line.
    async fn watch_job(
        self,
        id: JobId,
        job: Arc<Job>,
        mut statuses: mpsc::Receiver<JobStatus>,
        contexts: QueryContexts,
    ) {
        let mut unknown = 0;
        while unknown < READINGS_UNTIL_FORGOTTEN {
            let told = tokio::time::timeout(STATUS_INTERVAL, statuses.recv()).await;
            let status = match told {
                Ok(Some(status)) => Some(status),
                told => {
                    if told.is_ok() {
                        // The channel is closed, so the status must be polled.
                        tokio::time::sleep(STATUS_INTERVAL).await;
                    }
                    self.scheduler.state.task_manager.get_job_status(&id).await.ok().flatten()
                }
            };
            let Some(status) = status else {
                unknown += 1;
                continue;
            };
            unknown = 0;
            job.learn(status);
            if job.has_ended() {
                break;
            }
        }
        if contexts.slices() > 0
            && let Err(error) = contexts.close().await
        {
            tracing::warn!(job = id.as_str(), %error, "a search context of the job is open until its keep_alive");
        }
        let read = self.read_by(&id).await;
        let status = job.status.borrow().clone();
        self.admission.audit.write(&Line::ended(id.as_str(), &job, status.as_ref(), read));
    }

    /// Returns the number of documents, and of bytes of responses, that the scans of a job have read.
    async fn read_by(&self, id: &JobId) -> (u64, u64) {
        let params = GetJobMetricsParams { job_id: id.to_string() };
        let Ok(metrics) = SchedulerGrpc::get_job_metrics(&self.scheduler, Request::new(params)).await else {
            return (0, 0);
        };
        let operators = metrics.into_inner().stages.into_iter().flat_map(|stage| stage.operators);
        let mut read = (0, 0);
        for operator in operators.filter(|operator| operator.operator_type == "EsScanExec") {
            let metrics = metrics_of(operator.metrics).unwrap_or_default();
            let sum = |name: &str| metrics.sum_by_name(name).map_or(0, |value| value.as_usize() as u64);
            read.0 += sum("documents");
            read.1 += sum("bytes");
        }
        read
    }

    fn visible<T>(&self, request: &Request<T>, id: &str) -> Result<Option<Arc<Job>>, Refusal> {
        let identity = self.identify(request)?;
        if identity.is_executor() {
            return Ok(self.admission.jobs.get(id));
        }
        self.admission.jobs.visible(id, &identity)
    }

    /// Whether the executor has requested work before, and was not dropped since.
    async fn is_known(&self, executor: &str) -> bool {
        self.scheduler.state.executor_manager.get_executor_metadata(executor).await.is_ok()
    }

    fn is_ending(&self, executor: &str) -> bool {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).contains(executor)
    }
}

/// Returns a session id that differs between identities.
fn own_session(identity: &Identity, session_id: &str) -> String {
    // Includes the length of the name, so that two pairs of name and session never have the same id.
    format!("{}:{}/{session_id}", identity.name.len(), identity.name)
}

/// Returns the request of the caller with another message.
fn with_message<T, U>(request: Request<T>, change: impl FnOnce(T) -> U) -> Request<U> {
    let (metadata, extensions, message) = request.into_parts();
    Request::from_parts(metadata, extensions, change(message))
}

/// Rejects a registration without these parts, because Ballista panics without them.
fn check_registration(
    metadata: Option<&ballista_core::serde::protobuf::ExecutorRegistration>,
) -> Result<u32, Status> {
    let incomplete = || Status::invalid_argument("the executor's registration is incomplete");
    let metadata = metadata.ok_or_else(incomplete)?;
    let specification = metadata.specification.clone().ok_or_else(incomplete)?;
    metadata.os_info.as_ref().ok_or_else(incomplete)?;
    let specification: ExecutorSpecification = specification.into();
    Ok(specification.vcores)
}

fn versioned<T>(message: T) -> Response<T> {
    let mut response = Response::new(message);
    version::insert_version_header(response.metadata_mut());
    response
}

#[async_trait]
impl SchedulerGrpc for Admitted {
    type ExecuteQueryPushStream = Pin<Box<dyn Stream<Item = Result<GetJobStatusResult, Status>> + Send>>;

    async fn poll_work(&self, request: Request<PollWorkParams>) -> Result<Response<PollWorkResult>, Status> {
        self.executor(&request)?;
        let message = request.get_ref();
        let vcores = check_registration(message.metadata.as_ref())?;
        let id = message.metadata.as_ref().map_or("", |metadata| &metadata.id);
        let ends = self.is_ending(id);
        // The first request does not wait: its response makes the executor ready.
        let waits = message.num_free_vcores >= vcores && !ends && self.is_known(id).await;
        let request = with_message(request, |mut message| {
            if ends {
                message.num_free_vcores = 0;
            }
            message
        });
        let again = copy(&request);
        let reports = !request.get_ref().task_status.is_empty();
        let mut work = self.work.subscribe();
        let mut response = self.scheduler.poll_work(request).await?;
        if reports {
            self.work.raise();
        }
        let give_up = Instant::now() + WORK_WAIT;
        let mut pause = FIRST_PAUSE;
        while waits && has_nothing(&response) && Instant::now() < give_up {
            // Ballista signals most new work, but not all of it, for example not tasks of a lost executor.
            let runs = self.scheduler.running_job_number() > 0;
            let wait = if runs { pause } else { give_up.saturating_duration_since(Instant::now()) };
            pause = match tokio::time::timeout(wait, work.changed()).await {
                Ok(_) => FIRST_PAUSE,
                Err(_) => (pause * 2).min(LONGEST_PAUSE),
            };
            let again =
                with_message(copy(&again), |message| PollWorkParams { task_status: Vec::new(), ..message });
            response = self.scheduler.poll_work(again).await?;
        }
        Ok(response)
    }

    async fn register_executor(
        &self,
        request: Request<RegisterExecutorParams>,
    ) -> Result<Response<RegisterExecutorResult>, Status> {
        self.executor(&request)?;
        check_registration(request.get_ref().metadata.as_ref())?;
        self.scheduler.register_executor(request).await
    }

    async fn heart_beat_from_executor(
        &self,
        request: Request<HeartBeatParams>,
    ) -> Result<Response<HeartBeatResult>, Status> {
        self.executor(&request)?;
        check_registration(request.get_ref().metadata.as_ref())?;
        self.scheduler.heart_beat_from_executor(request).await
    }

    async fn update_task_status(
        &self,
        request: Request<UpdateTaskStatusParams>,
    ) -> Result<Response<UpdateTaskStatusResult>, Status> {
        self.executor(&request)?;
        let updated = SchedulerGrpc::update_task_status(&self.scheduler, request).await;
        self.work.raise();
        updated
    }

    async fn create_update_session(
        &self,
        request: Request<CreateUpdateSessionParams>,
    ) -> Result<Response<CreateUpdateSessionResult>, Status> {
        let identity = self.client(&request)?;
        let CreateUpdateSessionParams { session_id, settings } = request.into_inner();
        settings::check(&settings, &self.admission.defaults)?;
        let own = own_session(&identity, &session_id);
        let params = CreateUpdateSessionParams { session_id: own, settings };
        self.scheduler.create_update_session(Request::new(params)).await?;
        Ok(Response::new(CreateUpdateSessionResult { session_id }))
    }

    async fn remove_session(
        &self,
        request: Request<RemoveSessionParams>,
    ) -> Result<Response<RemoveSessionResult>, Status> {
        let identity = self.client(&request)?;
        let session_id = own_session(&identity, &request.into_inner().session_id);
        self.scheduler.remove_session(Request::new(RemoveSessionParams { session_id })).await
    }

    async fn execute_query_push(
        &self,
        request: Request<ExecuteQueryParams>,
    ) -> Result<Response<Self::ExecuteQueryPushStream>, Status> {
        let Submitted { job, .. } = self.submit(request).await?;
        let statuses = WatchStream::new(job.status.subscribe()).filter_map(future::ready);
        let mut ended = false;
        let until_last = statuses.take_while(move |status| {
            let goes_on = !ended;
            ended = is_last(status);
            future::ready(goes_on)
        });
        let results = until_last.map(|status| {
            Ok(GetJobStatusResult { status: Some(status), flight_proxy: Some(FlightProxy::Local(true)) })
        });
        Ok(versioned(Box::pin(results)))
    }

    async fn execute_query(
        &self,
        request: Request<ExecuteQueryParams>,
    ) -> Result<Response<ExecuteQueryResult>, Status> {
        let operation_id = request.get_ref().operation_id.clone();
        let Submitted { id, session_id, .. } = self.submit(request).await?;
        let success = ExecuteQuerySuccessResult { job_id: id.into(), session_id };
        Ok(versioned(ExecuteQueryResult {
            operation_id,
            result: Some(execute_query_result::Result::Success(success)),
        }))
    }

    async fn get_job_status(
        &self,
        request: Request<GetJobStatusParams>,
    ) -> Result<Response<GetJobStatusResult>, Status> {
        let job = self.visible(&request, &request.get_ref().job_id)?;
        // Executors of earlier versions do not ask for the status now.
        let waits = !self.identify(&request)?.is_part();
        if let Some(job) = job.as_ref().filter(|_| waits) {
            self.end.wait(&request, job.ended()).await;
        }
        let response = self.scheduler.get_job_status(request).await?;
        // A client that learns that its job was successful may fetch the rows.
        if let (Some(job), Some(status)) = (job, &response.get_ref().status) {
            job.learn(status.clone());
        }
        Ok(response)
    }

    async fn get_job_metrics(
        &self,
        request: Request<GetJobMetricsParams>,
    ) -> Result<Response<GetJobMetricsResult>, Status> {
        self.visible(&request, &request.get_ref().job_id)?;
        self.scheduler.get_job_metrics(request).await
    }

    async fn executor_stopped(
        &self,
        request: Request<ExecutorStoppedParams>,
    ) -> Result<Response<ExecutorStoppedResult>, Status> {
        self.executor(&request)?;
        let executor = request.get_ref().executor_id.clone();
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).insert(executor);
        self.scheduler.executor_stopped(request).await
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobParams>,
    ) -> Result<Response<CancelJobResult>, Status> {
        self.client(&request)?;
        self.visible(&request, &request.get_ref().job_id)?;
        SchedulerGrpc::cancel_job(&self.scheduler, request).await
    }

    async fn clean_job_data(
        &self,
        request: Request<CleanJobDataParams>,
    ) -> Result<Response<CleanJobDataResult>, Status> {
        self.client(&request)?;
        self.visible(&request, &request.get_ref().job_id)?;
        self.scheduler.clean_job_data(request).await
    }
}

fn has_nothing(response: &Response<PollWorkResult>) -> bool {
    response.get_ref().tasks.is_empty() && response.get_ref().jobs_to_clean.is_empty()
}

/// Returns a copy of a request.
fn copy<T: Clone>(request: &Request<T>) -> Request<T> {
    let extensions = request.extensions().clone();
    Request::from_parts(request.metadata().clone(), extensions, request.get_ref().clone())
}
