//! Holds every answer against the OpenAPI document: a status or a kind of content that is not described fails the test.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::rig::with_host;

/// The document of a gateway.
#[derive(Clone)]
pub(crate) struct Described(pub(crate) Arc<Value>);

impl Described {
    pub(crate) fn by(router: &Router) -> Self {
        use futures_util::FutureExt as _;
        let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
        let answer = async {
            let response = router.clone().oneshot(with_host(request)).await.unwrap();
            axum::body::to_bytes(response.into_body(), 8 << 20)
                .await
                .unwrap()
        };
        let bytes = answer.now_or_never().unwrap();
        Self(Arc::new(serde_json::from_slice(&bytes).unwrap()))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0["paths"].as_object().unwrap().iter()
    }

    /// The template a path is one of.
    fn template(&self, path: &str) -> Option<&Value> {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let wanted: Vec<&str> = template.split('/').collect();
            let same = |(part, wanted): (&&str, &&str)| {
                part == wanted || wanted.starts_with('{') && !part.is_empty()
            };
            wanted.len() == parts.len() && parts.iter().zip(&wanted).all(same)
        };
        let mut templates: Vec<_> = self
            .paths()
            .filter(|(template, _)| fits(template))
            .collect();
        templates.sort_by_key(|(template, _)| template.matches('{').count());
        templates.first().map(|(_, item)| *item)
    }

    #[track_caller]
    pub(crate) fn check(&self, (method, path): (&Method, &str), status: u16, headers: &HeaderMap) {
        let Some(item) = self.template(path) else {
            assert_eq!(status, 404, "{path} is not described");
            return;
        };
        let method = if method == Method::HEAD {
            Method::GET
        } else {
            method.clone()
        };
        let Some(operation) = item.get(method.as_str().to_lowercase()) else {
            assert_eq!(status, 405, "{method} {path} is not described");
            return;
        };
        let response = &operation["responses"][status.to_string()];
        assert!(
            response.is_object(),
            "{method} {path}: {status} is not described"
        );
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        if let (Some(kind), false) = (header("content-type"), matches!(status, 204 | 304)) {
            let kind = kind.split(';').next().unwrap();
            assert!(
                response["content"][kind].is_object(),
                "{method} {path}: {status} {kind} is not described"
            );
        }
        let described: Vec<String> = response["headers"]
            .as_object()
            .unwrap()
            .keys()
            .map(|name| name.to_lowercase())
            .collect();
        let general = [
            "content-type",
            "content-length",
            "content-encoding",
            "connection",
            "x-content-type-options",
            "referrer-policy",
            "allow",
        ];
        for name in headers
            .keys()
            .map(|name| name.as_str())
            .filter(|name| !general.contains(name))
        {
            assert!(
                described.iter().any(|known| known == name),
                "{method} {path}: {status} has {name}, which is not described"
            );
        }
    }
}
