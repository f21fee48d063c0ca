//! Why a command failed, and its exit code.
//!
//! Owns: the exit codes. Must not know: commands.

use ballista_elasticsearch::one_line;
use datafusion::arrow::error::ArrowError;
use std::io::ErrorKind;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was run, because the input is wrong or a required server does not respond. Exit code 2.
    /// A statement that only defines something, such as a table, does not count as run.
    Refused(anyhow::Error),
    /// Something ran and failed, or the process panicked. Exit code 1.
    Failed(anyhow::Error),
    /// Ctrl-C or SIGTERM. Exit code 130, the convention of shells for SIGINT.
    Interrupted {
        /// Whether the job was cancelled and its search contexts were closed.
        cleaned_up: bool,
    },
    /// Another run holds the lease of the job. Nothing was run. Exit code 3.
    Leased(anyhow::Error),
    /// The run is done, but a sink does not have the findings. Exit code 4.
    Owed(anyhow::Error),
    /// There are findings, and `--fail-on-findings` is given. Exit code 10.
    Findings,
    /// The reader of stdout closed it. Exit code 141, the convention of shells for SIGPIPE.
    Unread,
}

impl Failure {
    /// Returns the failure of something that was already running.
    pub(crate) fn running(error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        if error.chain().any(is_unread) { Self::Unread } else { Self::Failed(error) }
    }

    /// Returns this failure for a command that has already run something: it is no refusal then.
    pub(crate) fn after_others(self) -> Self {
        match self {
            Self::Refused(error) => Self::Failed(error),
            Self::Failed(_)
            | Self::Leased(_)
            | Self::Owed(_)
            | Self::Findings
            | Self::Interrupted { .. }
            | Self::Unread => self,
        }
    }

    /// Returns this failure for a job or a search context that may still be open.
    pub(crate) fn not_cleaned_up(self) -> Self {
        match self {
            Self::Interrupted { .. } => Self::Interrupted { cleaned_up: false },
            Self::Refused(_)
            | Self::Failed(_)
            | Self::Leased(_)
            | Self::Owed(_)
            | Self::Findings
            | Self::Unread => self,
        }
    }

    /// Prints the failure for people, on one line of stderr.
    pub(crate) fn tell(&self) {
        match self {
            Self::Refused(e) | Self::Failed(e) | Self::Leased(e) | Self::Owed(e) => {
                eprintln!("error: {}", one_line(e.as_ref()));
            }
            Self::Interrupted { cleaned_up: true } => {
                eprintln!("interrupted: the job was cancelled and its search contexts were closed");
            }
            Self::Interrupted { cleaned_up: false } => eprintln!("interrupted"),
            Self::Findings | Self::Unread => {}
        }
    }

    /// Returns the error of this failure, for the record of a window.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Refused(error) | Self::Failed(error) | Self::Leased(error) | Self::Owed(error) => error,
            Self::Findings => anyhow::anyhow!("there are findings"),
            Self::Interrupted { .. } => anyhow::anyhow!("the run was interrupted"),
            Self::Unread => anyhow::anyhow!("the reader of stdout closed it"),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Refused(_) => 2,
            Self::Leased(_) => 3,
            Self::Owed(_) => 4,
            Self::Findings => 10,
            Self::Interrupted { .. } => 130,
            Self::Unread => 141,
        })
    }
}

/// An error before anything runs is a refusal. Later errors are converted by [`Failure::running`].
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

fn is_unread(cause: &(dyn std::error::Error + 'static)) -> bool {
    let is_pipe = |e: &std::io::Error| e.kind() == ErrorKind::BrokenPipe;
    match cause.downcast_ref::<ArrowError>() {
        Some(ArrowError::IoError(_, e)) => is_pipe(e),
        _ => cause.downcast_ref().is_some_and(is_pipe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_no_refusal() {
        // Points in time, too, are opened by a task of their own.
        let opening = tokio::spawn(async { panic!("as a bug would") });
        let opened: Result<(), Failure> = opening.await.map_err(Failure::running);
        let failure = opened.unwrap_err();
        assert!(matches!(failure, Failure::Failed(_)), "{failure:?}");
        assert_eq!(format!("{:?}", failure.exit_code()), format!("{:?}", ExitCode::from(1)));
    }
}
