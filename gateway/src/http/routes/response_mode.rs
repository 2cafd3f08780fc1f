//! How a client wants to be answered: how long it waits, and what the answer says of its preferences.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::error::ApiError;
use crate::http::limits::Limits;
use crate::http::prefer::{PREFERENCE_APPLIED, Prefer, applied_wait};

const RESPOND_ASYNC: HeaderValue = HeaderValue::from_static("respond-async");

/// How a request wants to be answered.
#[derive(Clone, Debug)]
pub(super) struct ResponseMode {
    /// How long to wait for the end of the job.
    pub(super) wait: Duration,
    applied: Option<HeaderValue>,
    asynchronous: bool,
}

impl ResponseMode {
    /// The header wins over the parameter. Both preferences together mean: wait so long, then 202.
    pub(super) fn waiting(limits: &Limits, headers: &HeaderMap, wait: Option<Duration>) -> Self {
        let prefer = Prefer::of(headers);
        if let Some(seconds) = prefer.wait {
            let wait = Duration::from_secs(seconds.into()).min(limits.max_wait);
            return Self {
                wait,
                applied: Some(applied_wait(wait.as_secs())),
                asynchronous: false,
            };
        }
        if prefer.respond_async {
            return Self {
                wait: Duration::ZERO,
                applied: Some(RESPOND_ASYNC),
                asynchronous: true,
            };
        }
        Self {
            wait: wait.unwrap_or(limits.default_wait).min(limits.max_wait),
            applied: None,
            asynchronous: false,
        }
    }

    /// Never waits, whatever the header says.
    ///
    /// # Errors
    /// `invalid_option` for a `wait` in the query.
    pub(super) fn submitting(
        headers: &HeaderMap,
        wait: Option<Duration>,
    ) -> Result<Self, ApiError> {
        if wait.is_some() {
            let detail = "POST /jobs never waits; POST /predict does";
            return Err(ApiError::option("?wait", detail));
        }
        Ok(Self {
            wait: Duration::ZERO,
            applied: Prefer::of(headers).respond_async.then_some(RESPOND_ASYNC),
            asynchronous: true,
        })
    }

    /// `Preference-Applied`; that an answer is asynchronous is only true of one that is unfinished.
    pub(super) fn applied(&self, finished: bool) -> Option<(HeaderName, HeaderValue)> {
        let applied = self
            .applied
            .clone()
            .filter(|_| !(finished && self.asynchronous));
        applied.map(|value| (PREFERENCE_APPLIED, value))
    }
}
