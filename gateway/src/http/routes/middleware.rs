//! What every request passes through: its id, its span, its count, the last word on errors and panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use selvage_core::job::JobId;
use selvage_core::program::trace::{self, Span};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::oip;
use crate::http::view::total_timing;
use crate::service::lifecycle::Phase;

pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// Routes that are asked by machines, again and again, and say nothing of jobs.
const QUIET: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// Longest id that is taken over from a client.
const MAX_ID_BYTES: usize = 128;

/// The id of a request, as the client or this gateway made it.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// Runs a request, then completes and counts its answer.
pub(super) async fn seen(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let is_oip = oip::owns(request.uri().path());
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("none", MatchedPath::as_str);
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let mut traced = start_trace(&mut request, method.as_str(), route);
    let span = tracing::debug_span!("request", request_id = %id, %method, route);
    let answered = AssertUnwindSafe(next.run(request).instrument(span))
        .catch_unwind()
        .await;
    let mut response = answered.unwrap_or_else(|_panic| {
        let error = ApiError::new(Code::Internal, "see the log for this request id");
        error.because("a handler panicked").into_response()
    });
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        log(&error, &id, route);
        // What layers and the route table had to say besides, as `Allow`.
        let said = std::mem::take(response.headers_mut());
        app.metrics
            .refused
            .with_label_values(&[error.code().as_str()])
            .inc();
        response = if is_oip {
            oip::render(&error)
        } else {
            error.render(&id)
        };
        for (name, value) in &said {
            response
                .headers_mut()
                .entry(name)
                .or_insert_with(|| value.clone());
        }
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    // Answers with an image's answer say more.
    let headers = response.headers_mut();
    if !headers.contains_key(SERVER_TIMING)
        && let Ok(value) = HeaderValue::try_from(total_timing(began.elapsed()))
    {
        headers.insert(SERVER_TIMING, value);
    }
    if app.life.phase() > Phase::Serving {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    if let Some(traced) = &mut traced {
        traced.answer(response.status().as_u16());
    }
    count(&app, route, method.as_str(), response.status(), began);
    response
}

/// Begins the request's part of its trace, if traces are kept; whoever reads the request's context gets this one.
fn start_trace(request: &mut Request, method: &str, route: &str) -> Option<Span> {
    if QUIET.contains(&route) {
        return None;
    }
    let parent = request.headers().get(TRACEPARENT);
    let span = trace::request(method, route, parent.and_then(|text| text.to_str().ok()))?;
    let carried = HeaderValue::try_from(span.traceparent()?.as_ref()).ok()?;
    request.headers_mut().insert(TRACEPARENT, carried);
    Some(span)
}

/// The client's id where it is 1 to 128 visible ASCII characters, else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let sane = |id: &&str| {
        (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
    };
    match given.filter(sane) {
        Some(id) => id.into(),
        None => JobId::new().to_string().into(),
    }
}

/// Server errors are logged once, here; client errors are not logged.
fn log(error: &ApiError, request_id: &str, route: &str) {
    let code = error.code().as_str();
    let cause = error.cause().map(chain).unwrap_or_default();
    if error.code().status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::warn!(
            request_id,
            route,
            code,
            cause,
            "a request failed: {code}: {cause}"
        );
    } else {
        tracing::debug!(
            request_id,
            route,
            code,
            cause,
            "a request was refused: {error}"
        );
    }
}

/// An error and all that caused it, in one line.
fn chain(error: &selvage_core::BoxError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn count(app: &App, route: &str, method: &str, status: StatusCode, began: Instant) {
    // A label must not be of a client's making.
    let method = match method {
        "GET" | "POST" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "PATCH" => method,
        _ => "other",
    };
    let labels = [route, method, status.as_str()];
    app.metrics.requests.with_label_values(&labels).inc();
    let seconds = app.metrics.seconds.with_label_values(&[route]);
    seconds.observe(began.elapsed().as_secs_f64());
}
