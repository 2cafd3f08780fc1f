//! `POST /predict/batch`: several images, each its own job; one that is bad fails alone.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use futures_util::future::join_all;
use selvage_core::job::JobId;
use selvage_core::store::Record;
use serde::Serialize;
use utoipa::ToSchema;

use super::middleware::RequestId;
use super::receive::{Received, receive};
use super::response_mode::ResponseMode;
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, retry_after};
use crate::http::upload::Count;
use crate::http::view::{Failed, JobView, Timings};
use crate::service::predictions::{Answer, Finished, PredictRequest};

/// The answer's body: a job for each image, in the order they were sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Batch)]
pub(super) struct Items<'a> {
    items: Vec<JobView<'a>>,
}

/// What became of one image.
enum Item {
    Finished(Box<(PredictRequest, Finished)>),
    Recorded(Box<Record>),
    Failed(JobId, ApiError),
}

/// Waits for all answers, as long as the client wants to.
pub(super) async fn predict_batch(
    State(app): State<App>,
    caller: Caller,
    Extension(id): Extension<RequestId>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let received = receive(&app, (id, caller), (&uri, &headers), body, Count::Batch).await?;
    let response_mode = ResponseMode::waiting(&app.limits, &headers, received.options.wait);
    let items = answer(&app, &received, &response_mode).await?;
    respond(&app, &received, &items, &response_mode)
}

async fn answer(
    app: &App,
    received: &Received,
    response_mode: &ResponseMode,
) -> Result<Vec<Item>, ApiError> {
    let asks = received.asks(app, response_mode.wait);
    if let Some(first) = asks.iter().flatten().find(|ask| ask.idempotency.is_some()) {
        claim_key(app, first).await?;
    }
    let items = join_all(asks.into_iter().map(|ask| one(app, ask))).await;
    let refused = items.iter().map(overload);
    match refused.collect::<Option<Vec<_>>>().as_deref() {
        // Where nothing could be taken, the whole request is to be sent again.
        Some([error, ..]) => Err((*error).clone()),
        Some([]) | None => Ok(items),
    }
}

/// Makes the first job before any other, or finds it: its idempotency key decides whether the whole request is a repeat,
/// a new one, or another one's. The job is joined when its turn comes.
async fn claim_key(app: &App, first: &PredictRequest) -> Result<(), ApiError> {
    let claim = PredictRequest {
        id: JobId::new(),
        wait: Duration::ZERO,
        ..first.clone()
    };
    app.predictions.answer(&claim).await?;
    Ok(())
}

async fn one(app: &App, ask: Result<PredictRequest, ApiError>) -> Item {
    let ask = match ask {
        Ok(ask) => ask,
        Err(error) => return Item::Failed(JobId::new(), error),
    };
    match app.predictions.answer(&ask).await {
        Ok(Answer::Finished(finished)) => Item::Finished(Box::new((ask, finished))),
        Ok(Answer::Recorded(record)) => Item::Recorded(record),
        Err(error) => Item::Failed(ask.id, error.into()),
    }
}

/// The reason why an image was not taken, where it is none of the image's.
fn overload(item: &Item) -> Option<&ApiError> {
    match item {
        Item::Failed(_, error) if matches!(error.code().status().as_u16(), 429 | 503) => {
            Some(error)
        }
        Item::Failed(..) | Item::Finished(_) | Item::Recorded(_) => None,
    }
}

fn respond(
    app: &App,
    received: &Received,
    items: &[Item],
    response_mode: &ResponseMode,
) -> Result<Response, ApiError> {
    let now = app.predictions.clock.now();
    let mut next_poll = None;
    let mut views = Vec::with_capacity(items.len());
    for (item, image) in items.iter().zip(&received.images) {
        views.push(match item {
            Item::Finished(finished) => {
                let (ask, finished) = finished.as_ref();
                let timings = Timings::of(&finished.cost, finished.total);
                JobView::finished(ask, finished, timings)
            }
            Item::Recorded(record) => {
                let queue = app.predictions.queues.queue_view(record);
                if !record.state.is_terminal() {
                    next_poll = next_poll.max(Some(super::jobs::next_poll(queue)));
                }
                JobView::recorded(record, queue, app.predictions.durable)
            }
            Item::Failed(id, error) => {
                let failed = Failed {
                    id: *id,
                    model: &received.model,
                    image: image.as_ref().ok().map(|image| image.digest),
                    metadata: &received.options.metadata,
                    created_at: received.created_at,
                    error,
                };
                JobView::failed(&failed, now)
            }
        });
    }
    let status = match next_poll {
        Some(_) => StatusCode::ACCEPTED,
        None => StatusCode::OK,
    };
    let mut response = super::jobs::json(status, &Items { items: views })?;
    let headers = response.headers_mut();
    headers.extend(next_poll.map(|after| (header::RETRY_AFTER, retry_after(after))));
    headers.extend(response_mode.applied(next_poll.is_none()));
    headers.insert(header::CACHE_CONTROL, super::jobs::NOT_KEPT);
    Ok(response)
}
