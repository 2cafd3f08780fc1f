//! `GET /`: a page for people, a list of addresses for programs. The page asks nobody but this gateway for anything.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use selvage_core::key::Digest;
use serde::Serialize;

use crate::App;
use crate::error::ApiError;

/// Only what this gateway serves itself, and pictures the page has just been given.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A file that is part of the program.
struct Asset {
    content: &'static [u8],
    kind: HeaderValue,
    tag: HeaderValue,
}

impl Asset {
    fn new(content: &'static [u8], kind: &'static str) -> Self {
        let tag = format!("\"{}\"", &Digest::of(content).to_hex()[..16]);
        Self {
            content,
            kind: HeaderValue::from_static(kind),
            tag: HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"0\"")),
        }
    }

    /// The file, or 304 where the client has it already.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tags| {
            tags.as_bytes()
                .windows(self.tag.len())
                .any(|tag| tag == self.tag.as_bytes())
        });
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            self.content.into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.kind.clone());
        headers.insert(header::ETAG, self.tag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
        response
    }
}

static PAGE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        include_bytes!("../../ui/index.html"),
        "text/html; charset=utf-8",
    )
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        include_bytes!("../../ui/app.js"),
        "text/javascript; charset=utf-8",
    )
});
static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        include_bytes!("../../ui/style.css"),
        "text/css; charset=utf-8",
    )
});

#[derive(Serialize)]
struct Discovery<'a> {
    name: &'static str,
    version: &'static str,
    mode: &'static str,
    default_model: &'a str,
    urls: Urls,
}

#[derive(Serialize)]
struct Urls {
    predict: &'static str,
    jobs: &'static str,
    job: &'static str,
    cancel: &'static str,
    models: &'static str,
    model: &'static str,
    live: &'static str,
    ready: &'static str,
    stats: &'static str,
    metrics: &'static str,
    open_inference: &'static str,
}

const URLS: Urls = Urls {
    predict: "/predict",
    jobs: "/jobs",
    job: "/jobs/{id}",
    cancel: "/jobs/{id}/cancel",
    models: "/models",
    model: "/models/{name}",
    live: "/livez",
    ready: "/readyz",
    stats: "/stats",
    metrics: "/metrics",
    open_inference: "/v2",
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
        PAGE.answer(&headers)
    };
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// The page's script.
pub(super) async fn script(headers: HeaderMap) -> Response {
    SCRIPT.answer(&headers)
}

/// The page's style sheet.
pub(super) async fn style(headers: HeaderMap) -> Response {
    STYLE.answer(&headers)
}

/// Browsers name HTML among what they accept; a client that names JSON and not HTML is a program.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter();
    let accepted: Vec<&str> = accepted.filter_map(|value| value.to_str().ok()).collect();
    let names = |kind: &str| accepted.iter().any(|text| text.contains(kind));
    names("application/json") && !names("text/html")
}
