//! Looks at where a request comes from by what its browser says of it, before anything else of it is read.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

use super::access::refuse;
use super::framing;
use crate::http::app::App;
use crate::http::browsers::{AllowedOrigin, BrowserRules};
use crate::http::error::{ApiError, Code};

/// Health checks come under whatever name or address an orchestrator has for this process.
pub(crate) const HEALTH: [&str; 4] = ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready"];
/// How long a browser may remember what it got about other origins.
const CORS_AGE: Duration = Duration::from_secs(600);

/// Lets a request pass whose head is sound, or answers `misdirected_request` or `cross_origin`.
pub(super) async fn checked(State(app): State<App>, request: Request, next: Next) -> Response {
    let looked = framing::sound(&request).and_then(|()| look(&app.limits.browsers, &request));
    match looked {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(&app, request, error),
    }
}

fn look(rules: &BrowserRules, request: &Request) -> Result<(), ApiError> {
    // RFC 9112 §3.2.2: what the request line says goes before `Host`.
    let named = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request
            .headers()
            .get(header::HOST)
            .map(|host| host.to_str().unwrap_or_default()),
    };
    let is_health = HEALTH.contains(&request.uri().path());
    if !is_health && named.is_some_and(|host| !rules.answers_to(host)) {
        let detail = "this gateway does not answer to the name in Host: use its address, or add the name to \
                      SELVAGE_ALLOWED_HOSTS";
        return Err(ApiError::new(Code::MisdirectedRequest, detail));
    }
    let is_safe = request.method().is_safe();
    if !is_safe && !rules.may_change(named.unwrap_or_default(), request.headers()) {
        let detail = "a page of another origin sent this: ask from a page of this gateway, or add the origin to \
                      SELVAGE_CORS_ORIGINS";
        return Err(ApiError::new(Code::CrossOrigin, detail));
    }
    Ok(())
}

/// What tells browsers that pages of other origins may ask, where some may.
pub(super) fn cors(rules: &BrowserRules) -> Option<CorsLayer> {
    let origins = rules.origins()?;
    let listed: Option<Vec<_>> = origins
        .iter()
        .map(|origin| match origin {
            AllowedOrigin::Any => None,
            AllowedOrigin::Origin(origin) => Some(origin.clone()),
        })
        .collect();
    let layer = CorsLayer::new()
        .allow_origin(listed.map_or_else(AllowOrigin::any, AllowOrigin::list))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // Not `*`, which does not cover `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(ExposeHeaders::any())
        .max_age(CORS_AGE);
    Some(layer)
}
