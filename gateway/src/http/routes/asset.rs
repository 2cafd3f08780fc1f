//! What of the document and its viewer is made or bundled as it is, with tags. Pages of our own are packed by `build.rs`.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use selvage_core::key::Digest;

/// Only what this gateway serves itself. The viewer makes markup of strings, so trusted types cannot be asked of it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// A file.
#[derive(Debug)]
pub(super) struct Asset {
    content: Cow<'static, [u8]>,
    kind: &'static str,
    gzip: bool,
    tag: HeaderValue,
}

impl Asset {
    /// With its media type.
    pub(super) fn new(content: impl Into<Cow<'static, [u8]>>, kind: &'static str) -> Self {
        let content = content.into();
        let tag = format!("\"{}\"", &Digest::of(&content).to_hex()[..16]);
        Self {
            content,
            kind,
            gzip: false,
            tag: HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"0\"")),
        }
    }

    /// The same for content that is compressed; every browser takes it so.
    pub(super) fn gzipped(content: &'static [u8], kind: &'static str) -> Self {
        Self {
            gzip: true,
            ..Self::new(content, kind)
        }
    }

    /// The file, or 304 where the client has it already.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tags| {
            tags.as_bytes()
                .windows(self.tag.len())
                .any(|tag| tag == self.tag.as_bytes())
        });
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            self.content.clone().into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if self.gzip && !known {
            headers.insert(header::CONTENT_ENCODING, GZIP);
        }
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
