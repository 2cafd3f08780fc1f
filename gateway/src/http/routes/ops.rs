//! `/livez`, `/readyz`, `/metrics`: for orchestrators and Prometheus.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prometheus::{Encoder as _, TextEncoder};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::jobs::NOT_KEPT;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::service::stats::dependencies::Dependencies;
use crate::service::stats::standing::{CHECK_LIMIT, standing};

#[derive(Serialize, ToSchema)]
pub(super) struct Alive {
    status: &'static str,
}

/// The process turns.
pub(super) async fn alive() -> Result<Response, ApiError> {
    let mut response = super::jobs::json(StatusCode::OK, &Alive { status: "alive" })?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, NOT_KEPT);
    Ok(response)
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

/// Whether traffic should come here, and what it stands on.
pub(super) async fn ready(State(app): State<App>) -> Result<Response, ApiError> {
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
    let mut response = super::jobs::json(code, &ready)?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, NOT_KEPT);
    Ok(response)
}

/// Everything that is counted, as Prometheus reads it.
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let encoder = TextEncoder::new();
    let mut text = Vec::with_capacity(16 * 1024);
    encoder
        .encode(&app.registry.gather(), &mut text)
        .map_err(|error| ApiError::new(Code::Internal, "see the log").because(error))?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
