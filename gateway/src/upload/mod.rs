//! From a request's body to one image and its options, by `Content-Type`. The image is not decoded here.

mod body;
mod header;
mod json;
mod multipart;

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use bytes::Bytes;

pub use body::{BodyLimits, Held, Share};
pub use header::check;

use crate::error::{ApiError, Code};
use crate::options::{Given, Options, Place, Query, Reader};

/// Longest text field of a form, in bytes.
const MAX_TEXT_BYTES: usize = 4 * 1024;
/// Bodies above this size are taken apart on a thread that may block: base64 of 10 MiB takes milliseconds.
pub const LARGE_BYTES: usize = 1024 * 1024;

/// One image and what is asked for.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The encoded image, as it was sent.
    pub image: Bytes,
    /// What is asked for.
    pub options: Options,
}

/// How a body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The body is the image, whatever the header calls it: the magic bytes decide.
    Raw,
    Form,
    Json,
}

/// Refuses a compressed body: unpacking it would be an invitation.
///
/// # Errors
/// `unsupported_media_type`.
pub fn refuse_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let detail = "send the body as it is: Content-Encoding is not supported";
            Err(ApiError::new(Code::UnsupportedMediaType, detail))
        }
        _ => Ok(()),
    }
}

/// The image and the options of a request whose body is in memory.
///
/// # Errors
/// What is wrong with body, form, JSON or options; the image itself is not looked at.
pub async fn parse(headers: &HeaderMap, query: &Query, body: Bytes) -> Result<Upload, ApiError> {
    let mut options = Reader::default();
    options.take_query(query)?;
    if body.is_empty() {
        return Err(empty());
    }
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let image = match kind(content_type) {
        Kind::Raw => body,
        Kind::Form => form(content_type, &body, &mut options)?,
        Kind::Json if body.len() <= LARGE_BYTES => json::read(&body, &mut options)?,
        Kind::Json => {
            let read = move || json::read(&body, &mut options).map(|image| (image, options));
            let joined = tokio::task::spawn_blocking(read).await;
            let failed = |error| ApiError::new(Code::Internal, "see the log").because(error);
            let (image, read) = joined.map_err(failed)??;
            options = read;
            image
        }
    };
    if image.is_empty() {
        return Err(empty());
    }
    Ok(Upload {
        image,
        options: options.finish(),
    })
}

fn kind(content_type: &str) -> Kind {
    let kind = multipart::kind(content_type);
    if kind.eq_ignore_ascii_case("multipart/form-data") {
        Kind::Form
    } else if kind.eq_ignore_ascii_case("application/json") {
        Kind::Json
    } else {
        Kind::Raw
    }
}

fn form(content_type: &str, body: &Bytes, options: &mut Reader) -> Result<Bytes, ApiError> {
    let bad = |detail| ApiError::new(Code::BadRequest, detail);
    let mut image = None;
    for part in multipart::parts(content_type, body)? {
        if part.name == "image" || part.name == "file" {
            if image.replace(part.content).is_some() {
                return Err(bad("the form has more than one image; /predict takes one"));
            }
        } else if part.content.len() > MAX_TEXT_BYTES {
            return Err(bad("a text field of the form is longer than 4 KiB"));
        } else {
            let text = std::str::from_utf8(&part.content);
            let text = text.map_err(|_| bad("a text field of the form is not UTF-8"))?;
            options.take(Place::Body, &part.name, Given::Text(text))?;
        }
    }
    let detail = "the form has no part named `image` or `file`";
    image.ok_or_else(|| ApiError::new(Code::MissingImage, detail))
}

fn empty() -> ApiError {
    let detail = "send an image: as the body, as part `image` of a form, or as base64 in JSON";
    ApiError::new(Code::EmptyBody, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parse(
        content_type: &str,
        query: &str,
        body: impl Into<Bytes>,
    ) -> Result<Upload, ApiError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        let query = Query::of(&format!("/predict?{query}").parse().unwrap())?;
        super::parse(&headers, &query, body.into()).await
    }

    fn form(fields: &[(&str, &str)]) -> String {
        let field = |(name, content): &(&str, &str)| {
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
        };
        let fields: String = fields.iter().map(field).collect();
        format!("{fields}--B--\r\n")
    }

    const FORM: &str = "multipart/form-data; boundary=B";

    #[tokio::test]
    async fn the_same_image_comes_in_three_shapes() {
        let form = form(&[("top_k", "2"), ("file", "hello")]);
        let shapes = [
            parse("image/png", "top_k=2", "hello").await,
            parse("text/plain", "top_k=2", "hello").await,
            parse(FORM, "", form).await,
            parse(
                "Application/JSON; charset=utf-8",
                "",
                r#"{"image":"aGVsbG8=","top_k":2}"#,
            )
            .await,
        ];
        for upload in shapes {
            let upload = upload.unwrap();
            assert_eq!((&*upload.image, upload.options.top_k), (&b"hello"[..], 2));
        }
    }

    #[tokio::test]
    async fn a_large_json_body_is_read_as_a_small_one() {
        let image = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, vec![7; LARGE_BYTES]);
        let body = format!(r#"{{"image":"{image}","top_k":2}}"#);
        let upload = parse("application/json", "wait=1", body).await.unwrap();
        assert_eq!((upload.image.len(), upload.options.top_k), (LARGE_BYTES, 2));
        assert!(upload.options.wait.is_some());
    }

    #[tokio::test]
    async fn what_is_wrong_has_its_code() {
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        let cases = [
            ("image/png", "", String::new(), "empty_body"),
            (FORM, "", String::new(), "empty_body"),
            (FORM, "", form(&[("image", "")]), "empty_body"),
            (
                "application/json",
                "",
                r#"{"image":""}"#.to_owned(),
                "empty_body",
            ),
            (FORM, "", form(&[]), "missing_image"),
            (FORM, "", form(&[("top_k", "3")]), "missing_image"),
            (
                FORM,
                "",
                form(&[("image", "a"), ("image", "b")]),
                "bad_request",
            ),
            (
                FORM,
                "",
                form(&[("image", "a"), ("file", "b")]),
                "bad_request",
            ),
            (
                FORM,
                "",
                form(&[("image", "a"), ("model", &long)]),
                "bad_request",
            ),
            (
                FORM,
                "",
                form(&[("image", "a"), ("surprise", "b")]),
                "invalid_option",
            ),
            (
                FORM,
                "top_k=1",
                form(&[("image", "a"), ("top_k", "2")]),
                "invalid_option",
            ),
            ("image/png", "surprise=1", "a".to_owned(), "invalid_option"),
            ("application/json", "", "a".to_owned(), "bad_request"),
        ];
        for (content_type, query, body, code) in cases {
            let error = parse(content_type, query, body.clone()).await.unwrap_err();
            assert_eq!(error.code().as_str(), code, "{query} {body:.80}: {error}");
        }
    }

    #[test]
    fn compressed_bodies_are_refused() {
        let with = |encoding: &str| {
            refuse_encoding(&HeaderMap::from_iter([(
                CONTENT_ENCODING,
                encoding.parse().unwrap(),
            )]))
        };
        assert!(with("gzip").is_err() && with("br").is_err());
        assert!(with("identity").is_ok() && refuse_encoding(&HeaderMap::new()).is_ok());
    }
}
