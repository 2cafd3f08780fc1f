//! What this gateway depends on, each in a word.

use serde::Serialize;
use utoipa::ToSchema;

/// Each as `ok` or `down`; the broker also as `blocked`: connected, but it takes no messages. `unknown` before the first
/// look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Dependencies {
    /// The way to the workers.
    pub broker: &'static str,
    /// Records of asynchronous jobs, and the list of processes.
    pub store: &'static str,
    /// Results that processes share.
    pub cache: &'static str,
}

impl Default for Dependencies {
    fn default() -> Self {
        Self {
            broker: "unknown",
            store: "unknown",
            cache: "unknown",
        }
    }
}
