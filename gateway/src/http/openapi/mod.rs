//! The OpenAPI document: what `utoipa`'s attributes at the handlers cannot say.
//!
//! Handlers are described by `#[utoipa::path]`, and their routes are registered with that description (`routes/table.rs`). Schemas
//! are derived from the types that are sent. This module adds the document's head, the errors ([`Errors`]), the forms of request
//! bodies, and what all operations have in common.

mod headers;
mod problems;
mod request;

use serde_json::Value;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{Object, Schema, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{HttpMethod, OpenApi, Ref, RefOr, Required};

pub use problems::{Errors, Form, InferenceErrors, set};
pub use request::{Base64Image, Binary, Wait};

use crate::http::error::{Code, Problem};
use crate::http::oip::{self, ErrorBody};
use crate::http::routes::browsers::HEALTH;

/// The name of the only security scheme.
const API_KEY: &str = "api_key";

/// Errors of every operation.
const ANY: u64 = set(&[
    Code::BadRequest,
    Code::Internal,
    Code::UnsupportedTransferCoding,
]);

const ABOUT: &str = "Image predictions: synchronous, or as asynchronous jobs.\n\n\
    Every answer carries `Request-Id`. Errors are `application/problem+json` (RFC 9457) with a stable `code`; under `/v2` \
    they have the form of the Open Inference Protocol, `{\"error\": \"…\"}`. Unknown JSON fields and query parameters are \
    refused with 422 and a pointer. A path that does not exist is 404 `not_found`, another method than those listed 405 \
    with `Allow`; `HEAD` is answered wherever `GET` is. What is no HTTP is refused before it reaches a route: 400 without \
    a body, 431 where the head is too large.";

/// The document's head.
#[derive(Debug, utoipa::OpenApi)]
#[openapi(
    info(title = "Selvage", description = ABOUT),
    tags(
        (name = "predictions", description = "Synchronous predictions."),
        (name = "jobs", description = "Asynchronous jobs."),
        (name = "models", description = "Models and their workers."),
        (name = "open inference", description = "The Open Inference Protocol, version 2."),
        (name = "admin", description = "For API keys with the scope `admin`."),
        (name = "service", description = "Health, metrics, pages."),
    ),
    components(schemas(Problem, ErrorBody)),
)]
pub struct Head;

/// Adds what holds for all routes, and the schemas that no type has.
pub fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let scheme = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Needed only where API keys are configured."));
    components.add_security_scheme(API_KEY, SecurityScheme::Http(scheme.build()));
    components.schemas.extend(request::bodies());
    let events = [
        ("JobEvent", "status", "Job"),
        ("StatsEvent", "stats", "Stats"),
    ];
    let events = events.map(|(schema, name, data)| (schema.to_owned(), event(name, data).into()));
    components.schemas.extend(events);
    for_each(document, |path, method, operation| {
        let mut codes = ANY;
        if !HEALTH.contains(&path) {
            codes |= set(&[Code::MisdirectedRequest]);
        }
        if method != HttpMethod::Get {
            codes |= set(&[Code::CrossOrigin]);
        }
        problems::add(operation, Form::of(path), codes);
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            body.required = Some(Required::True);
        }
        headers::complete(operation);
    });
}

/// Adds what routes for callers have in common: keys where they are needed, and rates.
pub fn guard(document: &mut OpenApi, keys: bool) {
    for_each(document, |path, _, operation| {
        let mut codes = set(&[Code::RateLimited]);
        if keys {
            operation.security = Some(vec![SecurityRequirement::new(API_KEY, [""; 0])]);
            codes |= set(&[Code::Unauthenticated]);
        }
        problems::add(operation, Form::of(path), codes);
    });
}

/// Every operation of a document, with its path.
pub fn for_each(document: &mut OpenApi, mut change: impl FnMut(&str, HttpMethod, &mut Operation)) {
    for (path, item) in &mut document.paths.paths {
        let PathItem {
            get, post, delete, ..
        } = item;
        let operations = [
            (HttpMethod::Get, get),
            (HttpMethod::Post, post),
            (HttpMethod::Delete, delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                change(path, method, operation);
            }
        }
    }
}

/// One server-sent event of that name, whose data has that schema.
fn event(name: &str, data: &str) -> Schema {
    let text = || Object::builder().schema_type(Type::String);
    let data = text()
        .content_media_type("application/json")
        .content_schema(Some(Ref::from_schema_name(data)));
    Object::builder()
        .description(Some("Each event of the stream."))
        .property("event", text().enum_values(Some([name])))
        .property("id", text().pattern(Some("^[a-z]+[.][0-9]+$")))
        .property("retry", Object::with_type(Type::Integer))
        .property("data", data)
        .required("event")
        .required("data")
        .into()
}

/// The example of a job in that state (`jobs.json`).
#[must_use]
pub fn job(state: &str) -> Value {
    let jobs: Value = serde_json::from_str(include_str!("jobs.json")).unwrap_or_default();
    jobs[state].clone()
}

impl Form {
    /// The form of the errors under this path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        if oip::owns(path) {
            Self::Inference
        } else {
            Self::Problem
        }
    }
}
