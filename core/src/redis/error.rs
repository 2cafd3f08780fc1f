//! Why a call to Redis failed. Names the server, never its credentials.

use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;

use super::fit::Unfit;
use crate::BoxError;

/// The address cannot be used at all; no attempt to connect was made.
#[derive(Debug, thiserror::Error)]
#[error("{redis} is not a usable Redis address")]
pub struct OpenError {
    pub(super) redis: Arc<str>,
    #[source]
    pub(super) source: BoxError,
}

/// Why a call failed. Whatever the reason, the call may have been carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// There is no connection.
    #[error("{redis} cannot be reached")]
    Unreachable {
        redis: Arc<str>,
        #[source]
        source: RedisError,
    },
    /// It cannot hold records.
    #[error(transparent)]
    Unfit(Unfit),
    /// The answer did not come in time.
    #[error("{redis} did not answer within {} ms", .budget.as_millis())]
    Silent { redis: Arc<str>, budget: Duration },
    /// It did not answer a moment ago, so it is not asked.
    #[error("{redis} has stopped answering and is not asked for a moment")]
    Resting { redis: Arc<str> },
    /// The connection broke, or the server refused: full memory, read-only, loading, busy.
    #[error("a call to {redis} failed")]
    Failed {
        redis: Arc<str>,
        #[source]
        source: RedisError,
    },
    /// The server holds something this program did not write.
    #[error("{redis} holds a record that cannot be read")]
    Damaged {
        redis: Arc<str>,
        #[source]
        source: Arc<super::record::Damage>,
    },
    /// The task behind the connection has ended: the process is going down.
    #[error("the connection to {redis} is closed")]
    Closed { redis: Arc<str> },
}

impl LinkError {
    /// Whether the server refused because its memory is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if source.code() == Some("OOM"))
    }

    /// Whether the server itself said so.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Failed { source, .. } => !source.is_io_error(),
            Self::Damaged { .. } => true,
            _ => false,
        }
    }
}
