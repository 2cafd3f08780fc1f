//! The route table, and nothing else.

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use utoipa::openapi::Required;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::{OpenApi as _, PartialSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    access, batch, browsers, dead_letters, docs, events, home, input, jobs, list, middleware,
    models, oip, ops, predict, stats,
};
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::openapi::{self, Head};
use crate::http::pages::File;

impl App {
    /// Every path this gateway answers, as a service that can be called without a server.
    pub fn router(&self) -> Router {
        let known = from_fn_with_state(self.clone(), access::known);
        let mut guarded = guarded();
        openapi::guard(guarded.get_openapi_mut(), self.access.is_guarded());
        let mut routes = open().merge(guarded.route_layer(known));
        openapi::complete(routes.get_openapi_mut());
        let (routes, document) = routes.split_for_parts();
        let document = File::json(serde_json::to_vec(&document).unwrap_or_default());
        let mut routes = routes
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method);
        if let Some(cors) = browsers::cors(&self.limits.browsers) {
            routes = routes.layer(cors);
        }
        routes
            .layer(from_fn_with_state(self.clone(), browsers::checked))
            .layer(Extension(Arc::new(document)))
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

/// Routes without authentication: health checks, and the pages that say how to use the gateway.
fn open() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Head::openapi())
        .routes(routes!(home::home))
        .routes(routes!(home::fleet))
        .routes(routes!(home::asset))
        .routes(routes!(docs::document))
        .routes(routes!(docs::page))
        .routes(routes!(docs::file))
        .routes(routes!(ops::alive))
        .routes(routes!(ops::ready))
        .routes(routes!(oip::server))
        .routes(routes!(oip::live))
        .routes(routes!(oip::ready))
}

/// What needs an API key where keys are configured; handlers here may take a [`crate::http::access::Caller`].
fn guarded() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(predict::predict))
        .routes(routes!(batch::predict_batch))
        .routes(routes!(list::list, predict::submit))
        .routes(routes!(jobs::show))
        .routes(routes!(events::follow))
        .routes(routes!(jobs::cancel))
        .routes(routes!(models::list))
        .routes(routes!(models::show))
        .routes(routes!(input::input))
        .routes(routes!(stats::show))
        .routes(routes!(stats::follow))
        .routes(routes!(stats::history))
        .routes(routes!(dead_letters::list, dead_letters::purge))
        .routes(routes!(dead_letters::replay_all))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(ops::metrics))
        .nest("/v2/models/{name}", model_v2())
        .nest("/v2/models/{name}/versions/{version}", version_v2())
}

/// What the Open Inference Protocol asks of one model.
fn model_v2() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(oip::metadata))
        .routes(routes!(oip::model_ready))
        .routes(routes!(oip::infer))
        .routes(routes!(oip::config))
}

/// The same for a path that names the only version; an operation's id must differ then.
fn version_v2() -> OpenApiRouter<App> {
    let mut routes = model_v2();
    openapi::for_each(routes.get_openapi_mut(), |_, _, operation| {
        if let Some(id) = &mut operation.operation_id {
            id.push_str("OfVersion");
        }
        let version = ParameterBuilder::new()
            .name("version")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("The model's version."))
            .schema(Some(String::schema()))
            .example(Some("1".into()));
        let parameters = operation.parameters.get_or_insert_default();
        parameters.push(version.build().into());
    });
    routes
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
