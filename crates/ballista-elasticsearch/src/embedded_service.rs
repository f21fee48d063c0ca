//! The scheduler's gRPC service on an embedded cluster.
//!
//! Owns: noticing the end of a job for requests that wait for it. Must not know: which requests wait, and for how long
//! (`end_wait`). Ballista's scheduler does everything else.

use crate::admission::BallistaScheduler;
use crate::end_wait::EndWait;
use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::serde::protobuf::job_status;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{
    CancelJobParams, CancelJobResult, CleanJobDataParams, CleanJobDataResult, CreateUpdateSessionParams,
    CreateUpdateSessionResult, ExecuteQueryParams, ExecuteQueryResult, ExecutorStoppedParams,
    ExecutorStoppedResult, GetJobMetricsParams, GetJobMetricsResult, GetJobStatusParams, GetJobStatusResult,
    HeartBeatParams, HeartBeatResult, PollWorkParams, PollWorkResult, RegisterExecutorParams,
    RegisterExecutorResult, RemoveSessionParams, RemoveSessionResult, UpdateTaskStatusParams,
    UpdateTaskStatusResult,
};
use futures::StreamExt;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// The service in front of Ballista's scheduler.
pub(crate) struct EmbeddedService {
    scheduler: BallistaScheduler,
    /// Changes with each event of the scheduler's jobs.
    events: watch::Receiver<()>,
    end: EndWait,
}

impl EmbeddedService {
    /// Creates the service. Must be called in a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns an error if the scheduler has no events.
    pub(crate) async fn try_new(scheduler: BallistaScheduler) -> ballista_core::error::Result<Self> {
        let mut events = scheduler.job_state_events().await?;
        let (sender, receiver) = watch::channel(());
        // A receiver that lags loses events, so any event makes all requests look at their jobs again.
        tokio::spawn(async move { while events.next().await.is_some_and(|_| sender.send(()).is_ok()) {} });
        Ok(Self { scheduler, events: receiver, end: EndWait::default() })
    }

    /// Returns when the job has ended.
    async fn ended(&self, id: &JobId) {
        let mut events = self.events.clone();
        loop {
            // An event after this ends the wait below, so that the end of the job is not missed.
            events.mark_unchanged();
            if self.has_ended(id).await || events.changed().await.is_err() {
                return;
            }
        }
    }

    async fn has_ended(&self, id: &JobId) -> bool {
        let Ok(status) = self.scheduler.state.task_manager.get_job_status(id).await else { return true };
        match status.and_then(|status| status.status) {
            Some(job_status::Status::Failed(_) | job_status::Status::Successful(_)) => true,
            // `None`: the job was submitted just now. Only the client that submitted it waits for its end.
            Some(job_status::Status::Queued(_) | job_status::Status::Running(_)) | None => false,
        }
    }
}

#[async_trait]
impl SchedulerGrpc for EmbeddedService {
    type ExecuteQueryPushStream = <BallistaScheduler as SchedulerGrpc>::ExecuteQueryPushStream;

    async fn get_job_status(
        &self,
        request: Request<GetJobStatusParams>,
    ) -> Result<Response<GetJobStatusResult>, Status> {
        let id = request.get_ref().job_id.as_str().into();
        self.end.wait(&request, self.ended(&id)).await;
        self.scheduler.get_job_status(request).await
    }

    async fn poll_work(&self, request: Request<PollWorkParams>) -> Result<Response<PollWorkResult>, Status> {
        self.scheduler.poll_work(request).await
    }

    async fn register_executor(
        &self,
        request: Request<RegisterExecutorParams>,
    ) -> Result<Response<RegisterExecutorResult>, Status> {
        self.scheduler.register_executor(request).await
    }

    async fn heart_beat_from_executor(
        &self,
        request: Request<HeartBeatParams>,
    ) -> Result<Response<HeartBeatResult>, Status> {
        self.scheduler.heart_beat_from_executor(request).await
    }

    async fn update_task_status(
        &self,
        request: Request<UpdateTaskStatusParams>,
    ) -> Result<Response<UpdateTaskStatusResult>, Status> {
        SchedulerGrpc::update_task_status(&self.scheduler, request).await
    }

    async fn create_update_session(
        &self,
        request: Request<CreateUpdateSessionParams>,
    ) -> Result<Response<CreateUpdateSessionResult>, Status> {
        self.scheduler.create_update_session(request).await
    }

    async fn remove_session(
        &self,
        request: Request<RemoveSessionParams>,
    ) -> Result<Response<RemoveSessionResult>, Status> {
        self.scheduler.remove_session(request).await
    }

    async fn execute_query_push(
        &self,
        request: Request<ExecuteQueryParams>,
    ) -> Result<Response<Self::ExecuteQueryPushStream>, Status> {
        self.scheduler.execute_query_push(request).await
    }

    async fn execute_query(
        &self,
        request: Request<ExecuteQueryParams>,
    ) -> Result<Response<ExecuteQueryResult>, Status> {
        self.scheduler.execute_query(request).await
    }

    async fn get_job_metrics(
        &self,
        request: Request<GetJobMetricsParams>,
    ) -> Result<Response<GetJobMetricsResult>, Status> {
        self.scheduler.get_job_metrics(request).await
    }

    async fn executor_stopped(
        &self,
        request: Request<ExecutorStoppedParams>,
    ) -> Result<Response<ExecutorStoppedResult>, Status> {
        self.scheduler.executor_stopped(request).await
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobParams>,
    ) -> Result<Response<CancelJobResult>, Status> {
        SchedulerGrpc::cancel_job(&self.scheduler, request).await
    }

    async fn clean_job_data(
        &self,
        request: Request<CleanJobDataParams>,
    ) -> Result<Response<CleanJobDataResult>, Status> {
        self.scheduler.clean_job_data(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ballista_core::extension::SessionConfigExt;
    use ballista_core::serde::BallistaCodec;
    use ballista_scheduler::cluster::BallistaCluster;
    use ballista_scheduler::config::SchedulerConfig;
    use ballista_scheduler::metrics::default_metrics_collector;
    use ballista_scheduler::scheduler_server::SchedulerServer;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionConfig;
    use std::sync::Arc;
    use std::time::Duration;

    /// Longer than a test may take.
    const LONG: Duration = Duration::from_secs(600);

    async fn service(longest: Duration) -> EmbeddedService {
        let cluster = BallistaCluster::new_memory(
            "test",
            Arc::new(|config| Ok(SessionStateBuilder::new().with_config(config).build())),
            Arc::new(SessionConfig::new_with_ballista),
        );
        let metrics = default_metrics_collector().unwrap();
        let config = Arc::new(SchedulerConfig::default());
        let mut scheduler =
            SchedulerServer::new("test".into(), cluster, BallistaCodec::default(), config, metrics);
        scheduler.init().await.unwrap();
        let service = EmbeddedService::try_new(scheduler).await.unwrap();
        EmbeddedService { end: EndWait::new(longest, 1), ..service }
    }

    async fn status(service: &EmbeddedService, id: &str) -> Option<job_status::Status> {
        let request = Request::new(GetJobStatusParams { job_id: id.into() });
        let response = service.get_job_status(request).await.unwrap();
        response.into_inner().status.and_then(|status| status.status)
    }

    #[tokio::test]
    async fn a_request_waits_until_its_own_job_has_ended() {
        let service = service(LONG).await;
        let jobs = &service.scheduler.state.task_manager;
        let (id, other) = (JobId::new("job"), JobId::new("other"));
        jobs.queue_job(&id, "", 0).unwrap();
        jobs.queue_job(&other, "", 0).unwrap();
        let mut waits = Box::pin(status(&service, "job"));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        jobs.fail_unscheduled_job(&other, "a test".into()).await.unwrap();
        tokio::task::yield_now().await;
        assert!(futures::poll!(waits.as_mut()).is_pending());
        jobs.fail_unscheduled_job(&id, "a test".into()).await.unwrap();
        assert!(matches!(waits.await, Some(job_status::Status::Failed(_))));
        // The end of a job that had ended before is not waited for.
        assert!(matches!(status(&service, "job").await, Some(job_status::Status::Failed(_))));
    }

    #[tokio::test]
    async fn a_job_that_runs_or_is_unknown_has_a_status_after_the_limit() {
        let service = service(Duration::ZERO).await;
        assert_eq!(status(&service, "job").await, None);
        service.scheduler.state.task_manager.queue_job(&JobId::new("job"), "", 0).unwrap();
        assert!(matches!(status(&service, "job").await, Some(job_status::Status::Queued(_))));
    }
}
