//! Errors as clients see them: the only place that knows status codes. No decision is taken here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use selvage_core::BoxError;
use selvage_core::outcome::{Failure, FailureCode};
use selvage_core::store::StoreFull;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::admission::TooManyLists;
use crate::service::models::UnknownModel;
use crate::service::predictions::PredictError;
use crate::service::webhooks::ForbiddenWebhook;

/// When to come back while a dependency is away: reconnecting takes about so long.
const RETRY_DEPENDENCY: Duration = Duration::from_secs(2);
/// When to repeat a request whose first one is being submitted.
const RETRY_IN_PROGRESS: Duration = Duration::from_secs(1);
/// The media type of RFC 9457.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Defines [`Code`]: one row per code with its status, the code as clients read it, and its title.
macro_rules! codes {
    ($($code:ident: $status:literal, $word:literal, $title:literal;)*) => {
        /// What went wrong, as a stable word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the titles say what each means")]
        pub enum Code {
            $($code),*
        }

        impl Code {
            /// All codes.
            pub(crate) const ALL: &[Self] = &[$(Self::$code),*];

            const fn row(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$code => ($status, $word, $title)),*
                }
            }
        }
    };
}

codes! {
    BadRequest: 400, "bad_request", "The request cannot be read";
    EmptyBody: 400, "empty_body", "The request has no image";
    MissingImage: 400, "missing_image", "The request names no image";
    BadBase64: 400, "bad_base64", "The image is not valid base64";
    InvalidTensor: 400, "invalid_tensor", "The tensor does not fit";
    Unauthenticated: 401, "unauthenticated", "An API key is needed";
    Forbidden: 403, "forbidden", "This key may not do that";
    CrossOrigin: 403, "cross_origin", "Pages of that origin may not do that";
    NotFound: 404, "not_found", "There is nothing here";
    JobNotFound: 404, "job_not_found", "There is no such job";
    ModelNotFound: 404, "model_not_found", "There is no such model";
    MethodNotAllowed: 405, "method_not_allowed", "Wrong method";
    BodyTimeout: 408, "body_timeout", "The body came too slowly";
    RequestInProgress: 409, "request_in_progress", "The same request is being submitted";
    JobFinished: 409, "job_finished", "The job has ended already";
    JobCanceled: 409, "job_canceled", "The job was canceled";
    NotReplayable: 409, "not_replayable", "The dead letter cannot be replayed";
    JobExpired: 410, "job_expired", "The job's record is gone";
    PayloadTooLarge: 413, "payload_too_large", "The body is too large";
    UnsupportedMediaType: 415, "unsupported_media_type", "Not a supported image type";
    MisdirectedRequest: 421, "misdirected_request", "This gateway does not answer to that name";
    InvalidImage: 422, "invalid_image", "The image is broken";
    ImageTooLarge: 422, "image_too_large", "The image has too many pixels";
    InvalidOption: 422, "invalid_option", "An option is wrong";
    IdempotencyMismatch: 422, "idempotency_mismatch", "The idempotency key was used for another request";
    WebhookForbidden: 422, "webhook_forbidden", "The webhook cannot be sent";
    QueueFull: 429, "queue_full", "The queue is full";
    RateLimited: 429, "rate_limited", "This client asks too often";
    InferenceFailed: 500, "inference_failed", "The model gave no answer";
    Poison: 500, "poison", "The job could not be run";
    ModelGone: 500, "model_gone", "The model is no longer served";
    DeadLettered: 500, "dead_lettered", "The job was dead-lettered";
    Internal: 500, "internal", "Something went wrong here";
    UnsupportedTransferCoding: 501, "unsupported_transfer_coding", "The transfer coding is not known here";
    TooManyStreams: 503, "too_many_streams", "Too many streams are open here";
    BrokerUnavailable: 503, "broker_unavailable", "Jobs cannot be queued now";
    StoreUnavailable: 503, "store_unavailable", "Job records cannot be reached now";
    StoreFull: 503, "store_full", "There is no room for job records";
    Draining: 503, "draining", "This gateway is shutting down";
    DeadlineExceeded: 504, "deadline_exceeded", "No answer came in time";
}

impl Code {
    /// The code as clients read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The same in words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    /// The status it is answered with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<FailureCode> for Code {
    fn from(code: FailureCode) -> Self {
        match code {
            FailureCode::InvalidImage => Self::InvalidImage,
            FailureCode::ImageTooLarge => Self::ImageTooLarge,
            FailureCode::InferenceFailed => Self::InferenceFailed,
            FailureCode::Poison => Self::Poison,
            FailureCode::ModelGone => Self::ModelGone,
            FailureCode::DeadLettered => Self::DeadLettered,
        }
    }
}

/// One wrong field: `#/top_k` in a body, `?top_k` in the query, a header by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where it is.
    pub pointer: String,
    /// What is wrong with it.
    #[schema(value_type = String)]
    pub detail: Cow<'static, str>,
}

/// An answer that is an error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct ApiError {
    code: Code,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    fields: Vec<FieldError>,
    /// For the log only; never part of the answer.
    #[source]
    cause: Option<Arc<BoxError>>,
}

impl ApiError {
    /// An error with one sentence that says what to do about it.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: None,
            fields: Vec::new(),
            cause: None,
        }
    }

    /// `invalid_option` for one field.
    #[must_use]
    pub fn option(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        let pointer = pointer.into();
        let mut error = Self::new(Code::InvalidOption, format!("{pointer}: {detail}"));
        error.fields.push(FieldError { pointer, detail });
        error
    }

    /// `internal`; the reason is for the log only.
    #[must_use]
    pub fn internal(cause: impl Into<BoxError>) -> Self {
        Self::new(Code::Internal, "see the log").because(cause)
    }

    /// With the time after which retrying makes sense.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// With another sentence for the client.
    #[must_use]
    pub fn saying(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// With the reason, for the log.
    #[must_use]
    pub fn because(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(Arc::new(cause.into()));
        self
    }

    /// What went wrong.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The sentence for the client.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// When retrying makes sense.
    #[must_use]
    pub const fn after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The reason, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&BoxError> {
        self.cause.as_deref()
    }

    /// The problem object, without the request's id.
    #[must_use]
    pub fn problem(&self) -> Problem<'_> {
        Problem {
            retry_after_ms: self.retry_after.map(millis),
            errors: &self.fields,
            ..Problem::of(self.code, &self.detail)
        }
    }

    /// The answer, complete but for headers every answer has.
    #[must_use]
    pub fn render(&self, request_id: &str) -> Response {
        let problem = Problem {
            request_id: Some(request_id),
            ..self.problem()
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, retry_after(after));
        }
        response
    }
}

/// `Retry-After`: whole seconds, rounded up, at least one.
#[must_use]
pub fn retry_after(after: Duration) -> HeaderValue {
    HeaderValue::from(millis(after).div_ceil(1000).max(1))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl From<PredictError> for ApiError {
    fn from(error: PredictError) -> Self {
        match error {
            PredictError::Full {
                waiting,
                retry_after,
            } => {
                let seconds = retry_after.as_secs_f64();
                let detail = format!("{waiting} jobs are waiting, about {seconds:.1} s of work");
                Self::new(Code::QueueFull, detail).retry_after(retry_after)
            }
            PredictError::TooLarge => Self::new(
                Code::PayloadTooLarge,
                "the image is larger than a job may be",
            ),
            PredictError::Broker(cause) => {
                let detail = "the message broker does not take jobs; nothing was queued";
                let error =
                    Self::new(Code::BrokerUnavailable, detail).retry_after(RETRY_DEPENDENCY);
                match cause {
                    Some(cause) => error.because(cause),
                    None => error,
                }
            }
            PredictError::Store(cause) => Self::store(cause),
            PredictError::Mismatch => {
                let detail =
                    "this key was sent with another request; use a new key for a new request";
                Self::new(Code::IdempotencyMismatch, detail)
            }
            PredictError::InProgress => {
                let detail = "the first request with this idempotency key is not confirmed yet; repeat this one";
                Self::new(Code::RequestInProgress, detail).retry_after(RETRY_IN_PROGRESS)
            }
            PredictError::Draining => {
                let detail = "this gateway takes no new work; ask another one";
                Self::new(Code::Draining, detail).retry_after(RETRY_DEPENDENCY)
            }
            PredictError::Canceled => Self::new(Code::JobCanceled, "the job was canceled"),
            PredictError::Failed(failure) => Self::failed(failure),
        }
    }
}

impl From<TooManyLists> for ApiError {
    fn from(error: TooManyLists) -> Self {
        let detail = "one list is read at a time; wait for it before you ask for the next";
        Self::new(Code::RateLimited, detail).retry_after(error.retry_after)
    }
}

impl From<UnknownModel> for ApiError {
    fn from(error: UnknownModel) -> Self {
        let detail = match error {
            UnknownModel::Name => "no model of that name; GET /models lists them",
            UnknownModel::Version => "that version is not served; GET /models lists what is",
        };
        Self::new(Code::ModelNotFound, detail)
    }
}

impl From<ForbiddenWebhook> for ApiError {
    fn from(ForbiddenWebhook(detail): ForbiddenWebhook) -> Self {
        Self::new(Code::WebhookForbidden, detail)
    }
}

impl ApiError {
    /// `store_unavailable` or `store_full`, with its reason for the log.
    #[must_use]
    pub fn store(cause: impl Into<BoxError>) -> Self {
        let cause = cause.into();
        let (code, detail) = if StoreFull::is_in(cause.as_ref()) {
            let detail = "there is no room for another job record until older ones end; waiting for an answer still works";
            (Code::StoreFull, detail)
        } else {
            let detail = "job records cannot be read or written; waiting for an answer still works";
            (Code::StoreUnavailable, detail)
        };
        Self::new(code, detail)
            .retry_after(RETRY_DEPENDENCY)
            .because(cause)
    }

    /// What a waiting client gets for a failed job. What went wrong inside is for the log.
    fn failed(failure: Failure) -> Self {
        match failure.code {
            FailureCode::InvalidImage | FailureCode::ImageTooLarge => {
                Self::new(failure.code.into(), failure.detail)
            }
            FailureCode::InferenceFailed
            | FailureCode::Poison
            | FailureCode::ModelGone
            | FailureCode::DeadLettered => {
                let cause = format!("{}: {}", failure.code.as_str(), failure.detail);
                Self::new(Code::InferenceFailed, "the image could not be classified").because(cause)
            }
        }
    }
}

impl IntoResponse for ApiError {
    /// A response without body: the outermost layer knows the request's id and renders it.
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem object: the body of an error, and the `error` of a failed job.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, required = false)]
    errors: &'a [FieldError],
}

impl<'a> Problem<'a> {
    fn of(code: Code, detail: &'a str) -> Self {
        let (status, word, title) = code.row();
        Self {
            r#type: format!("/problems/{word}"),
            title,
            status,
            code: word,
            detail,
            request_id: None,
            retry_after_ms: None,
            errors: &[],
        }
    }
}

impl<'a> From<&'a Failure> for Problem<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self::of(failure.code.into(), &failure.detail)
    }
}

#[cfg(test)]
mod tests;
