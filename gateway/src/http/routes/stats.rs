//! `GET /stats` and `GET /stats/events`: the fleet in numbers, once or once a second.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{Stream, unfold};

use super::events::{RETRY, unbuffered};
use super::jobs::NOT_KEPT;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::options::Query;
use crate::service::stats::snapshot;

/// The numbers now.
pub(super) async fn show(State(app): State<App>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.nothing()?;
    let mut response = super::jobs::json(StatusCode::OK, &snapshot::of(&app))?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, NOT_KEPT);
    Ok(response)
}

/// The numbers each time they are read, until the client leaves or this gateway drains.
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
                return Some((Ok(event), (app, following)));
            }
        }
    });
    Ok(unbuffered(stream(events)))
}

fn stream(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).into_response()
}
