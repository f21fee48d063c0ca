//! Why a command was not done, and the exit code that says so.
//!
//! Owns: the exit codes. Must not know: commands.

use std::process::ExitCode;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was run: the input is wrong, or who is needed for it does not answer. Exit code 2.
    Refused(anyhow::Error),
    /// It was run, and failed. Exit code 1.
    Failed(anyhow::Error),
    /// Ctrl-C. Exit code 130, as shells have it.
    Interrupted,
}

impl Failure {
    /// A failure of something that was already running.
    pub(crate) fn running(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(error.into())
    }

    /// For people, on one line.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Refused(e) | Self::Failed(e) => format!("error: {}", causes(e)),
            Self::Interrupted => "interrupted: the job was cancelled and its snapshots were closed".into(),
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Refused(_) => 2,
            Self::Interrupted => 130,
        })
    }
}

/// Whatever fails before something runs is a refusal; what runs says [`Failure::running`].
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// An error with its causes on one line, each said once: wrappers repeat what they wrap.
fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
