//! Why a program could not start, or ended in failure.

use std::process::ExitCode;

use super::config::{EXIT_UNAVAILABLE, EXIT_USAGE};

/// Why a program could not start, or ended in failure. Each kind has an exit code of its own.
#[derive(Debug)]
pub enum StartError {
    /// A setting, or a file a setting points to, is wrong.
    Usage(anyhow::Error),
    /// A dependency refused us for good.
    Refused(anyhow::Error),
    /// Something else; retrying may help.
    Internal(anyhow::Error),
}

impl StartError {
    /// A wrong setting, under both its names.
    pub fn usage(setting: &'static str, error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into().context(setting))
    }

    /// Logs the error and returns the exit code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Usage(error) => (error, ExitCode::from(EXIT_USAGE)),
            Self::Refused(error) => (error, ExitCode::from(EXIT_UNAVAILABLE)),
            Self::Internal(error) => (error, ExitCode::FAILURE),
        };
        tracing::error!("{error:#}");
        code
    }
}
