//! `/admin/dead-letters`, for API keys with the scope `admin`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::Response;
use selvage_core::job::JobId;
use selvage_core::store::Record;
use serde::Serialize;
use utoipa::ToSchema;

use super::jobs::{NOT_KEPT, json};
use super::predict::accepted_response;
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code, Problem};
use crate::http::options::Query;
use crate::service::dead_letters::DeadLetterError;
use crate::service::lifecycle::Phase;
use crate::service::predictions::PredictError;

/// Dead letters on a page, and replayed by one request, unless the request says otherwise.
pub(super) const USUAL: u64 = 50;
/// Most of either: a replay of many runs while the client waits.
pub(super) const MOST: u64 = 500;
/// Largest offset; more dead letters are not kept.
pub(super) const LAST: u64 = 10_000;

/// A page of dead letters, oldest first.
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, ApiError> {
    caller.must_be_admin()?;
    let query = Query::of(&uri)?.only(&["limit", "offset"])?;
    let limit = query.number("limit", 1..=MOST)?.unwrap_or(USUAL);
    let offset = query.number("offset", 0..=LAST)?.unwrap_or(0);
    let page = app.dead_letters.list(offset, limit).await;
    let page = page.map_err(|error| refused(&app, error))?;
    answer(StatusCode::OK, &page)
}

/// One dead letter as a new job.
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
    let record: Record = replayed.await.map_err(broken)??;
    let mut response = accepted_response(&app, &record)?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, NOT_KEPT);
    Ok(response)
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

/// Many dead letters, each as a new job.
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
    let replayed = replayed.await.map_err(broken)??;
    let stopped = replayed.stopped.map(|error| refused(&app, error));
    if let (Some(error), true) = (&stopped, replayed.jobs.is_empty()) {
        return Err(error.clone());
    }
    let jobs = replayed.jobs.into_iter();
    let view = ReplayedView {
        replayed: jobs.map(|(id, job)| ReplayView { id, job }).collect(),
        skipped: replayed.skipped,
        error: stopped.as_ref().map(ApiError::problem),
    };
    answer(StatusCode::OK, &view)
}

#[derive(Serialize, ToSchema)]
pub(super) struct Purged {
    purged: u64,
}

/// All dead letters, deleted.
pub(super) async fn purge(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, ApiError> {
    caller.must_be_admin()?;
    Query::of(&uri)?.nothing()?;
    let purged = app.dead_letters.purge().await;
    let purged = purged.map_err(|error| refused(&app, error))?;
    answer(StatusCode::OK, &Purged { purged })
}

fn answer(status: StatusCode, body: &impl Serialize) -> Result<Response, ApiError> {
    let mut response = json(status, body)?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, NOT_KEPT);
    Ok(response)
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

fn broken(died: tokio::task::JoinError) -> ApiError {
    ApiError::new(Code::Internal, "see the log").because(died)
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
