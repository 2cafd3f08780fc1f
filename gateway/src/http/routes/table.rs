//! The route table, and nothing else.

use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use utoipa_axum::router::OpenApiRouter;

use super::docs::Document;
use super::operations::inference::{self, Version};
use super::operations::{dead_letters as admin, jobs as following, predictions, service};
use super::{
    access, batch, browsers, dead_letters, docs, events, home, input, jobs, list, middleware,
    models, oip, ops, predict, stats,
};
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::openapi;

impl App {
    /// Every path this gateway answers, as a service that can be called without a server.
    pub fn router(&self) -> Router {
        let known = from_fn_with_state(self.clone(), access::known);
        let mut guarded = guarded();
        openapi::guard(guarded.get_openapi_mut(), self.access.is_guarded());
        let mut routes = open().merge(guarded.route_layer(known));
        openapi::complete(routes.get_openapi_mut());
        let (routes, document) = routes.split_for_parts();
        let mut routes = routes
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method);
        if let Some(cors) = browsers::cors(&self.limits.browsers) {
            routes = routes.layer(cors);
        }
        routes
            .layer(from_fn_with_state(self.clone(), browsers::checked))
            .layer(Extension(Document::new(&document)))
            .layer(from_fn_with_state(self.clone(), middleware::seen))
            .with_state(self.clone())
    }

    /// What orchestrators and Prometheus ask, for a listener that clients do not reach: no API key is needed.
    pub fn ops_router(&self) -> Router {
        Router::new()
            .route("/livez", get(ops::alive))
            .route("/readyz", get(ops::ready))
            .route("/metrics", get(ops::metrics))
            .fallback(not_served_here)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(self.clone(), middleware::seen))
            .with_state(self.clone())
    }
}

/// What everybody may ask: whether the gateway lives, and the pages that say how to use it.
fn open() -> OpenApiRouter<App> {
    let file = service::file;
    OpenApiRouter::with_openapi(openapi::empty())
        .routes(service::home().get("/", home::home))
        .routes(
            file("fleet", "The fleet at work, for people", "text/html").get("/fleet", home::fleet),
        )
        .routes(service::part().get("/ui/{version}/{file}", home::asset))
        .routes(service::document().get("/openapi.json", docs::document))
        .routes(file("docs", "This document, to be read", "text/html").get("/docs", docs::page))
        .routes(
            file("docsStart", "What starts the viewer", "text/javascript")
                .get("/docs/start.js", docs::start),
        )
        .routes(
            file("docsScript", "The viewer", "text/javascript")
                .get("/docs/swagger-ui-bundle.js", docs::script),
        )
        .routes(
            file("docsStyle", "The viewer's style", "text/css")
                .get("/docs/swagger-ui.css", docs::style),
        )
        .routes(service::alive().get("/livez", ops::alive))
        .routes(service::ready().get("/readyz", ops::ready))
        .routes(inference::server().get("/v2", oip::server))
        .routes(inference::live().get("/v2/health/live", oip::live))
        .routes(inference::ready().get("/v2/health/ready", oip::ready))
}

/// What needs an API key where keys are configured; handlers here may take a [`crate::http::access::Caller`].
fn guarded() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(predictions::predict().post("/predict", predict::predict))
        .routes(predictions::batch().post("/predict/batch", batch::predict_batch))
        .routes(predictions::submit().post("/jobs", predict::submit))
        .routes(following::list().get("/jobs", list::list))
        .routes(following::show().get("/jobs/{id}", jobs::show))
        .routes(following::events().get("/jobs/{id}/events", events::follow))
        .routes(following::cancel().post("/jobs/{id}/cancel", jobs::cancel))
        .routes(service::models().get("/models", models::list))
        .routes(service::model().get("/models/{name}", models::show))
        .routes(predictions::input().post("/models/{name}/input", input::input))
        .routes(service::stats().get("/stats", stats::show))
        .routes(service::stats_events().get("/stats/events", stats::follow))
        .routes(admin::list().get("/admin/dead-letters", dead_letters::list))
        .routes(admin::purge().delete("/admin/dead-letters", dead_letters::purge))
        .routes(admin::replay_all().post("/admin/dead-letters/replay", dead_letters::replay_all))
        .routes(admin::replay().post("/admin/dead-letters/{id}/replay", dead_letters::replay))
        .routes(service::metrics().get("/metrics", ops::metrics))
        .merge(models_v2("/v2/models/{name}", Version::Only))
        .merge(models_v2(
            "/v2/models/{name}/versions/{version}",
            Version::Named,
        ))
}

/// What the Open Inference Protocol asks of one model.
fn models_v2(model: &str, version: Version) -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(inference::metadata(version).get(model, oip::metadata))
        .routes(inference::model_ready(version).get(&format!("{model}/ready"), oip::model_ready))
        .routes(inference::infer(version).post(&format!("{model}/infer"), oip::infer))
}

async fn not_found() -> ApiError {
    ApiError::new(Code::NotFound, "no such path; GET / lists them")
}

async fn not_served_here() -> ApiError {
    let detail = "the operator's listener has /livez, /readyz and /metrics only";
    ApiError::new(Code::NotFound, detail)
}

async fn wrong_method() -> ApiError {
    ApiError::new(
        Code::MethodNotAllowed,
        "this path has other methods: see Allow",
    )
}
