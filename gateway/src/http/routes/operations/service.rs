//! Models, health, figures and pages.

use selvage_core::job::ModelName;
use serde_json::json;
use utoipa::PartialSchema as _;
use utoipa::openapi::schema::{Object, Type};

use crate::http::error::Code;
use crate::http::openapi::{Header, Operation, content, header_parameter, text};
use crate::http::routes::home::Discovery;
use crate::http::routes::models::{List, Shown};
use crate::http::routes::ops::{Alive, Readiness};
use crate::service::stats::snapshot::Snapshot;

const FILE: [Header; 3] = [
    Header::ETAG,
    Header::REVALIDATE,
    Header::CONTENT_SECURITY_POLICY,
];

/// `GET /models`.
pub(in crate::http::routes) fn models() -> Operation {
    Operation::new(
        "listModels",
        "models",
        "All models",
        "With the workers that hold them.",
    )
    .json::<List<'_>>(200, "The models.", None)
    .fails(&[Code::BadRequest, Code::InvalidOption])
}

/// `GET /models/{name}`.
pub(in crate::http::routes) fn model() -> Operation {
    Operation::new(
        "showModel",
        "models",
        "One model",
        "Its labels, its input's rules, the workers that hold it.",
    )
    .path(
        "name",
        "The model's name.",
        ModelName::schema(),
        "fashion-mnist",
    )
    .json::<Shown<'_>>(200, "The model.", None)
    .fails(&[Code::BadRequest, Code::InvalidOption, Code::ModelNotFound])
}

fn service(id: &str, summary: &str, description: &str) -> Operation {
    Operation::new(id, "service", summary, description)
}

/// `GET /livez`.
pub(in crate::http::routes) fn alive() -> Operation {
    service("alive", "Whether the process turns", "Needs no key.")
        .json::<Alive>(200, "It does.", Some(json!({"status": "alive"})))
        .headers(200, &[Header::CACHE_CONTROL])
}

/// `GET /readyz`.
pub(in crate::http::routes) fn ready() -> Operation {
    service(
        "ready",
        "Whether traffic should come here",
        "`degraded` still answers those who wait. Needs no key.",
    )
    .json::<Readiness>(200, "It should.", None)
    .headers(200, &[Header::CACHE_CONTROL])
    .json::<Readiness>(503, "It should not.", None)
    .headers(503, &[Header::CACHE_CONTROL])
}

/// `GET /stats`.
pub(in crate::http::routes) fn stats() -> Operation {
    service(
        "stats",
        "The fleet in numbers",
        "At most about two seconds old.",
    )
    .json::<Snapshot>(200, "The numbers.", None)
    .headers(200, &[Header::CACHE_CONTROL])
    .fails(&[Code::BadRequest, Code::InvalidOption])
}

/// `GET /stats/events`.
pub(in crate::http::routes) fn stats_events() -> Operation {
    let description = "Server-sent events named `stats`, once a second, until the client leaves or the gateway drains.";
    let mut operation = service(
        "followStats",
        "The fleet in numbers, as a stream",
        description,
    );
    let event = super::event("stats", operation.refer::<Snapshot>());
    operation
        .answer(
            200,
            "The stream.",
            [("text/event-stream", content(event, []))],
        )
        .headers(200, &[Header::CACHE_CONTROL, Header::X_ACCEL_BUFFERING])
        .fails(&[Code::BadRequest, Code::InvalidOption, Code::TooManyStreams])
}

/// `GET /metrics`.
pub(in crate::http::routes) fn metrics() -> Operation {
    service(
        "metrics",
        "Everything that is counted",
        "In the text format of Prometheus.",
    )
    .answer(200, "The samples.", [("text/plain", text())])
}

/// `GET /`.
pub(in crate::http::routes) fn home() -> Operation {
    let description = "A page for people; for `Accept: application/json` the list of addresses.";
    let mut operation = service("home", "Where everything is", description);
    let discovery = operation.refer::<Discovery<'_>>();
    let kinds = [
        ("text/html", text()),
        ("application/json", content(discovery, [])),
    ];
    tagged(operation.answer(200, "The page, or the list.", kinds))
        .headers(200, &[Header::VARY])
        .headers(304, &[Header::VARY])
}

/// A file of the viewer.
pub(in crate::http::routes) fn file(id: &str, summary: &str, kind: &str) -> Operation {
    let operation = service(
        id,
        summary,
        "Part of the program; asks nobody but this gateway for anything.",
    );
    tagged(operation.answer(200, "The file.", [(kind, text())]))
}

/// `GET /ui/{version}/{file}`.
pub(in crate::http::routes) fn part() -> Operation {
    let name = || Object::with_type(Type::String);
    let kept = [Header::ETAG, Header::KEPT, Header::VARY];
    let kinds = [
        ("text/javascript", text()),
        ("text/css", text()),
        ("image/svg+xml", text()),
        ("image/png", content(super::request::binary(), [])),
    ];
    let known = "The `ETag` of what is there already.";
    service(
        "part",
        "A part of the home page",
        "The page names those there are.",
    )
    .path(
        "version",
        "The digest of all parts.",
        name(),
        "0123456789abcdef",
    )
    .path("file", "The part's name.", name(), "home.js")
    .parameter(header_parameter("If-None-Match", known))
    .answer(200, "The part; it may be kept for ever.", kinds)
    .headers(200, &kept)
    .answer(304, "It is still the same.", [])
    .headers(304, &kept)
    .fails(&[Code::NotFound])
}

/// `GET /openapi.json`.
pub(in crate::http::routes) fn document() -> Operation {
    let operation = service(
        "openapi",
        "This document",
        "OpenAPI 3.1, made from the code that answers.",
    );
    let any = Object::with_type(Type::Object);
    tagged(operation.answer(
        200,
        "The document.",
        [("application/json", content(any, []))],
    ))
}

/// What can be asked for only if it has changed.
fn tagged(operation: Operation) -> Operation {
    operation
        .parameter(header_parameter(
            "If-None-Match",
            "The `ETag` of what is there already.",
        ))
        .headers(200, &FILE)
        .answer(304, "It is still the same.", [])
        .headers(304, &FILE)
}
