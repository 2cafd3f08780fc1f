//! `GET /openapi.json` and `GET /docs`: the document, and Swagger UI to read it, both out of the program itself.

use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::http::HeaderMap;
use axum::response::Response;

use super::asset::Asset;

static PAGE: LazyLock<Asset> = LazyLock::new(|| {
    let page = include_bytes!("../../../viewer/index.html");
    Asset::new(&page[..], "text/html; charset=utf-8")
});
static START: LazyLock<Asset> = LazyLock::new(|| {
    let script = include_bytes!("../../../viewer/start.js");
    Asset::new(&script[..], "text/javascript; charset=utf-8")
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let script = include_bytes!("../../../viewer/swagger-ui/swagger-ui-bundle.js.gz");
    Asset::gzipped(script, "text/javascript; charset=utf-8")
});
static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let style = include_bytes!("../../../viewer/swagger-ui/swagger-ui.css.gz");
    Asset::gzipped(style, "text/css; charset=utf-8")
});

/// The document of the routes this gateway has.
#[derive(Clone, Debug)]
pub(super) struct Document(Arc<Asset>);

impl Document {
    pub(super) fn new(document: &utoipa::openapi::OpenApi) -> Self {
        let json = serde_json::to_vec(document).unwrap_or_default();
        Self(Arc::new(Asset::new(json, "application/json")))
    }
}

/// This document
///
/// OpenAPI 3.1, generated from the code of the handlers.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "service",
    responses(
        (status = 200, description = "The document.", body = Object,
         content_type = "application/json",
         headers(("ETag"), ("Content-Security-Policy"))),
    ),
)]
pub(super) async fn document(
    Extension(Document(document)): Extension<Document>,
    headers: HeaderMap,
) -> Response {
    document.answer(&headers)
}

/// This document, to read
///
/// Part of the program; it loads nothing from other servers.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "docs",
    tag = "service",
    responses(
        (status = 200, description = "The file.", body = String, content_type = "text/html",
         headers(("ETag"), ("Content-Security-Policy"))),
    ),
)]
pub(super) async fn page(headers: HeaderMap) -> Response {
    PAGE.answer(&headers)
}

/// What starts the viewer
///
/// Part of the program; it loads nothing from other servers.
#[utoipa::path(
    get,
    path = "/docs/start.js",
    operation_id = "docsStart",
    tag = "service",
    responses(
        (status = 200, description = "The file.", body = String, content_type = "text/javascript",
         headers(("ETag"), ("Content-Security-Policy"))),
    ),
)]
pub(super) async fn start(headers: HeaderMap) -> Response {
    START.answer(&headers)
}

/// The viewer
///
/// Part of the program; it loads nothing from other servers.
#[utoipa::path(
    get,
    path = "/docs/swagger-ui-bundle.js",
    operation_id = "docsScript",
    tag = "service",
    responses(
        (status = 200, description = "The file.", body = String, content_type = "text/javascript",
         headers(("ETag"), ("Content-Security-Policy"))),
    ),
)]
pub(super) async fn script(headers: HeaderMap) -> Response {
    SCRIPT.answer(&headers)
}

/// The viewer's style sheet
///
/// Part of the program; it loads nothing from other servers.
#[utoipa::path(
    get,
    path = "/docs/swagger-ui.css",
    operation_id = "docsStyle",
    tag = "service",
    responses(
        (status = 200, description = "The file.", body = String, content_type = "text/css",
         headers(("ETag"), ("Content-Security-Policy"))),
    ),
)]
pub(super) async fn style(headers: HeaderMap) -> Response {
    STYLE.answer(&headers)
}
