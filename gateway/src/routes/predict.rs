//! `POST /predict` and `POST /jobs`: HTTP in, an [`Ask`] to the service, HTTP out.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use selvage_core::job::{CachePolicy, JobId};
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::store::Record;
use tokio::time::Instant;

use super::seen::RequestId;
use crate::App;
use crate::error::{ApiError, Code, retry_after};
use crate::options::{self, Options, Query};
use crate::predictions::{Answer, Ask, Finished, Source};
use crate::prefer::{PREFERENCE_APPLIED, Prefer, applied_wait};
use crate::upload::{self, LARGE_BYTES};
use crate::view::{JobView, Timings};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// W3C Trace Context §3.2: version 00 has 55 characters; later versions may have more.
const MAX_TRACEPARENT_BYTES: usize = 128;

/// How a request wants to be answered.
struct Manner {
    wait: Duration,
    /// `Preference-Applied`, if the answer comes within the wait or after it.
    applied: Option<HeaderValue>,
    /// `Preference-Applied: respond-async` belongs to a 202 only.
    asynchronous: bool,
}

/// Waits for the answer, as long as the client wants to.
pub(super) async fn predict(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (image, options) = receive(&app, &uri, &headers, body).await?;
    let began = Instant::now();
    let manner = manner(&app, Prefer::of(&headers), options.wait);
    let ask = ask(&app, began, id, &headers, (image, options), manner.wait).await?;
    answer(&app, &ask, &manner).await
}

/// Promises at once; only the cache is asked first.
pub(super) async fn submit(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (image, options) = receive(&app, &uri, &headers, body).await?;
    let began = Instant::now();
    if options.wait.is_some() {
        return Err(ApiError::option(
            "?wait",
            "POST /jobs never waits; POST /predict does",
        ));
    }
    let applied = Prefer::of(&headers).respond_async.then_some(RESPOND_ASYNC);
    let manner = Manner {
        wait: Duration::ZERO,
        applied,
        asynchronous: true,
    };
    let ask = ask(&app, began, id, &headers, (image, options), manner.wait).await?;
    answer(&app, &ask, &manner).await
}

const RESPOND_ASYNC: HeaderValue = HeaderValue::from_static("respond-async");

/// The header wins over the parameter. Both preferences together mean: wait so long, then 202.
fn manner(app: &App, prefer: Prefer, wait: Option<Duration>) -> Manner {
    let max = app.limits.max_wait;
    if let Some(seconds) = prefer.wait {
        let wait = Duration::from_secs(seconds.into()).min(max);
        let applied = Some(applied_wait(wait.as_secs()));
        return Manner {
            wait,
            applied,
            asynchronous: false,
        };
    }
    if prefer.respond_async {
        return Manner {
            wait: Duration::ZERO,
            applied: Some(RESPOND_ASYNC),
            asynchronous: true,
        };
    }
    let wait = wait.unwrap_or(app.limits.default_wait).min(max);
    Manner {
        wait,
        applied: None,
        asynchronous: false,
    }
}

/// The image and the options of a request; the image looks like one.
async fn receive(
    app: &App,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Options), ApiError> {
    // The body is read before anything else is refused: a client that still writes does not read our answer.
    let held = app.bodies.read(headers, body).await?;
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let detail = "idempotency keys are not supported yet";
        return Err(ApiError::option("Idempotency-Key", detail));
    }
    upload::refuse_encoding(headers)?;
    let query = Query::of(uri)?;
    let upload = upload::parse(headers, &query, held.bytes).await?;
    upload::check(&upload.image, app.limits.max_pixels)?;
    Ok((held.share.attach(upload.image), upload.options))
}

async fn ask(
    app: &App,
    began: Instant,
    RequestId(request_id): RequestId,
    headers: &HeaderMap,
    (image, options): (Bytes, Options),
    wait: Duration,
) -> Result<Ask, ApiError> {
    let model = app
        .models
        .find(options.model.as_deref(), options.version.as_deref())?;
    let key = PredictionKey {
        model: model.digest,
        prep: model.prep,
        image: digest(&image).await?,
    };
    let longest = app.limits.job_deadline;
    Ok(Ask {
        id: JobId::new(),
        key,
        model,
        image,
        policy: options::cache_policy(headers),
        top_k: options.top_k,
        metadata: options.metadata,
        wait,
        life: options
            .timeout
            .map_or(longest, |timeout| timeout.min(longest)),
        created_at: app.predictions.clock.now(),
        began,
        request_id,
        traceparent: traceparent(headers),
    })
}

/// Hashing is fast enough for the runtime's threads, but not for megabytes on them.
async fn digest(image: &Bytes) -> Result<Digest, ApiError> {
    if image.len() <= LARGE_BYTES {
        return Ok(Digest::of(image));
    }
    let image = image.clone();
    let hashed = tokio::task::spawn_blocking(move || Digest::of(&image)).await;
    hashed.map_err(|error| ApiError::new(Code::Internal, "see the log").because(error))
}

fn traceparent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    let sane = (55..=MAX_TRACEPARENT_BYTES).contains(&text.len()) && text.bytes().all(plain);
    sane.then(|| text.into())
}

async fn answer(app: &App, ask: &Ask, manner: &Manner) -> Result<Response, ApiError> {
    let mut response = match app.predictions.answer(ask).await? {
        Answer::Finished(finished) => {
            let mut response = finished_response(ask, &finished)?;
            if !manner.asynchronous {
                response.headers_mut().extend(applied(manner));
            }
            response
        }
        Answer::Promised(record) => {
            let mut response = promised_response(app, &record)?;
            response.headers_mut().extend(applied(manner));
            response
        }
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, super::jobs::NOT_KEPT);
    Ok(response)
}

fn applied(manner: &Manner) -> Option<(HeaderName, HeaderValue)> {
    manner
        .applied
        .clone()
        .map(|value| (PREFERENCE_APPLIED, value))
}

fn finished_response(ask: &Ask, finished: &Finished) -> Result<Response, ApiError> {
    let timings = Timings::of(&finished.cost, finished.total);
    let job = JobView::finished(ask, finished, timings);
    let mut response = super::jobs::json(StatusCode::OK, &job)?;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(timings.server_timing()) {
        headers.insert(SERVER_TIMING, value);
    }
    if let Some(value) = cache_status(ask.policy, finished.source) {
        headers.insert(CACHE_STATUS, value);
    }
    Ok(response)
}

/// `Cache-Status` (RFC 9211).
fn cache_status(policy: CachePolicy, source: Source) -> Option<HeaderValue> {
    let forwarded = if policy.read { "uri-miss" } else { "request" };
    let text = match source {
        Source::Cache(Some(ttl)) => format!("selvage; hit; ttl={}", ttl.as_secs()),
        Source::Cache(None) => "selvage; hit".to_owned(),
        Source::Computed { stored: true } => format!("selvage; fwd={forwarded}; stored"),
        Source::Computed { stored: false } => format!("selvage; fwd={forwarded}"),
        Source::Collapsed => format!("selvage; fwd={forwarded}; collapsed"),
        Source::Nowhere => return None,
    };
    HeaderValue::try_from(text).ok()
}

fn promised_response(app: &App, record: &Record) -> Result<Response, ApiError> {
    let queue = app.place_in_queue(record);
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
