//! An error as people read it.
//!
//! Owns: taking off what libraries put around a message, and keeping it whole on its way through the
//! scheduler. Must not know: what failed.
//!
//! Ballista writes the error of a task by its debug form into a text, and that text is all that a
//! client gets. So an executor gives it errors whose debug form is the message.

use ballista_core::error::BallistaError;
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use std::error::Error;
use std::fmt;

/// An error with its causes on one line, each said once: wrappers repeat what they wrap.
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
    let text = of_task(&text).unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Libraries say first of what kind an error is, which tells a user nothing, or misleads.
fn said(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref() {
        return match error {
            DataFusionError::SQL(error, _) => error.to_string(),
            DataFusionError::ArrowError(error, _) => said(error.as_ref()),
            DataFusionError::External(error) => said(error.as_ref()),
            DataFusionError::Shared(error) => said(error.as_ref()),
            DataFusionError::Diagnostic(_, error) => said(error.as_ref()),
            DataFusionError::Context(what, error) => format!("{what}: {}", said(error.as_ref())),
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

/// The error of a task as its scheduler is to pass it on. What Ballista decides by is kept: whether a
/// fetch has failed, and whether to try again.
pub(crate) fn to_be_passed_on(error: DataFusionError) -> DataFusionError {
    let message = || Message(one_line(&error));
    match decides(&error) {
        Decides::Ballista => error,
        Decides::Retry => DataFusionError::IoError(std::io::Error::other(message())),
        Decides::Nothing => DataFusionError::External(Box::new(message())),
    }
}

enum Decides {
    Ballista,
    Retry,
    Nothing,
}

/// As Ballista looks for it, through everything that is wrapped around it.
fn decides(error: &DataFusionError) -> Decides {
    match error.find_root() {
        DataFusionError::IoError(_) => Decides::Retry,
        DataFusionError::External(inner) => match inner.downcast_ref() {
            Some(BallistaError::FetchFailed(..) | BallistaError::Cancelled) => Decides::Ballista,
            Some(BallistaError::IoError(_)) => Decides::Retry,
            Some(BallistaError::DataFusionError(inner)) => decides(inner),
            _ => Decides::Nothing,
        },
        _ => Decides::Nothing,
    }
}

/// What stands around such a message in the text that comes back.
const AROUND: [(&str, &str); 2] =
    [("DataFusionError(External(", "))"), ("DataFusionError(IoError(Custom { kind: Other, error: ", " }))")];

/// And around that, where a task was tried several times: it is quoted as in a program.
const TRIED: &str = "most recent failure reason: \"";

/// `Job ID failed: …` with the message of the task that failed, if it is in there.
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

/// Its debug form is itself.
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

    /// As a client gets it.
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
    fn a_failed_fetch_stays_one() {
        let fetch = BallistaError::FetchFailed("e1".into(), 1, 2, "gone".into());
        let (task, _) = passed_on(DataFusionError::ArrowError(
            Box::new(ArrowError::ExternalError(Box::new(DataFusionError::External(Box::new(fetch))))),
            None,
        ));
        assert!(format!("{:?}", task.failed_reason).contains("FetchPartitionError"), "{task:?}");
    }

    #[test]
    fn a_message_is_one_line_and_says_nothing_twice() {
        let inner = DataFusionError::Configuration("scheduler\n\"a\" is not there".into());
        let error = DataFusionError::External(Box::new(inner));
        assert_eq!(one_line(&error), "scheduler \"a\" is not there");
    }
}
