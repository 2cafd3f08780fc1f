//! `GET /openapi.json` and `GET /docs`: the document, and Swagger UI to read it, both out of the program itself.

use std::sync::Arc;

use axum::Extension;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

use crate::http::pages::{self, File};

/// Only what this gateway serves itself. The viewer makes markup of strings, so trusted types cannot be required of it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

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
    Extension(document): Extension<Arc<File>>,
    headers: HeaderMap,
) -> Response {
    document.page(&headers, POLICY)
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
    pages::DOCS.page(&headers, POLICY)
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
    pages::DOCS_START.page(&headers, POLICY)
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
    pages::DOCS_SCRIPT.page(&headers, POLICY)
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
    pages::DOCS_STYLE.page(&headers, POLICY)
}
