//! Requests for the status of a job that wait for the job's end.
//!
//! Owns: which requests wait, for how long, and how many at a time. Must not know: how the end of a job is noticed.
//!
//! Ballista's client pauses for 50 ms after each response that its job runs. A request that waits replaces those
//! pauses.

use crate::scheduler::is_at_once;
use ballista_core::serde::protobuf::GetJobStatusParams;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::Request;

/// The longest wait. After that, the client gets the running status, and requests it again.
const LONGEST: Duration = Duration::from_secs(1);
/// The maximum of requests that wait. Those above it get the running status at once.
const MAX_WAITING: usize = 1_000;

/// The requests to one scheduler that wait.
#[derive(Clone, Debug)]
pub(crate) struct EndWait {
    longest: Duration,
    places: Arc<Semaphore>,
}

impl Default for EndWait {
    fn default() -> Self {
        Self::new(LONGEST, MAX_WAITING)
    }
}

impl EndWait {
    pub(crate) fn new(longest: Duration, places: usize) -> Self {
        Self { longest, places: Arc::new(Semaphore::new(places)) }
    }

    /// Waits until `ended` completes, at most 1 s. Returns at once if the request asks for that, or if too many
    /// others wait. The wait ends when the future is dropped, which happens if the client cancels the request.
    pub(crate) async fn wait(&self, request: &Request<GetJobStatusParams>, ended: impl Future<Output = ()>) {
        if is_at_once(request) {
            return;
        }
        let Ok(_place) = self.places.try_acquire() else { return };
        tokio::time::timeout(self.longest, ended).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::status_now;
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    fn request() -> Request<GetJobStatusParams> {
        Request::new(GetJobStatusParams { job_id: "job".into() })
    }

    /// Whether the future is ready when it is first polled.
    async fn is_ready(future: impl Future<Output = ()>) -> bool {
        let mut future = pin!(future);
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_request_waits_for_the_end_but_not_longer_than_the_limit() {
        let request = request();
        EndWait::new(LONGEST, 1).wait(&request, std::future::ready(())).await;
        assert!(!is_ready(EndWait::new(LONGEST, 1).wait(&request, pending())).await);
        EndWait::new(Duration::ZERO, 1).wait(&request, pending()).await;
    }

    #[tokio::test]
    async fn a_request_for_the_status_now_does_not_wait() {
        let wait = EndWait::default();
        assert!(is_ready(wait.wait(&status_now("job".into()), pending())).await);
        assert!(!is_ready(wait.wait(&request(), pending())).await);
    }

    #[tokio::test]
    async fn a_request_above_the_maximum_does_not_wait_until_another_is_dropped() {
        let (wait, request) = (EndWait::new(LONGEST, 1), request());
        let mut first = Box::pin(wait.wait(&request, pending()));
        assert!(!is_ready(first.as_mut()).await);
        assert!(is_ready(wait.wait(&request, pending())).await);
        drop(first);
        assert!(!is_ready(wait.wait(&request, pending())).await);
    }
}
