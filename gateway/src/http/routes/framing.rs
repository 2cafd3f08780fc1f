//! What HTTP/1.1 asks of every request's head and hyper leaves to us: one `Host`, and a transfer coding that is known.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Version, header};

use crate::http::error::{ApiError, Code};

/// Whether the head is sound.
///
/// # Errors
/// `bad_request` for `Host`, `unsupported_transfer_coding`.
pub(super) fn sound(request: &Request) -> Result<(), ApiError> {
    has_one_host(request.version(), request.headers())?;
    has_known_coding(request.headers())
}

/// RFC 9112 §3.2. HTTP/1.0 has no `Host`.
fn has_one_host(version: Version, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let is_sound = match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => host.is_empty() || is_authority(host),
        (Some(_), Some(_)) => false,
    };
    let detail =
        "the request has no valid Host, or several: send exactly one, as `Host: name:port`";
    let error = || ApiError::new(Code::BadRequest, detail);
    is_sound.then_some(()).ok_or_else(error)
}

fn is_authority(host: &HeaderValue) -> bool {
    let parsed = host.to_str().map(str::parse::<Authority>);
    matches!(parsed, Ok(Ok(_)))
}

/// RFC 9112 §6.1. hyper refuses what does not end in `chunked`.
fn has_known_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if codings.all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Ok(());
    }
    let detail =
        "only the transfer coding `chunked` is known here: send the body without another one";
    Err(ApiError::new(Code::UnsupportedTransferCoding, detail))
}
