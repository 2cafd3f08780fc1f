//! Telling a client's server that its job has ended: what was asked for, and what has become of it. Sends nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::job_state::JobState;

/// So long after its job's end a webhook is tried.
pub const TRIED_FOR: Duration = Duration::from_secs(86_400);

/// So long after its job's end a record is kept at least, until its webhook has ended: an hour more than it is tried for. The
/// scripts of the Redis store have the same number.
pub const KEPT_FOR: Duration = Duration::from_secs(90_000);

/// Where a job's webhook is delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// The client's address.
    pub url: String,
    /// The terminal states it is delivered for.
    pub events: Vec<JobState>,
}

/// What has become of telling it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Attempts so far.
    pub attempts: u32,
    /// Status of the last answer; `None` where none came.
    pub last_status: Option<u16>,
    /// Why the last attempt failed, in a word or two.
    pub last_error: Option<String>,
    /// When it was taken.
    pub delivered_at: Option<UnixMillis>,
    /// When it was given up.
    pub stopped_at: Option<UnixMillis>,
}

/// What comes after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, after so long.
    After(Duration),
    /// Nothing: it was taken, or given up.
    Nothing,
}
