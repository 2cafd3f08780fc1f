//! `/admin/dead-letters`, for API keys with the scope `admin`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use selvage_core::job::JobId;
use selvage_core::store::Record;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::jobs::{accepted_response, no_store, view};
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code, Problem};
use crate::http::openapi::{Errors, job, set};
use crate::http::options::Query;
use crate::http::view::JobView;
use crate::service::dead_letters::{DeadLetterError, Page};
use crate::service::lifecycle::Phase;
use crate::service::predictions::PredictError;

/// Dead letters on a page, and replayed by one request, unless the request says otherwise.
const USUAL: u64 = 50;
/// Most of either: a replay of many runs while the client waits.
const MOST: u64 = 500;
/// Largest offset; more dead letters are not kept.
const LAST: u64 = 10_000;

/// What every request for dead letters can end in.
const ANY: u64 = set(&[
    Code::Forbidden,
    Code::InvalidOption,
    Code::StoreUnavailable,
    Code::StoreFull,
]);
/// What a replay can end in.
const REPLAY: u64 = ANY
    | set(&[
        Code::NotReplayable,
        Code::NotFound,
        Code::PayloadTooLarge,
        Code::QueueFull,
        Code::IdempotencyMismatch,
        Code::RequestInProgress,
        Code::BrokerUnavailable,
        Code::Draining,
    ]);

/// Which dead letters are listed.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Dead letters on the page.
    #[param(minimum = 1, maximum = 500, default = 50, required = false)]
    limit: u64,
    /// Dead letters before the page.
    #[param(minimum = 0, maximum = 10_000, required = false)]
    offset: u64,
}

/// List dead letters
///
/// Oldest first, without their images.
#[utoipa::path(
    get,
    path = "/admin/dead-letters",
    operation_id = "listDeadLetters",
    tag = "admin",
    params(PageQuery),
    responses(
        (status = 200, description = "The page.", body = Page, headers(("Cache-Control")),
         links(("replayDeadLetter" = (
             operation_id = "replayDeadLetter",
             parameters(("id" = "$response.body#/items/0/id")),
         )))),
        Errors<ANY>,
    ),
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, ApiError> {
    caller.must_be_admin()?;
    let query = Query::of(&uri)?.only(&["limit", "offset"])?;
    let asked = PageQuery {
        limit: query.number("limit", 1..=MOST)?.unwrap_or(USUAL),
        offset: query.number("offset", 0..=LAST)?.unwrap_or(0),
    };
    let page = app.dead_letters.list(asked.offset, asked.limit).await;
    let page = page.map_err(|error| refused(&app, error))?;
    Ok(no_store(StatusCode::OK, &page))
}

/// Replay a dead letter
///
/// As a new job with `retry_of`.
#[utoipa::path(
    post,
    path = "/admin/dead-letters/{id}/replay",
    operation_id = "replayDeadLetter",
    tag = "admin",
    params(("id" = inline(JobId), Path, description = "The dead letter's id.")),
    responses(
        (status = 202, description = "The new job.", body = JobView,
         headers(("Location"), ("Retry-After"), ("Cache-Control")), example = json!(job("queued"))),
        Errors<REPLAY>,
    ),
)]
pub(super) async fn replay(
    State(app): State<App>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, ApiError> {
    caller.must_be_admin()?;
    let Path(text) = path.unwrap_or_else(|_| Path(String::new()));
    let id = text.parse().map_err(|_| not_found())?;
    Query::of(&uri)?.nothing()?;
    takes_work(&app)?;
    let replaying = app.clone();
    // In a task of its own: a client that goes away leaves no replay half done.
    let replayed = app.life.tasks.spawn(async move {
        let replayed = replaying.dead_letters.replay(id, caller.owner()).await;
        replayed.map_err(|error| refused(&replaying, error))
    });
    let record: Record = replayed.await.map_err(ApiError::internal)??;
    Ok(accepted_response(&view(&app, &record)))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Replayed)]
pub(super) struct ReplayedView<'a> {
    replayed: Vec<ReplayView>,
    skipped: u64,
    #[schema(value_type = Option<Problem>)]
    error: Option<Problem<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
pub(super) struct ReplayView {
    id: JobId,
    job: JobId,
}

/// Replay many dead letters
///
/// Each as a new job with `retry_of`; those without a job are skipped.
#[utoipa::path(
    post,
    path = "/admin/dead-letters/replay",
    operation_id = "replayDeadLetters",
    tag = "admin",
    params(
        ("limit" = Option<u64>, Query, description = "Dead letters to replay; 50 by default.",
         minimum = 1, maximum = 500),
    ),
    responses(
        (status = 200, description = "What was replayed.", body = ReplayedView,
         headers(("Cache-Control"))),
        Errors<REPLAY>,
    ),
)]
pub(super) async fn replay_all(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, ApiError> {
    caller.must_be_admin()?;
    let query = Query::of(&uri)?.only(&["limit"])?;
    let limit = query.number("limit", 1..=MOST)?.unwrap_or(USUAL);
    takes_work(&app)?;
    let replaying = app.clone();
    let replayed = app.life.tasks.spawn(async move {
        let replayed = replaying
            .dead_letters
            .replay_all(limit, caller.owner())
            .await;
        replayed.map_err(|error| refused(&replaying, error))
    });
    let replayed = replayed.await.map_err(ApiError::internal)??;
    let stopped = replayed.stopped.map(|error| refused(&app, error));
    if let (Some(error), true) = (&stopped, replayed.jobs.is_empty()) {
        return Err(error.clone());
    }
    let jobs = replayed.jobs.into_iter();
    let answer = ReplayedView {
        replayed: jobs.map(|(id, job)| ReplayView { id, job }).collect(),
        skipped: replayed.skipped,
        error: stopped.as_ref().map(ApiError::problem),
    };
    Ok(no_store(StatusCode::OK, &answer))
}

#[derive(Serialize, ToSchema)]
pub(super) struct Purged {
    purged: u64,
}

/// Delete all dead letters
///
/// They cannot be restored.
#[utoipa::path(
    delete,
    path = "/admin/dead-letters",
    operation_id = "purgeDeadLetters",
    tag = "admin",
    responses(
        (status = 200, description = "How many were deleted.", body = Purged,
         headers(("Cache-Control")), example = json!({"purged": 3})),
        Errors<ANY>,
    ),
)]
pub(super) async fn purge(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, ApiError> {
    caller.must_be_admin()?;
    Query::of(&uri)?.nothing()?;
    let purged = app.dead_letters.purge().await;
    let purged = purged.map_err(|error| refused(&app, error))?;
    Ok(no_store(StatusCode::OK, &Purged { purged }))
}

fn takes_work(app: &App) -> Result<(), ApiError> {
    if app.life.phase() >= Phase::Draining {
        return Err(PredictError::Draining.into());
    }
    Ok(())
}

fn not_found() -> ApiError {
    let detail = "no such dead letter; GET /admin/dead-letters lists them";
    ApiError::new(Code::NotFound, detail)
}

fn refused(app: &App, error: DeadLetterError) -> ApiError {
    match error {
        DeadLetterError::Unavailable(cause) => ApiError::store(cause),
        DeadLetterError::Unknown(_) => not_found(),
        DeadLetterError::Foreign(_) | DeadLetterError::NoModel(..) => {
            ApiError::new(Code::NotReplayable, error.to_string())
        }
        DeadLetterError::NotSubmitted(model, error) => {
            app.predictions.not_submitted(&model, error).into()
        }
    }
}
