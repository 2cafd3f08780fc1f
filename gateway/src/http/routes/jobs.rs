//! `GET /jobs/{id}`, with long poll, and `POST /jobs/{id}/cancel`.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use selvage_core::clock::UnixMillis;
use selvage_core::job::JobId;
use selvage_core::store::{Cancel, Record};
use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code, retry_after};
use crate::http::options::Query;
use crate::http::prefer::{PREFERENCE_APPLIED, Prefer, applied_wait};
use crate::http::view::JobView;
use crate::service::queues::QueueView;

/// Longest time the store may take for one answer.
pub(super) const STORE_LIMIT: Duration = Duration::from_secs(3);
/// Shortest and longest time between two polls that a client is advised.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Answers are no one's but the asker's, and a job's state is old at once.
pub(super) const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The job as it is now, or as soon as it has ended.
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
    let mut response = record_response(&app, StatusCode::OK, &record)?;
    if preferred.is_some() {
        response
            .headers_mut()
            .insert(PREFERENCE_APPLIED, applied_wait(wait.as_secs()));
    }
    Ok(response)
}

/// Cancels what has not ended.
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
    let canceled = timeout(STORE_LIMIT, app.store.cancel(id)).await;
    let canceled = canceled
        .map_err(ApiError::store)?
        .map_err(ApiError::store)?;
    app.predictions.watch.nudge(id);
    match canceled {
        Cancel::Canceled => record_response(&app, StatusCode::OK, &find(&app, &caller, id).await?),
        Cancel::Requested => {
            record_response(&app, StatusCode::ACCEPTED, &find(&app, &caller, id).await?)
        }
        Cancel::Finished(state) => {
            let detail = format!("the job has ended already: {}", state.as_str());
            Err(ApiError::new(Code::JobFinished, detail))
        }
        Cancel::Unknown => Err(unknown(&app, id)),
    }
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
    let got = timeout(STORE_LIMIT, app.store.get(&[id])).await;
    let mut records = got.map_err(ApiError::store)?.map_err(ApiError::store)?;
    let record = records.pop().flatten();
    let own = record.filter(|record| caller.owns(record));
    own.ok_or_else(|| unknown(app, id))
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

fn record_response(app: &App, status: StatusCode, record: &Record) -> Result<Response, ApiError> {
    let queue = app.predictions.queues.queue_view(record);
    let job = JobView::recorded(record, queue, app.predictions.durable);
    let mut response = json(status, &job)?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, NOT_KEPT);
    if !record.state.is_terminal() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, retry_after(next_poll(queue)));
    }
    Ok(response)
}

/// When a client should ask again.
pub(super) fn next_poll(queue: Option<QueueView>) -> Duration {
    let eta_ms = queue.map_or(0, |queue| queue.eta_ms);
    Duration::from_millis(eta_ms).clamp(POLL.0, POLL.1)
}

/// A JSON answer, written once into one buffer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, ApiError> {
    let mut buffer = Vec::with_capacity(1024);
    serde_json::to_writer(&mut buffer, body)
        .map_err(|error| ApiError::new(Code::Internal, "see the log").because(error))?;
    Ok((status, [(header::CONTENT_TYPE, JSON)], buffer).into_response())
}
