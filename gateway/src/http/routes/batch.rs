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

use super::jobs::{next_poll, no_store, view};
use super::middleware::RequestId;
use super::receive::{IMAGES, PIXEL, Received, SUBMISSION, WAIT, receive};
use super::response_mode::ResponseMode;
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, retry_after};
use crate::http::openapi::{Errors, Wait, job};
use crate::http::options::Options;
use crate::http::upload::Count;
use crate::http::view::{Failed, JobView};
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

/// Classify up to 64 images
///
/// Each image is a job of its own, at its place in `items`; an invalid image fails alone. If no image could be accepted for lack of
/// room, the whole request is that error.
#[utoipa::path(
    post,
    path = "/predict/batch",
    operation_id = "predictBatch",
    tag = "predictions",
    params(Options, Wait),
    request_body(
        description = "The first bytes decide what an image is, not its type.",
        content(
            (ref("#/components/schemas/ImagesForm") = "multipart/form-data",
             encoding(("image" = (content_type = IMAGES)))),
            (ref("#/components/schemas/ImagesJson") = "application/json",
             example = json!({"images": [PIXEL, PIXEL]})),
        ),
    ),
    responses(
        (status = 200, description = "The jobs, all ended.", body = Items,
         headers(("Preference-Applied"), ("Cache-Control")),
         example = json!({"items": [job("succeeded")]})),
        (status = 202, description = "The jobs, some unfinished.", body = Items,
         headers(("Retry-After"), ("Preference-Applied"), ("Cache-Control")),
         example = json!({"items": [job("queued")]})),
        Errors<{ SUBMISSION | WAIT }>,
    ),
)]
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
    Ok(respond(&app, &received, &items, &response_mode))
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
) -> Response {
    let now = app.predictions.clock.now();
    let jobs = items.iter().zip(&received.images);
    let items: Vec<_> = jobs
        .map(|(item, image)| match item {
            Item::Finished(finished) => JobView::finished(&finished.0, &finished.1),
            Item::Recorded(record) => view(app, record),
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
        })
        .collect();
    let next_poll = items.iter().filter_map(next_poll).max();
    let status = match next_poll {
        Some(_) => StatusCode::ACCEPTED,
        None => StatusCode::OK,
    };
    let mut response = no_store(status, &Items { items });
    let headers = response.headers_mut();
    headers.extend(next_poll.map(|after| (header::RETRY_AFTER, retry_after(after))));
    headers.extend(response_mode.applied(next_poll.is_none()));
    response
}
