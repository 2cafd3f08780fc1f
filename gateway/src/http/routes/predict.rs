//! `POST /predict` and `POST /jobs`: one image to one answer.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::Response;
use selvage_core::job::CachePolicy;
use selvage_core::job_state::JobState;
use selvage_core::store::Record;

use super::jobs::{accepted_response, ended_response, view};
use super::middleware::{RequestId, SERVER_TIMING};
use super::receive::{IMAGE, IMAGES, PIXEL, Received, SUBMISSION, WAIT, receive};
use super::response_mode::ResponseMode;
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::openapi::{Binary, Errors, Wait, job};
use crate::http::options::Options;
use crate::http::upload::Count;
use crate::http::view::JobView;
use crate::service::predictions::{Answer, PredictRequest, Source};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Classify an image and wait for the answer
///
/// Waits 10 s by default. If the wait ends first, the answer is a 202 with a job to follow.
#[utoipa::path(
    post,
    path = "/predict",
    operation_id = "predict",
    tag = "predictions",
    params(Options, Wait),
    request_body(
        description = "The first bytes decide what the content is, not its type.",
        content(
            (Binary = "image/png"), (Binary = "image/jpeg"), (Binary = "image/webp"),
            (Binary = "image/gif"), (Binary = "image/bmp"), (Binary = "application/octet-stream"),
            (ref("#/components/schemas/ImageForm") = "multipart/form-data",
             encoding(("image" = (content_type = IMAGES)))),
            (ref("#/components/schemas/ImageJson") = "application/json",
             example = json!({"image": PIXEL, "top_k": 1})),
        ),
    ),
    responses(
        (status = 200, description = "The job, ended, or its vector as little-endian floats if that type is accepted.",
         content(
             (JobView = "application/json", example = json!(job("succeeded"))),
             (Binary = "application/octet-stream"),
         ),
         headers(("Age"), ("Cache-Status"), ("Preference-Applied"), ("Cache-Control"))),
        (status = 202, description = "The job, unfinished; poll it.", body = JobView,
         headers(("Cache-Control"), ("Cache-Status"), ("Location"), ("Preference-Applied"), ("Retry-After")),
         example = json!(job("queued"))),
        Errors<{ SUBMISSION | IMAGE | WAIT }>,
    ),
)]
pub(super) async fn predict(
    State(app): State<App>,
    caller: Caller,
    Extension(id): Extension<RequestId>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let received = receive(&app, (id, caller), (&uri, &headers), body, Count::One).await?;
    let response_mode = ResponseMode::waiting(&app.limits, &headers, received.options.wait);
    answer(&app, &headers, &received, &response_mode).await
}

/// Submit a classification job
///
/// Never waits: 202 when the job is stored and queued, or 200 when the cache has the answer.
#[utoipa::path(
    post,
    path = "/jobs",
    operation_id = "submit",
    tag = "predictions",
    params(Options),
    request_body(
        description = "The first bytes decide what the content is, not its type.",
        content(
            (Binary = "image/png"), (Binary = "image/jpeg"), (Binary = "image/webp"),
            (Binary = "image/gif"), (Binary = "image/bmp"), (Binary = "application/octet-stream"),
            (ref("#/components/schemas/ImageForm") = "multipart/form-data",
             encoding(("image" = (content_type = IMAGES)))),
            (ref("#/components/schemas/ImageJson") = "application/json",
             example = json!({"image": PIXEL, "top_k": 1})),
        ),
    ),
    responses(
        (status = 200, description = "The job, ended, or its vector as little-endian floats if that type is accepted.",
         content(
             (JobView = "application/json", example = json!(job("succeeded"))),
             (Binary = "application/octet-stream"),
         ),
         headers(("Age"), ("Cache-Status"), ("Preference-Applied"), ("Cache-Control"))),
        (status = 202, description = "The job, unfinished; poll it.", body = JobView,
         headers(("Cache-Control"), ("Cache-Status"), ("Location"), ("Preference-Applied"), ("Retry-After")),
         example = json!(job("queued"))),
        Errors<{ SUBMISSION | IMAGE }>,
    ),
)]
pub(super) async fn submit(
    State(app): State<App>,
    caller: Caller,
    Extension(id): Extension<RequestId>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let received = receive(&app, (id, caller), (&uri, &headers), body, Count::One).await?;
    let response_mode = ResponseMode::submitting(&headers, received.options.wait)?;
    answer(&app, &headers, &received, &response_mode).await
}

async fn answer(
    app: &App,
    headers: &HeaderMap,
    received: &Received,
    response_mode: &ResponseMode,
) -> Result<Response, ApiError> {
    let ask = received.asks(app, response_mode.wait).pop();
    let ask = ask.unwrap_or_else(|| Err(ApiError::new(Code::MissingImage, "send an image")))?;
    let answer = app.predictions.answer(&ask).await?;
    let (job, source) = match &answer {
        Answer::Finished(finished) => (JobView::finished(&ask, finished), finished.source),
        Answer::Recorded(record) => (view(app, record), source(&ask, record)),
    };
    let ended = job.status.is_terminal();
    let mut response = if ended {
        ended_response(headers, &job)
    } else {
        accepted_response(&job)
    };
    let headers = response.headers_mut();
    let timing = job.timings.map(|timings| timings.server_timing());
    let timing = timing.and_then(|text| HeaderValue::try_from(text).ok());
    headers.extend(timing.map(|value| (SERVER_TIMING, value)));
    if let Source::Cache(Some(hit)) = source {
        headers.insert(header::AGE, hit.age.as_secs().into());
    }
    let status = cache_status(ask.policy, source);
    headers.extend(status.map(|value| (CACHE_STATUS, value)));
    headers.extend(response_mode.applied(ended));
    Ok(response)
}

/// Where the answer of a job with a record comes from, or will.
fn source(ask: &PredictRequest, record: &Record) -> Source {
    match record.state {
        _ if record.cached => Source::Cache(None),
        _ if record.seed.id != ask.id => Source::Collapsed,
        JobState::Succeeded => Source::Computed {
            stored: ask.policy.write,
        },
        JobState::Expired => Source::Nowhere,
        JobState::Queued | JobState::Running | JobState::Failed | JobState::Canceled => {
            Source::Computed { stored: false }
        }
    }
}

/// `Cache-Status` (RFC 9211).
fn cache_status(policy: CachePolicy, source: Source) -> Option<HeaderValue> {
    let forwarded = if policy.read { "uri-miss" } else { "request" };
    let text = match source {
        Source::Cache(Some(hit)) => format!("selvage; hit; ttl={}", hit.ttl.as_secs()),
        Source::Cache(None) => "selvage; hit".to_owned(),
        Source::Computed { stored: true } => format!("selvage; fwd={forwarded}; stored"),
        Source::Computed { stored: false } => format!("selvage; fwd={forwarded}"),
        Source::Collapsed => format!("selvage; fwd={forwarded}; collapsed"),
        Source::Nowhere => return None,
    };
    HeaderValue::try_from(text).ok()
}
