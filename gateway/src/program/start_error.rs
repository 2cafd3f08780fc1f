//! Why a program could not start.

use std::process::ExitCode;

use selvage_core::config::{EXIT_UNAVAILABLE, EXIT_USAGE};

/// Why a start failed; each ends with another exit code.
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
    /// Logs it, and gives the code to end with.
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
