//! The message of an error for users.
//!
//! Owns: removing the wrappers that libraries put around a message, and keeping it intact through the scheduler.
//! Must not know: what failed.
//!
//! Ballista flattens the error of a task to its debug form, and a client gets only that text. So an executor
//! returns errors whose debug form is the message.

use ballista_core::error::BallistaError;
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Returns an error and its causes on one line. A cause that its wrapper already contains is not repeated.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = said(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_said = said(cause);
        if !text.contains(&cause_said) {
            text = format!("{text}: {cause_said}");
        }
        next = cause.source();
    }
    let text = of_task(&text).or_else(|| of_status(&text)).unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the message without the kind of error that libraries put in front, because it says nothing to a user or
/// misleads.
fn said(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref() {
        return match error {
            DataFusionError::SQL(error, _) => error.to_string(),
            DataFusionError::ArrowError(error, _) => said(error.as_ref()),
            DataFusionError::External(error) => said(error.as_ref()),
            DataFusionError::Shared(error) => said(error.as_ref()),
            DataFusionError::Diagnostic(_, error) => said(error.as_ref()),
            DataFusionError::Context(operation, error) => format!("{operation}: {}", said(error.as_ref())),
            other => other.message().into_owned(),
        };
    }
    match error.downcast_ref() {
        Some(BallistaError::DataFusionError(error)) => return said(error.as_ref()),
        Some(BallistaError::ArrowError(error)) => return said(error.as_ref()),
        _ => {}
    }
    match error.downcast_ref() {
        Some(ArrowError::ExternalError(error)) => said(error.as_ref()),
        Some(ArrowError::CastError(text) | ArrowError::ParseError(text) | ArrowError::ComputeError(text)) => {
            text.clone()
        }
        _ => error.to_string(),
    }
}

/// The end of the message of a job that may succeed when it is submitted again.
const SUBMIT_AGAIN: &str = "; submit the job again";

/// Returns the message for a job whose rows were lost between two stages. Only a new submission can compute them
/// again.
pub(crate) fn lost_rows(operation: &str) -> String {
    format!("{operation}{SUBMIT_AGAIN}")
}

/// Returns the message of an error without its suffix if [`lost_rows`] made it.
pub(crate) fn lost_its_rows(error: &DataFusionError) -> Option<String> {
    let text = one_line(error);
    text.contains(SUBMIT_AGAIN).then(|| text.replace(SUBMIT_AGAIN, ""))
}

/// Returns the message for a job that no executor has started.
pub(crate) fn no_executor(grace: Duration) -> String {
    format!(
        "no executor is registered with the scheduler, and none came within {} s; start flowsigma-executor \
         with its --scheduler-host, or raise the scheduler's --no-executors-grace-period-seconds",
        grace.as_secs()
    )
}

/// Converts the error of a task for the scheduler. It keeps the kind by which Ballista decides whether to retry.
///
/// A failed fetch ends the job. Ballista would rerun the stage whose rows cannot be fetched, and never end or read
/// rows twice: docs/decisions/0001-lost-executors.md.
pub(crate) fn to_be_passed_on(error: DataFusionError) -> DataFusionError {
    let message = || one_line(&error);
    let ends_the_job = |text: String| DataFusionError::External(Box::new(Message(text)));
    match decides(&error) {
        Decides::Cancelled => error,
        Decides::Retry => DataFusionError::IoError(std::io::Error::other(Message(message()))),
        Decides::FetchFailed { operation } => ends_the_job(lost_rows(&operation)),
        Decides::Nothing => ends_the_job(message()),
    }
}

enum Decides {
    Cancelled,
    FetchFailed { operation: String },
    Retry,
    Nothing,
}

/// Finds the root of an error through all wrappers, as Ballista does.
fn decides(error: &DataFusionError) -> Decides {
    match error.find_root() {
        DataFusionError::IoError(_) => Decides::Retry,
        DataFusionError::ArrowError(error, _) => decides_arrow(error),
        DataFusionError::External(inner) => match inner.downcast_ref() {
            Some(error) => decides_ballista(error),
            None => Decides::Nothing,
        },
        _ => Decides::Nothing,
    }
}

fn decides_ballista(error: &BallistaError) -> Decides {
    match error {
        BallistaError::Cancelled => Decides::Cancelled,
        BallistaError::IoError(_) => Decides::Retry,
        BallistaError::DataFusionError(inner) => decides(inner),
        BallistaError::ArrowError(inner) => decides_arrow(inner),
        BallistaError::FetchFailed(executor, stage, _, why) => {
            let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
            Decides::FetchFailed {
                operation: format!("rows of stage {stage} cannot be fetched from executor {executor}: {why}"),
            }
        }
        BallistaError::TonicError(_)
        | BallistaError::GrpcError(_)
        | BallistaError::GrpcConnectionError(_)
        | BallistaError::GrpcActionError(_) => cut_off(error),
        BallistaError::NotImplemented(_)
        | BallistaError::General(_)
        | BallistaError::Internal(_)
        | BallistaError::Configuration(_)
        | BallistaError::SqlError(_)
        | BallistaError::TokioError(_) => Decides::Nothing,
    }
}

/// Tasks exchange rows only in the Arrow IPC format. If a connection ends before the rows do, the error of the IPC
/// reader is all that Ballista reports.
fn decides_arrow(error: &ArrowError) -> Decides {
    match error {
        ArrowError::IpcError(_) => cut_off(error),
        _ => Decides::Nothing,
    }
}

fn cut_off(error: &(dyn Error + 'static)) -> Decides {
    Decides::FetchFailed {
        operation: format!("rows of an earlier stage cannot be fetched: {}", one_line(error)),
    }
}

/// The text around the message of a task in the text that comes back.
const AROUND: [(&str, &str); 2] =
    [("DataFusionError(External(", "))"), ("DataFusionError(IoError(Custom { kind: Other, error: ", " }))")];

/// The text around that if a task was retried. The message is then quoted and escaped.
const TRIED: &str = "most recent failure reason: \"";

/// Extracts `Job ID failed: …` with the message of the failed task, if the text contains one.
fn of_task(text: &str) -> Option<String> {
    let (before, rest) = text.split_once(" failed: ")?;
    let rest = match rest.split_once(TRIED) {
        Some((_, quoted)) => unquoted(quoted),
        None => rest.to_owned(),
    };
    let message =
        AROUND.iter().find_map(|(start, end)| Some(rest.split_once(start)?.1.rsplit_once(end)?.0))?;
    Some(format!("{before} failed: {message}"))
}

/// Extracts the message of a scheduler's rejection, which Ballista's client writes in its debug form.
fn of_status(text: &str) -> Option<String> {
    let (before, rest) = text.split_once("Status { code: ")?;
    let (_, quoted) = rest.split_once(", message: \"")?;
    let end = ["\", metadata: MetadataMap {", "\", details: ", "\", source: "];
    let quoted = end.iter().find_map(|end| quoted.split_once(end))?.0;
    Some(format!("{before}{}", unquoted(quoted)))
}

fn unquoted(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        plain.push(match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                Some(escaped) => escaped,
                None => break,
            },
            c => c,
        });
    }
    plain
}

/// An error whose debug form is its message.
struct Message(String);

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Message {}

#[cfg(test)]
mod tests {
    use super::*;
    use ballista_core::serde::protobuf::FailedTask;
    use std::sync::Arc;

    /// Returns the error as a client gets it.
    fn passed_on(error: DataFusionError) -> (FailedTask, DataFusionError) {
        let task = FailedTask::from(BallistaError::DataFusionError(Box::new(to_be_passed_on(error))));
        let text = format!("Job 7 failed: Job failed due to stage 1 failed: {}", task.error);
        (task, DataFusionError::Execution(text))
    }

    #[test]
    fn the_message_of_a_task_comes_back_as_it_was() {
        let said = r#"index "flows", slice 2 of 8: field "a" (b)) is no number }"#;
        let (task, there) = passed_on(DataFusionError::Shared(Arc::new(DataFusionError::Plan(said.into()))));
        assert!(!task.retryable);
        assert_eq!(one_line(&there), format!("Job 7 failed: {said}"));

        let (task, there) = passed_on(DataFusionError::IoError(std::io::Error::other(said)));
        assert!(task.retryable);
        assert_eq!(one_line(&there), format!("Job 7 failed: {said}"));
        let (why, times) = (task.error, "Task 3 in Stage 1 failed 4 times, fail the stage");
        let quoted = format!("{why:?}");
        let text =
            format!("Job 7 failed: Job failed due to stage 1 failed: {times}, {TRIED}{}\n", &quoted[1..]);
        assert_eq!(one_line(&DataFusionError::Execution(text)), format!("Job 7 failed: {said}"));
    }

    #[test]
    fn a_refusal_is_its_message() {
        let refused = tonic::Status::permission_denied("\"alice\" may not read the index \"x\"");
        let there = DataFusionError::Execution(format!("{refused:?}"));
        assert_eq!(one_line(&there), "\"alice\" may not read the index \"x\"");
    }

    #[test]
    fn what_ballista_wraps_is_unwrapped() {
        let cast = BallistaError::ArrowError(Box::new(ArrowError::CastError("Cannot cast \"x\"".into())));
        let (task, there) =
            passed_on(DataFusionError::Shared(Arc::new(DataFusionError::External(Box::new(cast)))));
        assert!(!task.retryable);
        assert_eq!(one_line(&there), "Job 7 failed: Cannot cast \"x\"");
    }

    #[test]
    fn what_may_be_tried_again_stays_so_however_it_is_wrapped() {
        let refused = DataFusionError::IoError(std::io::Error::other("no answer"));
        let wrapped = BallistaError::DataFusionError(Box::new(refused));
        let (task, there) =
            passed_on(DataFusionError::Shared(Arc::new(DataFusionError::External(Box::new(wrapped)))));
        assert!(task.retryable);
        assert_eq!(one_line(&there), "Job 7 failed: no answer");
    }

    #[test]
    fn a_failed_fetch_ends_the_job_and_says_that_it_may_be_submitted_again() {
        let fetch = BallistaError::FetchFailed("e1".into(), 1, 2, "connection\nrefused".into());
        let wrapped = DataFusionError::ArrowError(
            Box::new(ArrowError::ExternalError(Box::new(DataFusionError::External(Box::new(fetch))))),
            None,
        );
        let said = "rows of stage 1 cannot be fetched from executor e1: connection refused";
        let cut = ArrowError::IpcError("h2 protocol error".into());
        let cut = BallistaError::DataFusionError(Box::new(cut.into()));
        let half = "rows of an earlier stage cannot be fetched: Ipc error: h2 protocol error";
        for (error, said) in [(wrapped, said), (DataFusionError::External(Box::new(cut)), half)] {
            let (task, there) = passed_on(error);
            assert!(!task.retryable);
            assert!(format!("{:?}", task.failed_reason).contains("ExecutionError"), "{task:?}");
            assert_eq!(one_line(&there), format!("Job 7 failed: {said}; submit the job again"));
            assert_eq!(lost_its_rows(&there), Some(format!("Job 7 failed: {said}")));
        }
        assert_eq!(lost_its_rows(&DataFusionError::Execution("Job 7 failed: no such index".into())), None);
    }

    #[test]
    fn a_message_is_one_line_and_says_nothing_twice() {
        let inner = DataFusionError::Configuration("scheduler\n\"a\" is not there".into());
        let error = DataFusionError::External(Box::new(inner));
        assert_eq!(one_line(&error), "scheduler \"a\" is not there");
    }
}
