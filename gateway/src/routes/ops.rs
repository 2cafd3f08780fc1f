//! `/livez`, `/readyz`, `/stats`, `/metrics`: for orchestrators, dashboards and Prometheus.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prometheus::{Encoder as _, TextEncoder};
use selvage_core::fleet::WorkerStatus;
use selvage_core::job::Lane;
use selvage_core::queue::Health;
use serde::Serialize;
use tokio::time::timeout;

use crate::App;
use crate::error::{ApiError, Code};
use crate::lifecycle::Phase;

/// Longest time a check may take; a probe's own limit is usually a second or more.
const CHECK_LIMIT: Duration = Duration::from_millis(700);
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

#[derive(Serialize)]
struct Alive {
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

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    mode: &'static str,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    broker: &'static str,
    store: &'static str,
    models: usize,
    /// Unknown while the registry cannot be asked.
    workers: Option<usize>,
}

/// Whether traffic should come here, and what it stands on.
pub(super) async fn ready(State(app): State<App>) -> Result<Response, ApiError> {
    let (store, workers) = tokio::join!(
        timeout(CHECK_LIMIT, app.store.ping()),
        timeout(CHECK_LIMIT, app.predictions.lanes.read_workers()),
    );
    let workers = workers.unwrap_or_else(|_| app.predictions.lanes.workers());
    let workers = workers.map(|workers| workers.len());
    let checks = Checks {
        broker: match app.predictions.queue.health() {
            Health::Up => "ok",
            Health::Blocked => "blocked",
            Health::Down => "down",
        },
        store: if store == Ok(true) { "ok" } else { "down" },
        models: app.models.all().len(),
        workers,
    };
    let serves = app.serves();
    let status = if app.life.phase() > Phase::Serving {
        "draining"
    } else if !serves {
        "unready"
    } else if checks.store != "ok" || workers.is_none_or(|workers| workers == 0) {
        "degraded"
    } else {
        "ready"
    };
    app.metrics.ready.set(f64::from(u8::from(serves)));
    let code = if serves {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut response = super::jobs::json(
        code,
        &Ready {
            status,
            mode: app.mode(),
            checks,
        },
    )?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, NOT_KEPT);
    Ok(response)
}

#[derive(Serialize)]
struct Stats<'a> {
    mode: &'static str,
    uptime_s: u64,
    in_flight: usize,
    in_flight_limit: usize,
    cache: CacheStats,
    lanes: Vec<LaneStats<'a>>,
    workers: Option<&'a [WorkerStatus]>,
}

#[derive(Serialize)]
struct CacheStats {
    hits: u64,
    misses: u64,
    collapsed: u64,
    errors: u64,
}

#[derive(Serialize)]
struct LaneStats<'a> {
    model: &'a str,
    interactive: u64,
    batch: u64,
    drain_per_s: f64,
}

/// The fleet in numbers, as this gateway last read them.
pub(super) async fn stats(State(app): State<App>) -> Result<Response, ApiError> {
    let lanes = &app.predictions.lanes;
    let workers = lanes.workers();
    let lane = |model: &'_ std::sync::Arc<selvage_core::catalog::Model>| {
        let depth = |lane| lanes.depth(&model.name, lane);
        (
            depth(Lane::Interactive),
            depth(Lane::Batch),
            lanes.per_second(&model.name),
        )
    };
    let per_model = app.models.all().iter().map(|model| {
        let (interactive, batch, per_second) = lane(model);
        let drain_per_s = (per_second * 10.0).round() / 10.0;
        LaneStats {
            model: model.name.as_str(),
            interactive,
            batch,
            drain_per_s,
        }
    });
    let stats = Stats {
        mode: app.mode(),
        uptime_s: app.started.elapsed().as_secs(),
        in_flight: app.predictions.admission.in_flight(),
        in_flight_limit: app.predictions.admission.max(),
        cache: CacheStats {
            hits: app.metrics.cache_hits.get(),
            misses: app.metrics.cache_misses.get(),
            collapsed: app.metrics.collapsed.get(),
            errors: app.metrics.cache_errors.get(),
        },
        lanes: per_model.collect(),
        workers: workers.as_ref().map(|workers| workers.as_slice()),
    };
    let mut response = super::jobs::json(StatusCode::OK, &stats)?;
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
