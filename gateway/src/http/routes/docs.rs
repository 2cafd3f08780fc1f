//! `GET /openapi.json` and `GET /docs`: the document, and Swagger UI to read it, both out of the program itself.

use std::sync::Arc;

use axum::Extension;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;

use crate::http::error::{ApiError, Code};
use crate::http::openapi::{Errors, set};
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

/// A file of the viewer
///
/// Part of the program; it loads nothing from other servers.
#[utoipa::path(
    get,
    path = "/docs/{file}",
    operation_id = "docsFile",
    tag = "service",
    params(("file" = String, Path, description = "The file's name.", example = "start.js")),
    responses(
        (status = 200, description = "The file.",
         content((String = "text/javascript"), (String = "text/css")),
         headers(("ETag"), ("Content-Security-Policy"))),
        Errors<{ set(&[Code::NotFound]) }>,
    ),
)]
pub(super) async fn file(uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let file = match uri.path() {
        "/docs/start.js" => &pages::DOCS_START,
        "/docs/swagger-ui-bundle.js" => &pages::DOCS_SCRIPT,
        "/docs/swagger-ui.css" => &pages::DOCS_STYLE,
        _ => {
            return Err(ApiError::new(
                Code::NotFound,
                "no such file; GET /docs names those there are",
            ));
        }
    };
    Ok(file.page(&headers, POLICY))
}
