//! The OpenAPI document: what every route is described with, and what holds for all of them.
//!
//! A route is registered together with its [`Operation`] (`routes/mod.rs`), whose schemas are derived from the very types
//! that are sent; so the document cannot leave a route out, or a field.

mod content;
mod examples;
mod headers;
mod operation;
mod problems;

use utoipa::openapi::path::{Operation as Described, Parameter, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi, Paths, RefOr};

pub use content::{content, text};
pub use examples::job;
pub use headers::{Header, header_parameter, typed_header_parameter};
pub use operation::Operation;
pub use problems::{Form, problems};

use crate::http::error::Code;
use crate::http::oip;
use crate::http::routes::browsers::HEALTH;

/// The name of the only security scheme.
const API_KEY: &str = "api_key";

const ABOUT: &str = "Image predictions: synchronous, or as asynchronous jobs.\n\n\
    Every answer carries `Request-Id`. Errors are `application/problem+json` (RFC 9457) with a stable `code`; under `/v2` \
    they have the form of the Open Inference Protocol, `{\"error\": \"…\"}`. Unknown JSON fields and query parameters are \
    refused with 422 and a pointer. A path that does not exist is 404 `not_found`, another method than those listed 405 \
    with `Allow`; `HEAD` is answered wherever `GET` is. What is no HTTP is refused before it reaches a route: 400 without \
    a body, 431 where the head is too large.";

/// A document without routes.
#[must_use]
pub fn empty() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Selvage")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(
            LicenseBuilder::new()
                .name("MIT")
                .identifier(Some("MIT"))
                .build(),
        ))
        .build();
    OpenApi::new(info, Paths::new())
}

/// Adds what holds for all routes: their groups, and what every request passes through.
pub fn complete(document: &mut OpenApi) {
    let tag = |name: &str, description: &str| {
        let tag = TagBuilder::new().name(name);
        tag.description(Some(description)).build()
    };
    document.tags = Some(vec![
        tag("predictions", "Synchronous predictions."),
        tag("jobs", "Asynchronous jobs."),
        tag("models", "What can be asked."),
        tag("open inference", "The Open Inference Protocol, version 2."),
        tag("admin", "For API keys with the scope `admin`."),
        tag("service", "Health, figures, pages."),
    ]);
    let scheme = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Needed only where API keys are configured."))
        .build();
    document
        .components
        .get_or_insert_with(Components::new)
        .add_security_scheme(API_KEY, SecurityScheme::Http(scheme));
    for_each(document, |path, method, operation| {
        let form = Form::of(path);
        if !HEALTH.contains(&path) {
            problems(operation, form, &[Code::MisdirectedRequest]);
        }
        if method != HttpMethod::Get {
            problems(operation, form, &[Code::CrossOrigin]);
        }
        let id = header_parameter(
            "Request-Id",
            "Carried to the worker and its logs; made where there is none.",
        );
        operation
            .parameters
            .get_or_insert_default()
            .push(RefOr::T(id));
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                let always = [headers::REQUEST_ID, Header::SERVER_TIMING].map(Header::build);
                let always = always.map(|(name, header)| (name, header.into()));
                response.headers.extend(always);
            }
        }
    });
}

/// Adds what routes for callers have in common: keys where they are needed, and rates.
pub fn guard(document: &mut OpenApi, keys: bool) {
    for_each(document, |path, _, operation| {
        let form = Form::of(path);
        problems(operation, form, &[Code::RateLimited]);
        if keys {
            operation.security = Some(vec![SecurityRequirement::new(API_KEY, [""; 0])]);
            problems(operation, form, &[Code::Unauthenticated]);
        }
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                let rates = headers::RATES.map(|header| header.build());
                let rates = rates.map(|(name, header)| (name, header.into()));
                response.headers.extend(rates);
            }
        }
    });
}

/// Every operation of a document, with its path.
fn for_each(document: &mut OpenApi, mut change: impl FnMut(&str, HttpMethod, &mut Described)) {
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

/// Adds a parameter.
fn push(operation: &mut Described, parameter: Parameter) {
    operation
        .parameters
        .get_or_insert_default()
        .push(RefOr::T(parameter));
}
