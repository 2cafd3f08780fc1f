//! `GET /models` and `GET /models/{name}`: what can be asked, and who could answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use selvage_core::catalog::{Input, Model, Output, Task};
use selvage_core::job::ModelName;
use selvage_core::key::Digest;
use selvage_core::registry::{Members, ModelStatus, Placement};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::openapi::{Errors, set};
use crate::http::options::Query;

#[derive(Serialize, ToSchema)]
#[schema(as = ModelList)]
pub(super) struct List<'a> {
    default: &'a str,
    models: Vec<Shown<'a>>,
}

/// A model as clients see it: its description and the file that jobs are for, and who holds which file of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Model)]
pub(super) struct Shown<'a> {
    name: &'a str,
    version: &'a str,
    digest: Digest,
    description: &'a str,
    default: bool,
    task: Task,
    labels: &'a [String],
    max_batch: usize,
    input: &'a Input,
    output: &'a Output,
    /// Each worker with each file of the model it holds: two while one file takes over from another. Unknown while the
    /// registry cannot be asked.
    workers: Option<Vec<Holder<'a>>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ModelHolder)]
pub(super) struct Holder<'a> {
    id: &'a str,
    version: &'a str,
    digest: Digest,
    sessions: u16,
    busy: u16,
    jobs: u64,
    batches: u64,
    /// What the worker runs it on; unknown for workers of earlier versions.
    placement: Option<&'a Placement>,
}

/// All models
///
/// With the workers that hold them.
#[utoipa::path(
    get,
    path = "/models",
    operation_id = "listModels",
    tag = "models",
    responses(
        (status = 200, description = "The models.", body = List),
        Errors<{ set(&[Code::InvalidOption]) }>,
    ),
)]
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, ApiError> {
    Query::of(&uri)?.nothing()?;
    let workers = app.predictions.queues.read_members().await;
    let catalog = app.models.catalog();
    let models = catalog.models().iter();
    let list = List {
        default: app.models.default_name(),
        models: models
            .map(|model| shown(&app, model, workers.as_ref()))
            .collect(),
    };
    Ok(Json(list).into_response())
}

/// One model
///
/// Its labels, the rules for its input, and the workers that hold it.
#[utoipa::path(
    get,
    path = "/models/{name}",
    operation_id = "showModel",
    tag = "models",
    params(("name" = inline(ModelName), Path, description = "The model's name.",
    example = "fashion-mnist")),
    responses(
        (status = 200, description = "The model.", body = Shown),
        Errors<{ set(&[Code::InvalidOption, Code::ModelNotFound]) }>,
    ),
)]
pub(super) async fn show(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, ApiError> {
    Query::of(&uri)?.nothing()?;
    let Path(name) = path.unwrap_or_else(|_| Path(String::new()));
    let model = app.models.find(Some(&name), None)?;
    let workers = app.predictions.queues.read_members().await;
    Ok(Json(shown(&app, &model, workers.as_ref())).into_response())
}

fn shown<'a>(app: &App, model: &'a Model, workers: Option<&'a Arc<Members>>) -> Shown<'a> {
    let holders = |members: &'a Arc<Members>| {
        let held = members
            .workers
            .iter()
            .flat_map(|worker| worker.models.iter().map(|held| (&worker.id, held)));
        let same = held.filter(|(_, held)| held.name == model.name);
        let holder = |(id, held): (&'a String, &'a ModelStatus)| Holder {
            id,
            version: &held.version,
            digest: held.digest,
            sessions: held.sessions,
            busy: held.busy,
            jobs: held.jobs,
            batches: held.batches,
            placement: held.placement.as_ref(),
        };
        same.map(holder).collect()
    };
    Shown {
        name: model.name.as_str(),
        version: &model.version,
        digest: model.digest,
        description: &model.description,
        default: model.name.as_str() == app.models.default_name(),
        task: model.task,
        labels: &model.labels,
        max_batch: model.max_batch,
        input: &model.input,
        output: &model.output,
        workers: workers.map(holders),
    }
}
