//! `GET /jobs/{id}/events`: a job as server-sent events, one per change, ending with the job.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{Stream, unfold};
use selvage_core::job::JobId;
use selvage_core::store::Record;

use super::jobs::{JOB, NOT_KEPT, find, job_id, view};
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::openapi::Errors;
use crate::http::options::Query;
use crate::service::watch::Version;

/// Between two comments on a stream where nothing happens: proxies close what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client comes back whose stream broke.
pub(super) const RETRY: Duration = Duration::from_secs(2);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks proxies of the nginx family not to hold events back.
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// Where a stream stands: what is sent next, or what was sent last.
enum Cursor {
    Next(Box<Record>),
    Sent(Version),
    End,
}

/// A job as a stream of its changes
///
/// Server-sent events named `status` with the job as data and an id: the state now, unless `Last-Event-ID` says that it is known,
/// then each change. The stream ends with the job. Every 15 s without a change a comment is sent.
#[utoipa::path(
    get,
    path = "/jobs/{id}/events",
    operation_id = "followJob",
    tag = "jobs",
    params(
        ("id" = inline(JobId), Path, description = "The job's id, a UUID of version 7."),
        ("Last-Event-ID", Header,
         description = "The id of the last event that the client has seen."),
    ),
    responses(
        (status = 200, description = "The stream.", body = ref("#/components/schemas/JobEvent"),
         content_type = "text/event-stream",
         headers(("Cache-Control"), ("X-Accel-Buffering"))),
        (status = 204, description = "The client has seen the end; it must not reconnect."),
        Errors<JOB>,
    ),
)]
pub(super) async fn follow(
    State(app): State<App>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = job_id(path)?;
    Query::of(&uri)?.nothing()?;
    let record = find(&app, &caller, id).await?;
    let version = Version::of(&record);
    let seen = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let begin = if seen == Some(version.to_string().as_str()) {
        if record.state.is_terminal() {
            // A 204 makes a browser's EventSource stop reconnecting.
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Cursor::Sent(version)
    } else {
        Cursor::Next(Box::new(record))
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    let changes = Sse::new(changes(app, id, begin)).keep_alive(keep_alive);
    Ok(unbuffered(changes.into_response()))
}

/// Says that a stream is neither to be kept nor to be held back.
pub(super) fn unbuffered(mut stream: Response) -> Response {
    let headers = stream.headers_mut();
    headers.insert(header::CACHE_CONTROL, NOT_KEPT);
    headers.extend([UNBUFFERED]);
    stream
}

fn changes(app: App, id: JobId, begin: Cursor) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold((app, begin), move |(app, cursor)| async move {
        let record = match cursor {
            Cursor::Next(record) => *record,
            Cursor::Sent(known) => app.predictions.watch.changed(id, known).await?,
            Cursor::End => return None,
        };
        let event = event(&app, &record)?;
        let cursor = if record.state.is_terminal() {
            Cursor::End
        } else {
            Cursor::Sent(Version::of(&record))
        };
        Some((Ok(event), (app, cursor)))
    })
}

fn event(app: &App, record: &Record) -> Option<Event> {
    let event = Event::default()
        .event("status")
        .id(Version::of(record).to_string())
        .retry(RETRY);
    event.json_data(view(app, record)).ok()
}
