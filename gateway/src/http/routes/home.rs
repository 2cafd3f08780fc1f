//! `GET /`: a page for people, a list of addresses for programs. The page asks nobody but this gateway for anything.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::pages;

/// What a cache has to look at before it gives an answer of `/` to somebody else.
const VARY: HeaderValue = HeaderValue::from_static("accept, accept-encoding");

#[derive(Serialize, ToSchema)]
pub(super) struct Discovery<'a> {
    name: &'static str,
    version: &'static str,
    mode: &'static str,
    default_model: &'a str,
    urls: Urls,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DiscoveryUrls)]
pub(super) struct Urls {
    predict: &'static str,
    jobs: &'static str,
    job: &'static str,
    cancel: &'static str,
    models: &'static str,
    model: &'static str,
    input: &'static str,
    live: &'static str,
    ready: &'static str,
    stats: &'static str,
    stats_events: &'static str,
    metrics: &'static str,
    open_inference: &'static str,
    openapi: &'static str,
    docs: &'static str,
}

const URLS: Urls = Urls {
    predict: "/predict",
    jobs: "/jobs",
    job: "/jobs/{id}",
    cancel: "/jobs/{id}/cancel",
    models: "/models",
    model: "/models/{name}",
    input: "/models/{name}/input",
    live: "/livez",
    ready: "/readyz",
    stats: "/stats",
    stats_events: "/stats/events",
    metrics: "/metrics",
    open_inference: "/v2",
    openapi: "/openapi.json",
    docs: "/docs",
};

/// The page, or discovery for who asks for JSON.
pub(super) async fn home(State(app): State<App>, headers: HeaderMap) -> Result<Response, ApiError> {
    let mut response = if wants_json(&headers) {
        let discovery = Discovery {
            name: "selvage",
            version: env!("CARGO_PKG_VERSION"),
            mode: app.mode(),
            default_model: app.models.default_name(),
            urls: URLS,
        };
        super::jobs::json(StatusCode::OK, &discovery)?
    } else {
        pages::home(&headers)
    };
    response.headers_mut().insert(header::VARY, VARY);
    Ok(response)
}

/// The fleet at work, for people.
pub(super) async fn fleet(headers: HeaderMap) -> Response {
    pages::fleet(&headers)
}

/// What the pages are made of.
pub(super) async fn asset(uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let missing = || ApiError::new(Code::NotFound, "no such file; GET / names those there are");
    pages::asset(uri.path(), &headers).ok_or_else(missing)
}

/// Browsers name HTML among what they accept; a client that names JSON and not HTML is a program.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter();
    let accepted: Vec<&str> = accepted.filter_map(|value| value.to_str().ok()).collect();
    let names = |kind: &str| accepted.iter().any(|text| text.contains(kind));
    names("application/json") && !names("text/html")
}
