//! `GET /jobs/{id}`, with long poll, and `POST /jobs/{id}/cancel`.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use selvage_core::clock::UnixMillis;
use selvage_core::job::JobId;
use selvage_core::store::{Cancel, Record, StoreError};
use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code, retry_after};
use crate::http::openapi::{Binary, Errors, Wait, job, set};
use crate::http::options::Query;
use crate::http::prefer::{PREFERENCE_APPLIED, Prefer, applied_wait};
use crate::http::view::JobView;

/// Longest time the store may take for one answer.
const STORE_LIMIT: Duration = Duration::from_secs(3);
/// Shortest and longest time between two polls that a client is advised.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Answers are no one's but the asker's, and a job's state is old at once.
pub(super) const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");
const FLOATS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// What a request for one job can end in.
pub(super) const JOB: u64 = set(&[
    Code::JobNotFound,
    Code::JobExpired,
    Code::InvalidOption,
    Code::StoreUnavailable,
]);

/// A job as it is now
///
/// With `wait`, or `Prefer: wait=N`, the answer comes when the job has ended, or after that time.
#[utoipa::path(
    get,
    path = "/jobs/{id}",
    operation_id = "showJob",
    tag = "jobs",
    params(
        ("id" = inline(JobId), Path, description = "The job's id, a UUID of version 7."),
        Wait,
        ("Prefer", Header, description = "`wait=N` (RFC 7240); wins over `wait`."),
    ),
    responses(
        (status = 200, description = "The job, or its vector as little-endian floats if that type is accepted.",
         content(
             (JobView = "application/json", example = json!(job("succeeded"))),
             (Binary = "application/octet-stream"),
         ),
         headers(("Retry-After"), ("Preference-Applied"), ("Cache-Control"))),
        Errors<JOB>,
    ),
)]
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = job_id(path)?;
    let preferred = Prefer::of(&headers)
        .wait
        .map(|seconds| Duration::from_secs(seconds.into()));
    let asked = Query::of(&uri)?.only_wait()?;
    let wait = preferred
        .or(asked)
        .unwrap_or_default()
        .min(app.limits.max_wait);
    let mut record = find(&app, &caller, id).await?;
    if !record.state.is_terminal() && !wait.is_zero() {
        record = match app.predictions.watch.ended(id, Instant::now() + wait).await {
            Some(ended) => ended,
            None => find(&app, &caller, id).await?,
        };
    }
    let mut response = ended_response(&headers, &view(&app, &record));
    if preferred.is_some() {
        response
            .headers_mut()
            .insert(PREFERENCE_APPLIED, applied_wait(wait.as_secs()));
    }
    Ok(response)
}

/// Cancel a job
///
/// Takes no body.
#[utoipa::path(
    post,
    path = "/jobs/{id}/cancel",
    operation_id = "cancelJob",
    tag = "jobs",
    params(("id" = inline(JobId), Path, description = "The job's id, a UUID of version 7.")),
    responses(
        (status = 200, description = "The job, canceled.", body = JobView,
         headers(("Cache-Control")), example = json!(job("canceled"))),
        (status = 202, description = "The job, running, and asked to stop.", body = JobView,
         headers(("Cache-Control"), ("Retry-After")), example = json!(job("running"))),
        Errors<{ JOB | set(&[Code::JobFinished, Code::StoreFull]) }>,
    ),
)]
pub(super) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let id = job_id(path)?;
    Query::of(&uri)?.nothing()?;
    // Whose it is never changes, so looking first and canceling then is safe.
    find(&app, &caller, id).await?;
    let canceled = stored(STORE_LIMIT, app.store.cancel(id)).await?;
    app.predictions.watch.nudge(id);
    let status = match canceled {
        Cancel::Canceled => StatusCode::OK,
        Cancel::Requested => StatusCode::ACCEPTED,
        Cancel::Finished(state) => {
            let detail = format!("the job has ended already: {}", state.as_str());
            return Err(ApiError::new(Code::JobFinished, detail));
        }
        Cancel::Unknown => return Err(unknown(&app, id)),
    };
    let record = find(&app, &caller, id).await?;
    Ok(job_response(status, &view(&app, &record)))
}

/// An id that could not have been issued is simply not found.
pub(super) fn job_id(path: Result<Path<String>, PathRejection>) -> Result<JobId, ApiError> {
    let Path(text) = path.unwrap_or_else(|_| Path(String::new()));
    // RFC 9562 §4: either case is read, lower case is written.
    text.to_ascii_lowercase().parse().map_err(|_| {
        ApiError::new(
            Code::JobNotFound,
            "job ids are UUIDs as POST /jobs answers them",
        )
    })
}

/// The record, if it is the caller's: another's job is not found, by the same words as one that never was.
pub(super) async fn find(app: &App, caller: &Caller, id: JobId) -> Result<Record, ApiError> {
    let mut records = stored(STORE_LIMIT, app.store.get(&[id])).await?;
    let record = records.pop().flatten();
    let own = record.filter(|record| caller.owns(record));
    own.ok_or_else(|| unknown(app, id))
}

/// What the store answers within that time.
pub(super) async fn stored<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, ApiError> {
    let answered = timeout(limit, call).await.map_err(ApiError::store)?;
    answered.map_err(ApiError::store)
}

/// The id tells its own age, and no record is forgotten before the retention is over.
fn unknown(app: &App, id: JobId) -> ApiError {
    let age = UnixMillis::wall().since(id.made_at());
    if age > app.limits.retention {
        let kept = app.limits.retention.as_secs();
        let detail = format!("records are kept for {kept} s; this one is gone");
        return ApiError::new(Code::JobExpired, detail);
    }
    let detail = "no such job; an answer given within the wait leaves no record";
    ApiError::new(Code::JobNotFound, detail)
}

/// A job with a record, with its queue position.
pub(super) fn view<'a>(app: &App, record: &'a Record) -> JobView<'a> {
    let queue = app.predictions.queues.queue_view(record);
    JobView::recorded(record, queue, app.predictions.durable)
}

/// A job that has ended: its vector as little-endian floats where the client accepts them, else as JSON.
pub(super) fn ended_response(headers: &HeaderMap, job: &JobView<'_>) -> Response {
    let vector = job.vector().filter(|_| accepts_floats(headers));
    let Some(vector) = vector else {
        return job_response(StatusCode::OK, job);
    };
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let headers = [
        (header::CACHE_CONTROL, NOT_KEPT),
        (header::CONTENT_TYPE, FLOATS),
    ];
    (headers, bytes).into_response()
}

/// Whether the client names the type and does not prefer JSON; `*/*` gets JSON.
fn accepts_floats(headers: &HeaderMap) -> bool {
    let floats = weight(headers, "application/octet-stream");
    floats > 0.0 && floats >= weight(headers, "application/json")
}

/// The largest weight that `Accept` gives a type it names; 0 where it does not.
fn weight(headers: &HeaderMap, kind: &str) -> f32 {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    let weights = accepted
        .flat_map(|value| value.split(','))
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_it = parts.next()?.eq_ignore_ascii_case(kind);
            let named = parts.find_map(|part| part.strip_prefix("q="));
            is_it.then(|| named.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
        });
    weights.fold(0.0, f32::max)
}

pub(super) fn job_response(status: StatusCode, job: &JobView<'_>) -> Response {
    let mut response = no_store(status, job);
    let after = next_poll(job).map(|after| (header::RETRY_AFTER, retry_after(after)));
    response.headers_mut().extend(after);
    response
}

/// 202, with the job's URL.
pub(super) fn accepted_response(job: &JobView<'_>) -> Response {
    let mut response = job_response(StatusCode::ACCEPTED, job);
    let location = HeaderValue::try_from(format!("/jobs/{}", job.id)).ok();
    let location = location.map(|location| (header::LOCATION, location));
    response.headers_mut().extend(location);
    response
}

/// When a client should ask again; `None` if the job has ended.
pub(super) fn next_poll(job: &JobView<'_>) -> Option<Duration> {
    let eta_ms = job.queue.map_or(0, |queue| queue.eta_ms);
    let poll = Duration::from_millis(eta_ms).clamp(POLL.0, POLL.1);
    (!job.status.is_terminal()).then_some(poll)
}

/// A JSON answer that must not be stored.
pub(super) fn no_store(status: StatusCode, body: &impl Serialize) -> Response {
    (status, [(header::CACHE_CONTROL, NOT_KEPT)], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_for_clients_that_name_them_and_do_not_prefer_json() {
        for (accept, floats) in [
            ("application/octet-stream", true),
            ("Application/Octet-Stream;q=0.2", true),
            ("application/json, application/octet-stream", true),
            (
                "application/json;q=0.5, application/octet-stream; q=0.9",
                true,
            ),
            ("application/json, application/octet-stream;q=0.5", false),
            ("application/octet-stream;q=0", false),
            ("application/octet-stream;q=much", false),
            ("*/*", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(accepts_floats(&headers), floats, "{accept}");
        }
    }
}
