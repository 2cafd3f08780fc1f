//! `GET /stats`, `/stats/events` and `/stats/history`: the fleet in numbers, once, once a second, or of the last hour.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use serde::Serialize;
use utoipa::ToSchema;

use super::events::{RETRY, unbuffered};
use super::jobs::no_store;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::openapi::{Errors, set};
use crate::http::options::Query;
use crate::service::stats::figures::Figures;
use crate::service::stats::history::EVERY;
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

/// The last hour of the fleet in numbers
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatsHistory {
    /// Seconds from one sample to the next.
    every_s: u64,
    /// Oldest first; those since this gateway started, at most an hour old.
    samples: Vec<Figures>,
}

/// The last hour of the fleet in numbers
///
/// One sample for each ten seconds since this gateway started. A restart of the gateway empties it.
#[utoipa::path(
    get,
    path = "/stats/history",
    operation_id = "statsHistory",
    tag = "service",
    responses(
        (status = 200, description = "The samples.", body = StatsHistory, headers(("Cache-Control"))),
        Errors<{ set(&[Code::InvalidOption]) }>,
    ),
)]
pub(super) async fn history(State(app): State<App>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.nothing()?;
    let history = StatsHistory {
        every_s: EVERY.as_secs(),
        samples: app.stats.history(),
    };
    Ok(no_store(StatusCode::OK, &history))
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
