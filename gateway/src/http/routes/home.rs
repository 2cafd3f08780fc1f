//! `GET /`: a page for people, a list of addresses for programs. The page asks nobody but this gateway for anything.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::openapi::{Binary, Errors, set};
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

/// Home page
///
/// A page for people; with `Accept: application/json`, the URLs for programs.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "home",
    tag = "service",
    responses(
        (status = 200, description = "The page, or the URLs.",
         content((String = "text/html"), (Discovery = "application/json")),
         headers(("ETag"), ("Content-Security-Policy"))),
    ),
)]
pub(super) async fn home(State(app): State<App>, headers: HeaderMap) -> Response {
    let mut response = if wants_json(&headers) {
        let discovery = Discovery {
            name: "selvage",
            version: env!("CARGO_PKG_VERSION"),
            mode: app.mode(),
            default_model: app.models.default_name(),
            urls: URLS,
        };
        Json(discovery).into_response()
    } else {
        pages::HOME.page(&headers, pages::POLICY)
    };
    response.headers_mut().insert(header::VARY, VARY);
    response
}

/// The fleet, for people
///
/// A page that draws `/stats/events`.
#[utoipa::path(
    get,
    path = "/fleet",
    operation_id = "fleet",
    tag = "service",
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html",
         headers(("ETag"), ("Content-Security-Policy"))),
    ),
)]
pub(super) async fn fleet(headers: HeaderMap) -> Response {
    pages::FLEET.page(&headers, pages::POLICY)
}

/// A file of the pages
///
/// The pages name the files that exist.
#[utoipa::path(
    get,
    path = "/ui/{version}/{file}",
    operation_id = "part",
    tag = "service",
    params(
        ("version" = String, Path, description = "The digest of all files.",
         example = "0123456789abcdef"),
        ("file" = String, Path, description = "The file's name.", example = "home.js"),
    ),
    responses(
        (status = 200, description = "The file; it never changes.",
         content((String = "text/javascript"), (String = "text/css"), (String = "image/svg+xml"),
         (Binary = "image/png")),
         headers(("ETag"),
         ("Cache-Control",
         description = "`public, max-age=31536000, immutable`: the URL names the content."))),
        Errors<{ set(&[Code::NotFound]) }>,
    ),
)]
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
