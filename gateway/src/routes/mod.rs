//! The route table, and nothing else.

mod access;
mod batch;
mod dead_letters;
mod events;
mod home;
mod input;
mod jobs;
mod list;
mod manner;
mod models;
mod oip;
mod ops;
mod predict;
mod receive;
mod seen;
mod stats;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::App;
use crate::error::{ApiError, Code};

/// Every path this gateway answers.
pub(crate) fn table(app: App) -> Router {
    let known = from_fn_with_state(app.clone(), access::known);
    open()
        .merge(guarded().route_layer(known))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), seen::seen))
        .with_state(app)
}

/// What everybody may ask: whether the gateway lives, and the pages that say how to use it.
fn open() -> Router<App> {
    Router::new()
        .route("/", get(home::home))
        .route("/fleet", get(home::fleet))
        .route("/ui/{version}/{file}", get(home::asset))
        .route("/livez", get(ops::alive))
        .route("/readyz", get(ops::ready))
        .route("/v2", get(oip::server))
        .route("/v2/health/live", get(oip::live))
        .route("/v2/health/ready", get(oip::ready))
}

/// What needs an API key where keys are configured; handlers here may take a [`crate::access::Caller`].
fn guarded() -> Router<App> {
    Router::new()
        .route("/predict", post(predict::predict))
        .route("/predict/batch", post(batch::predict_batch))
        .route("/jobs", post(predict::submit).get(list::list))
        .route("/jobs/{id}", get(jobs::show))
        .route("/jobs/{id}/events", get(events::follow))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/models", get(models::list))
        .route("/models/{name}", get(models::show))
        .route("/models/{name}/input", post(input::input))
        .route("/stats", get(stats::show))
        .route("/stats/events", get(stats::follow))
        .route(
            "/admin/dead-letters",
            get(dead_letters::list).delete(dead_letters::purge),
        )
        .route("/admin/dead-letters/replay", post(dead_letters::replay_all))
        .route(
            "/admin/dead-letters/{id}/replay",
            post(dead_letters::replay),
        )
        .route("/metrics", get(ops::metrics))
        .merge(models_v2("/v2/models/{name}"))
        .merge(models_v2("/v2/models/{name}/versions/{version}"))
}

/// What the Open Inference Protocol asks of one model.
fn models_v2(model: &str) -> Router<App> {
    Router::new()
        .route(model, get(oip::metadata))
        .route(&format!("{model}/ready"), get(oip::model_ready))
        .route(&format!("{model}/infer"), post(oip::infer))
}

async fn not_found() -> ApiError {
    ApiError::new(Code::NotFound, "no such path; GET / lists them")
}

async fn wrong_method() -> ApiError {
    ApiError::new(
        Code::MethodNotAllowed,
        "this path has other methods: see Allow",
    )
}
