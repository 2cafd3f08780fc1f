//! `POST /predict` and `POST /jobs`: one image to one answer.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use selvage_core::job::CachePolicy;
use selvage_core::job_state::JobState;
use selvage_core::store::Record;

use super::middleware::{RequestId, SERVER_TIMING};
use super::receive::{Received, receive};
use super::response_mode::ResponseMode;
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code, retry_after};
use crate::http::upload::Count;
use crate::http::view::{JobView, Timings};
use crate::service::predictions::{Answer, Finished, PredictRequest, Source};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Waits for the answer, as long as the client wants to.
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
    answer(&app, &received, &response_mode).await
}

/// Submits a job at once; only the cache is asked first.
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
    answer(&app, &received, &response_mode).await
}

async fn answer(
    app: &App,
    received: &Received,
    response_mode: &ResponseMode,
) -> Result<Response, ApiError> {
    let ask = received.asks(app, response_mode.wait).pop();
    let ask = ask.unwrap_or_else(|| Err(ApiError::new(Code::MissingImage, "send an image")))?;
    let (mut response, finished) = match app.predictions.answer(&ask).await? {
        Answer::Finished(finished) => (finished_response(&ask, &finished)?, true),
        Answer::Recorded(record) if record.state.is_terminal() => {
            (ended_response(app, &ask, &record)?, true)
        }
        Answer::Recorded(record) => {
            let mut response = accepted_response(app, &record)?;
            let status = cache_status(ask.policy, source(&ask, &record));
            let status = status.map(|value| (CACHE_STATUS, value));
            response.headers_mut().extend(status);
            (response, false)
        }
    };
    let headers = response.headers_mut();
    headers.extend(response_mode.applied(finished));
    headers.insert(header::CACHE_CONTROL, super::jobs::NOT_KEPT);
    Ok(response)
}

fn finished_response(ask: &PredictRequest, finished: &Finished) -> Result<Response, ApiError> {
    let timings = Timings::of(&finished.cost, finished.total);
    let job = JobView::finished(ask, finished, timings);
    let mut response = super::jobs::json(StatusCode::OK, &job)?;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(timings.server_timing()) {
        headers.insert(SERVER_TIMING, value);
    }
    if let Source::Cache(Some(hit)) = finished.source {
        headers.insert(header::AGE, hit.age.as_secs().into());
    }
    if let Some(value) = cache_status(ask.policy, finished.source) {
        headers.insert(CACHE_STATUS, value);
    }
    Ok(response)
}

/// A job with a record that has ended within the wait, or before a repeat of its request.
fn ended_response(app: &App, ask: &PredictRequest, record: &Record) -> Result<Response, ApiError> {
    let job = JobView::recorded(record, None, app.predictions.durable);
    let timings = job.timings();
    let mut response = super::jobs::json(StatusCode::OK, &job)?;
    let timing = timings.and_then(|timings| HeaderValue::try_from(timings.server_timing()).ok());
    let headers = response.headers_mut();
    headers.extend(timing.map(|value| (SERVER_TIMING, value)));
    let status = cache_status(ask.policy, source(ask, record));
    headers.extend(status.map(|value| (CACHE_STATUS, value)));
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

pub(super) fn accepted_response(app: &App, record: &Record) -> Result<Response, ApiError> {
    let queue = app.predictions.queues.queue_view(record);
    let job = JobView::recorded(record, queue, app.predictions.durable);
    let mut response = super::jobs::json(StatusCode::ACCEPTED, &job)?;
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(format!("/jobs/{}", record.seed.id)) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(
        header::RETRY_AFTER,
        retry_after(super::jobs::next_poll(queue)),
    );
    Ok(response)
}
