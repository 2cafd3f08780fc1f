//! Headers of requests and answers, each with what it says and an example.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, Schema, Type};
use utoipa::openapi::{self, HeaderBuilder, Required};

/// A header of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    name: &'static str,
    says: &'static str,
    example: &'static str,
}

impl Header {
    /// `Age`.
    pub const AGE: Self = Self::new(
        "Age",
        "Seconds since a cached answer was computed (RFC 9111).",
        "188",
    );
    /// `Cache-Control`.
    pub const CACHE_CONTROL: Self = Self::new(
        "Cache-Control",
        "Answers are the asker's alone, and old at once.",
        "no-store",
    );
    /// `Cache-Control` of what never changes.
    pub const KEPT: Self = Self::new(
        "Cache-Control",
        "Its address names its content.",
        "public, max-age=31536000, immutable",
    );
    /// `Cache-Control` of a file.
    pub const REVALIDATE: Self = Self::new(
        "Cache-Control",
        "Keep it, but ask whether it is still the same.",
        "no-cache",
    );
    /// `Cache-Status`.
    pub const CACHE_STATUS: Self = Self::new(
        "Cache-Status",
        "Where the answer came from (RFC 9211).",
        "selvage; hit; ttl=3412",
    );
    /// `Content-Security-Policy`.
    pub const CONTENT_SECURITY_POLICY: Self = Self::new(
        "Content-Security-Policy",
        "What the page may do.",
        "default-src 'none'",
    );
    /// `ETag`.
    pub const ETAG: Self = Self::new(
        "ETag",
        "Digest of the content, for `If-None-Match`.",
        "\"9f2c0e1d7a55b3c4\"",
    );
    /// `Inference-Header-Content-Length`.
    pub const JSON_LENGTH: Self = Self::new(
        "Inference-Header-Content-Length",
        "Length of the JSON before binary values; absent where there are none.",
        "163",
    );
    /// `Link`.
    pub const LINK: Self = Self::new(
        "Link",
        "The next part of the list (RFC 8288); absent at the last.",
        "</jobs?cursor=01929f3e-7c1a-7b52-9a64-2f0d8f6a5b11>; rel=\"next\"",
    );
    /// `Location`.
    pub const LOCATION: Self = Self::new(
        "Location",
        "Where the job is followed.",
        "/jobs/01929f3e-7c1a-7b52-9a64-2f0d8f6a5b11",
    );
    /// `Preference-Applied`.
    pub const PREFERENCE_APPLIED: Self = Self::new(
        "Preference-Applied",
        "What was followed of `Prefer` (RFC 7240).",
        "wait=10",
    );
    /// `Retry-After`.
    pub const RETRY_AFTER: Self = Self::new(
        "Retry-After",
        "Seconds after which asking again makes sense.",
        "2",
    );
    /// `Server-Timing`.
    pub const SERVER_TIMING: Self = Self::new(
        "Server-Timing",
        "What the answer cost, in ms.",
        "queue;dur=1.9, decode;dur=0.2, infer;dur=0.6, total;dur=3.8",
    );
    /// `Vary`.
    pub const VARY: Self = Self::new("Vary", "The answer depends on this header.", "accept");
    /// `WWW-Authenticate`.
    pub const WWW_AUTHENTICATE: Self = Self::new(
        "WWW-Authenticate",
        "How to authenticate (RFC 6750).",
        "Bearer realm=\"selvage\"",
    );
    /// `X-Accel-Buffering`.
    pub const X_ACCEL_BUFFERING: Self = Self::new(
        "X-Accel-Buffering",
        "Asks proxies not to hold events back.",
        "no",
    );

    const fn new(name: &'static str, says: &'static str, example: &'static str) -> Self {
        Self {
            name,
            says,
            example,
        }
    }

    /// Its name, and it.
    pub(super) fn build(self) -> (String, openapi::Header) {
        let header = HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::String)))
            .description(Some(self.says))
            .example(Some(self.example.into()));
        (self.name.to_owned(), header.build())
    }
}

/// Every answer has it.
pub(super) const REQUEST_ID: Header = Header::new(
    "Request-Id",
    "The id of the request, as it was given or made.",
    "01929f3e-7c1a-7b52-9a64-2f0d8f6a5b12",
);

/// What every answer to a caller whose rate is bounded has.
pub(super) const RATES: [Header; 2] = [
    Header::new(
        "RateLimit-Policy",
        "How often this client may ask; absent where it is not bounded.",
        "\"default\";q=100;w=60",
    ),
    Header::new("RateLimit", "What is left of it.", "\"default\";r=42;t=13"),
];

/// A header of a request, any text of it.
#[must_use]
pub fn header_parameter(name: &str, says: &str) -> Parameter {
    typed_header_parameter(name, says, Object::with_type(Type::String))
}

/// A header of a request, of that form.
#[must_use]
pub fn typed_header_parameter(name: &str, says: &str, schema: impl Into<Schema>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(says))
        .schema(Some(schema.into()))
        .build()
}
