//! `/livez`, `/readyz`, `/metrics`: for orchestrators and Prometheus.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prometheus::{Encoder as _, TextEncoder};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::jobs::no_store;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::service::stats::dependencies::Dependencies;
use crate::service::stats::standing::{CHECK_LIMIT, standing};

#[derive(Serialize, ToSchema)]
pub(super) struct Alive {
    status: &'static str,
}

/// Liveness probe
///
/// Whether the process runs. Needs no API key.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "alive",
    tag = "service",
    responses(
        (status = 200, description = "It runs.", body = Alive, headers(("Cache-Control")),
         example = json!({"status": "alive"})),
    ),
)]
pub(super) async fn alive() -> Response {
    no_store(StatusCode::OK, &Alive { status: "alive" })
}

#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    status: &'static str,
    mode: &'static str,
    checks: Checks,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Checks {
    #[serde(flatten)]
    dependencies: Dependencies,
    models: usize,
    /// Unknown while the registry cannot be asked.
    workers: Option<usize>,
}

/// Readiness probe
///
/// Whether to send requests here, and the state of the dependencies; `degraded` still answers synchronous requests. Needs no API key.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "ready",
    tag = "service",
    responses(
        (status = 200, description = "Ready.", body = Readiness, headers(("Cache-Control"))),
        (status = 503, description = "Not ready.", body = Readiness, headers(("Cache-Control"))),
    ),
)]
pub(super) async fn ready(State(app): State<App>) -> Response {
    let (dependencies, members) = tokio::join!(
        Dependencies::check(&app),
        timeout(CHECK_LIMIT, app.predictions.queues.read_members()),
    );
    let members = members.unwrap_or_else(|_| app.predictions.queues.members());
    let workers = members.map(|members| members.workers.len());
    let status = standing(&app, dependencies, workers);
    let code = if app.serves() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let ready = Readiness {
        status,
        mode: app.mode(),
        checks: Checks {
            dependencies,
            models: app.models.catalog().models().len(),
            workers,
        },
    };
    no_store(code, &ready)
}

/// All metrics
///
/// In the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "service",
    responses((status = 200, description = "The samples.", body = String)),
)]
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let encoder = TextEncoder::new();
    let mut text = Vec::with_capacity(16 * 1024);
    encoder
        .encode(&app.registry.gather(), &mut text)
        .map_err(ApiError::internal)?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
