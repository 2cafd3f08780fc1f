//! The states of a job's record.

use serde::{Deserialize, Serialize};

/// A job's state.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a worker.
    Queued,
    /// A worker has started it.
    Running,
    /// Ended with an answer.
    Succeeded,
    /// Ended without one.
    Failed,
    /// Ended by its client.
    Canceled,
    /// Ended by its deadline.
    Expired,
}

impl JobState {
    /// Whether the job has ended; such a state never changes.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The state as JSON, metrics and logs spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }
}
