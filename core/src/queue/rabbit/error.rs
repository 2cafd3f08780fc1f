//! What can go wrong between us and the broker, and which of it is final.

use std::time::Duration;

use lapin::ErrorKind;

use crate::queue::{PublishError, QueueError};

/// Reply codes that say no for good: wrong path, access, a locked queue, other arguments, a virtual host that is not
/// there or not ours, and what this broker does not implement. <https://www.rabbitmq.com/amqp-0-9-1-reference.html#constants>
const REFUSALS: [u16; 6] = [402, 403, 405, 406, 530, 540];

/// Why something with the broker did not work. Cheap to clone, since one failure ends many waits.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum RabbitError {
    #[error("not connected yet")]
    NotConnected,
    #[error("the connection is closed")]
    Closed,
    #[error("the connection was given up")]
    GivenUp,
    #[error("the broker has stopped taking messages because it runs short of memory or disk")]
    Blocked,
    #[error("{0} took longer than {1:?}")]
    Slow(&'static str, Duration),
    #[error("the broker has no queue `{0}`")]
    NoQueue(String),
    #[error("the broker did not confirm the message")]
    NotConfirmed,
    #[error("{0}")]
    Unusable(&'static str),
    #[error(transparent)]
    Amqp(#[from] lapin::Error),
}

impl RabbitError {
    /// Whether a second attempt on a new channel is worth it: the connection broke, the broker was not silent.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::Amqp(_) | Self::GivenUp | Self::NotConnected)
    }

    /// The broker's own words where it refused for good; they name objects and users, never passwords.
    pub(super) fn refusal(&self) -> Option<String> {
        match self {
            Self::Unusable(what) => Some((*what).to_owned()),
            Self::Amqp(error) => match error.kind() {
                ErrorKind::ProtocolError(answer) if REFUSALS.contains(&answer.get_id()) => {
                    Some(answer.get_message().to_string())
                }
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<RabbitError> for PublishError {
    fn from(error: RabbitError) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<RabbitError> for QueueError {
    fn from(error: RabbitError) -> Self {
        match error.refusal() {
            Some(answer) => Self::Refused(answer),
            None => Self::Unavailable(error.into()),
        }
    }
}
