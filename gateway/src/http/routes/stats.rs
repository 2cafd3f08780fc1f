//! `GET /stats` and `GET /stats/events`: the fleet in numbers, once or once a second.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;

use super::events::{RETRY, unbuffered};
use super::jobs::no_store;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::openapi::{Errors, set};
use crate::http::options::Query;
use crate::service::stats::snapshot::{self, Snapshot};

/// The fleet in numbers
///
/// At most about two seconds old.
#[utoipa::path(
    get,
    path = "/stats",
    operation_id = "stats",
    tag = "service",
    responses(
        (status = 200, description = "The numbers.", body = Snapshot, headers(("Cache-Control"))),
        Errors<{ set(&[Code::InvalidOption]) }>,
    ),
)]
pub(super) async fn show(State(app): State<App>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.nothing()?;
    Ok(no_store(StatusCode::OK, &snapshot::of(&app)))
}

/// The fleet in numbers, as a stream
///
/// Server-sent events named `stats`, one per second, until the client disconnects or the gateway drains.
#[utoipa::path(
    get,
    path = "/stats/events",
    operation_id = "followStats",
    tag = "service",
    responses(
        (status = 200, description = "The stream.", body = ref("#/components/schemas/StatsEvent"),
         content_type = "text/event-stream",
         headers(("Cache-Control"), ("X-Accel-Buffering"))),
        Errors<{ set(&[Code::InvalidOption, Code::TooManyStreams]) }>,
    ),
)]
pub(super) async fn follow(State(app): State<App>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.nothing()?;
    let Some(following) = app.stats.follow() else {
        let detail = "close another stream of this gateway, or read GET /stats now and then";
        return Err(ApiError::new(Code::TooManyStreams, detail).retry_after(RETRY));
    };
    let events = unfold((app, following), |(app, mut following)| async move {
        loop {
            let changed = following.latest.changed();
            app.life.draining.run_until_cancelled(changed).await?.ok()?;
            let json = std::sync::Arc::clone(&following.latest.borrow_and_update());
            if !json.is_empty() {
                let event = Event::default().event("stats").retry(RETRY).data(&*json);
                return Some((Ok::<_, Infallible>(event), (app, following)));
            }
        }
    });
    Ok(unbuffered(Sse::new(events).into_response()))
}
