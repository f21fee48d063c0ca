//! Why a command was not done, and the exit code that says so.
//!
//! Owns: the exit codes. Must not know: commands.

use ballista_elasticsearch::one_line;
use datafusion::arrow::error::ArrowError;
use std::io::ErrorKind;
use std::process::ExitCode;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was run: the input is wrong, or who is needed for it does not answer. Exit code 2.
    /// Statements that only define something, such as a table, are not run.
    Refused(anyhow::Error),
    /// It was run, and failed; or a panic, wherever it came. Exit code 1.
    Failed(anyhow::Error),
    /// Ctrl-C. Exit code 130, as shells have it.
    Interrupted {
        /// Whether the job was cancelled and its search contexts were closed.
        cleaned_up: bool,
    },
    /// Whoever reads stdout has seen enough. Exit code 141, as shells have it.
    Unread,
}

impl Failure {
    /// A failure of something that was already running.
    pub(crate) fn running(error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        if error.chain().any(is_unread) { Self::Unread } else { Self::Failed(error) }
    }

    /// The same after something has run.
    pub(crate) fn after_others(self) -> Self {
        match self {
            Self::Refused(error) => Self::Failed(error),
            Self::Failed(_) | Self::Interrupted { .. } | Self::Unread => self,
        }
    }

    /// The same where something of it goes on.
    pub(crate) fn not_cleaned_up(self) -> Self {
        match self {
            Self::Interrupted { .. } => Self::Interrupted { cleaned_up: false },
            Self::Refused(_) | Self::Failed(_) | Self::Unread => self,
        }
    }

    /// For people, on one line of stderr.
    pub(crate) fn tell(&self) {
        match self {
            Self::Refused(e) | Self::Failed(e) => eprintln!("error: {}", one_line(e.as_ref())),
            Self::Interrupted { cleaned_up: true } => {
                eprintln!("interrupted: the job was cancelled and its search contexts were closed");
            }
            Self::Interrupted { cleaned_up: false } => eprintln!("interrupted"),
            Self::Unread => {}
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Refused(_) => 2,
            Self::Interrupted { .. } => 130,
            Self::Unread => 141,
        })
    }
}

/// Whatever fails before something runs is a refusal; what runs says [`Failure::running`].
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
        // As where points in time are opened: by a task of its own.
        let opening = tokio::spawn(async { panic!("as a bug would") });
        let opened: Result<(), Failure> = opening.await.map_err(Failure::running);
        let failure = opened.unwrap_err();
        assert!(matches!(failure, Failure::Failed(_)), "{failure:?}");
        assert_eq!(format!("{:?}", failure.exit_code()), format!("{:?}", ExitCode::from(1)));
    }
}
