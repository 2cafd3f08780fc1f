//! One call of the API, as often as it may have to be sent.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// One call of the API. Sending it twice is the same to the server as sending it once.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// How long the server has been asked to wait before it answers.
    pub(super) wait: Duration,
    /// No try begins after this.
    pub(super) deadline: Instant,
    /// Whether an answer of any status is what was asked for.
    pub(super) any_status: bool,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>, deadline: Instant) -> Self {
        Self::new(Method::GET, path.into(), deadline)
    }

    pub(crate) fn post(path: impl Into<String>, deadline: Instant) -> Self {
        Self::new(Method::POST, path.into(), deadline)
    }

    fn new(method: Method, path: String, deadline: Instant) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            wait: Duration::ZERO,
            deadline,
            any_status: false,
        }
    }

    /// With a query parameter, where there is a value.
    pub(crate) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query
            .extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Takes an answer of any status for a good one.
    pub(crate) const fn any_status(mut self, any: bool) -> Self {
        self.any_status = any;
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// Asks the server to wait so long for the end of the job.
    pub(crate) fn wait(mut self, wait: Duration) -> Self {
        // A part of a second is a second: no wait at all would be another question.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.wait = wait;
        self.query("wait", Some(seconds))
    }
}
