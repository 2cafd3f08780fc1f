//! The operator's endpoints: /livez, /readyz, /metrics. No jobs and no secrets here.

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Registry, TextEncoder};
use selvage_core::queue::{Health, Queue};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the endpoints look at.
#[derive(Clone, Debug)]
pub struct Ops {
    /// Everything that is counted.
    pub registry: Registry,
    /// Whether all queues are consumed.
    pub consuming: watch::Receiver<bool>,
    /// The broker.
    pub queue: Arc<dyn Queue>,
}

/// Serves the routes on that listener.
///
/// # Errors
/// Never at present.
pub async fn serve(ops: Ops, listener: TcpListener) -> io::Result<()> {
    axum::serve(listener, router(ops)).await
}

/// The routes.
pub fn router(ops: Ops) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

async fn ready(State(ops): State<Ops>) -> Response {
    let consuming = *ops.consuming.borrow();
    let queue = match ops.queue.health() {
        Health::Up => "up",
        Health::Blocked => "blocked",
        Health::Down => "down",
    };
    // A broker that takes no messages still gives them out, and answers still get into cache and records.
    let ready = consuming && queue != "down";
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({"ready": ready, "checks": {"consuming": consuming, "queue": queue}});
    (status, Json(body)).into_response()
}

async fn metrics(State(ops): State<Ops>) -> Response {
    match TextEncoder::new().encode_to_string(&ops.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
