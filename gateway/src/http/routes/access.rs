//! Looks at the key of every request that needs one, and at how often its client has asked, before anything else of it
//! is read.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::http::access::Unknown;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::peer::Peer;

/// Names under which other services take keys in a query, where proxies and browsers write them down.
const QUERY_NAMES: [&str; 6] = [
    "api_key",
    "apikey",
    "key",
    "token",
    "access_token",
    "authorization",
];
/// RFC 6750 §3.
const NO_KEY: HeaderValue = HeaderValue::from_static("Bearer realm=\"selvage\"");
const WRONG_KEY: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"selvage\", error=\"invalid_token\"");

/// Lets a request pass as its [`crate::http::access::Caller`], or answers `unauthenticated` or `rate_limited`.
pub(super) async fn known(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let (headers, peer) = (request.headers(), request.extensions().get::<Peer>());
    let caller = if app.access.is_guarded() && has_key_in_query(request.uri()) {
        Err(Unknown)
    } else {
        app.access.caller(bearer(headers), peer.copied())
    };
    match caller {
        Ok(caller) => {
            // Nobody further in needs it, so nobody can log it.
            request.headers_mut().remove(header::AUTHORIZATION);
            let mut response = match caller.take_request() {
                Ok(()) => {
                    request.extensions_mut().insert(caller.clone());
                    next.run(request).await
                }
                Err(error) => refuse(&app, request, error),
            };
            let rate = caller.rate_headers();
            response.headers_mut().extend(rate.into_iter().flatten());
            response
        }
        Err(Unknown) => {
            let challenge = if headers.contains_key(header::AUTHORIZATION) {
                WRONG_KEY
            } else {
                NO_KEY
            };
            let detail = "send a valid API key as `Authorization: Bearer <key>`, and nowhere else";
            let error = ApiError::new(Code::Unauthenticated, detail);
            let mut response = refuse(&app, request, error);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
    }
}

/// Answers a request whose body nobody wants.
pub(super) fn refuse(app: &App, request: Request, error: ApiError) -> Response {
    let (parts, body) = request.into_parts();
    app.bodies.refuse(&parts.headers, body);
    error.into_response()
}

/// The key a request shows; `None` where there is none, or no telling which.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

fn has_key_in_query(uri: &Uri) -> bool {
    let parameters = uri.query().unwrap_or_default().split('&');
    parameters
        .map(|parameter| parameter.split('=').next().unwrap_or_default())
        .any(|name| {
            QUERY_NAMES
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_is_a_key_and_anything_else_is_none() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(<[u8]>::to_vec)
        };
        for good in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(of(&[good]).as_deref(), Some(&b"abc"[..]), "{good}");
        }
        for bad in ["", "abc", "Bearer", "Bearer ", "Basic abc", "Bearerabc"] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["Bearer abc", "Bearer abc"]), None);
    }

    #[test]
    fn keys_in_queries_are_seen_under_their_usual_names() {
        let has = |uri: &str| has_key_in_query(&uri.parse().unwrap());
        for query in ["api_key=x", "a=1&Token=x", "access_token", "KEY=&b"] {
            assert!(has(&format!("/predict?{query}")), "{query}");
        }
        for query in ["top_k=3", "model=key", "keys=1", ""] {
            assert!(!has(&format!("/predict?{query}")), "{query}");
        }
    }
}
