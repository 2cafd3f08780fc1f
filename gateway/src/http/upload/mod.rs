//! From a request's body to its images and its options, by `Content-Type`. The image is not decoded here.

mod body;
mod count;
mod encoded;
mod header;
mod json;
mod multipart;

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use bytes::Bytes;

pub use body::{BodyLimits, BufferedBody, Share, SharedShare};
pub use count::{Count, MAX_BATCH};
pub use header::check;

use count::within;

use crate::http::error::{ApiError, Code};
use crate::http::options::{Options, ParameterSource, ParameterValue, Query, Reader};

/// Longest text field of a form, in bytes.
const MAX_TEXT_BYTES: usize = 4 * 1024;
/// Bodies above this size are taken apart on a thread that may block: base64 of 10 MiB takes milliseconds.
pub const LARGE_BYTES: usize = 1024 * 1024;

/// Images and what is asked for.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The encoded images, as they were sent; at least one.
    pub images: Vec<Result<Bytes, ApiError>>,
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

/// The images and the options of a request whose body is in memory.
///
/// # Errors
/// What is wrong with body, form, JSON or options; the image itself is not looked at.
pub async fn parse(
    headers: &HeaderMap,
    query: &Query,
    body: Bytes,
    count: Count,
) -> Result<Upload, ApiError> {
    let mut options = Reader::default();
    options.take_query(query)?;
    if body.is_empty() {
        return Err(empty());
    }
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    let images = match (kind(content_type), count) {
        (Kind::Raw, Count::One) => vec![Ok(body)],
        (Kind::Raw, Count::Batch) => {
            let detail = "send several images as parts `image` of a form, or as JSON `images`";
            return Err(ApiError::new(Code::UnsupportedMediaType, detail));
        }
        (Kind::Form, _) => form(content_type, &body, &mut options, count)?,
        (Kind::Json, _) if body.len() <= LARGE_BYTES => json::read(&body, &mut options, count)?,
        (Kind::Json, _) => {
            let read =
                move || json::read(&body, &mut options, count).map(|images| (images, options));
            let joined = tokio::task::spawn_blocking(read).await;
            let (images, read) = joined.map_err(ApiError::internal)??;
            options = read;
            images
        }
    };
    let images = images.into_iter().map(not_empty).collect();
    Ok(Upload {
        images,
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

fn not_empty(image: Result<Bytes, ApiError>) -> Result<Bytes, ApiError> {
    image.and_then(|image| {
        if image.is_empty() {
            Err(empty())
        } else {
            Ok(image)
        }
    })
}

fn form(
    content_type: &str,
    body: &Bytes,
    options: &mut Reader,
    count: Count,
) -> Result<Vec<Result<Bytes, ApiError>>, ApiError> {
    let bad = |detail| ApiError::new(Code::BadRequest, detail);
    let mut images = Vec::new();
    for part in multipart::parts(content_type, body)? {
        if part.is_file || part.name == "image" || part.name == "file" {
            images.push(part.content);
            within(count, images.len())?;
            continue;
        }
        let content = part.content?;
        if content.len() > MAX_TEXT_BYTES {
            return Err(bad("a text field of the form is longer than 4 KiB"));
        }
        let text = std::str::from_utf8(&content);
        let text = text.map_err(|_| bad("a text field of the form is not UTF-8"))?;
        options.take(
            ParameterSource::Body,
            &part.name,
            ParameterValue::Text(text),
        )?;
    }
    if images.is_empty() {
        let detail = "the form has no file, and no part named `image` or `file`";
        return Err(ApiError::new(Code::MissingImage, detail));
    }
    Ok(images)
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
    ) -> Result<(Bytes, Options), ApiError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        let query = Query::of(&format!("/predict?{query}").parse().unwrap())?;
        let mut upload = super::parse(&headers, &query, body.into(), Count::One).await?;
        let image = upload.images.remove(0)?;
        assert!(upload.images.is_empty());
        Ok((image, upload.options))
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
            let (image, options) = upload.unwrap();
            assert_eq!((&*image, options.top_k), (&b"hello"[..], 2));
        }
    }

    #[tokio::test]
    async fn a_file_part_is_the_image_whatever_its_name() {
        let body = "--B\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a.png\"\r\n\r\nhello\r\n\
                    --B\r\nContent-Disposition: form-data; name=\"top_k\"\r\n\r\n2\r\n--B--";
        let (image, options) = parse(FORM, "", body).await.unwrap();
        assert_eq!((&*image, options.top_k), (&b"hello"[..], 2));
    }

    #[tokio::test]
    async fn a_large_json_body_is_read_as_a_small_one() {
        let image = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, vec![7; LARGE_BYTES]);
        let body = format!(r#"{{"image":"{image}","top_k":2}}"#);
        let (image, options) = parse("application/json", "wait=1", body).await.unwrap();
        assert_eq!((image.len(), options.top_k), (LARGE_BYTES, 2));
        assert!(options.wait.is_some());
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

    async fn batch(content_type: &str, body: String) -> Result<Vec<String>, String> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        let read = super::parse(&headers, &Query::default(), body.into(), Count::Batch).await;
        let upload = read.map_err(|error| error.code().as_str().to_owned())?;
        let result = |image: Result<Bytes, ApiError>| match image {
            Ok(image) => String::from_utf8(image.to_vec()).unwrap(),
            Err(error) => error.code().as_str().to_owned(),
        };
        Ok(upload.images.into_iter().map(result).collect())
    }

    #[tokio::test]
    async fn a_batch_keeps_its_order_and_a_bad_image_its_place() {
        let json = r#"{"images":["aGk=", "*", 5, "", "data:image/png;base64,eW91"],"top_k":2}"#;
        let read = batch("application/json", json.to_owned()).await.unwrap();
        assert_eq!(
            read,
            ["hi", "bad_base64", "invalid_option", "empty_body", "you"]
        );
        let form = form(&[("image", "a"), ("top_k", "2"), ("image", ""), ("file", "c")]);
        assert_eq!(batch(FORM, form).await.unwrap(), ["a", "empty_body", "c"]);
        let encoded = "--B\r\nContent-Disposition: form-data; name=image\r\nContent-Transfer-Encoding: base64\r\n\r\n";
        let form = format!("{encoded}aGk=\r\n{encoded}*\r\n{encoded}eW91\r\n--B--\r\n");
        let read = batch(FORM, form).await.unwrap();
        assert_eq!(read, ["hi", "bad_base64", "you"]);
    }

    #[tokio::test]
    async fn a_batch_has_1_to_64_images() {
        let many = |n: usize| vec![("image", "a"); n];
        assert_eq!(batch(FORM, form(&many(64))).await.unwrap().len(), 64);
        let json = |n: usize| format!(r#"{{"images":[{}]}}"#, vec![r#""aGk=""#; n].join(","));
        assert_eq!(batch("application/json", json(64)).await.unwrap().len(), 64);
        let cases = [
            (FORM, form(&many(65)), "invalid_option"),
            ("application/json", json(65), "invalid_option"),
            ("application/json", json(0), "missing_image"),
            ("application/json", "{}".to_owned(), "missing_image"),
            (
                "application/json",
                r#"{"images":"aGk="}"#.to_owned(),
                "invalid_option",
            ),
            (
                "application/json",
                r#"{"image":"aGk="}"#.to_owned(),
                "invalid_option",
            ),
            (FORM, form(&[("top_k", "1")]), "missing_image"),
            ("image/png", "a".to_owned(), "unsupported_media_type"),
        ];
        for (content_type, body, code) in cases {
            assert_eq!(
                batch(content_type, body.clone()).await.unwrap_err(),
                code,
                "{body:.80}"
            );
        }
        let one = parse("application/json", "", r#"{"images":["aGk="]}"#).await;
        assert_eq!(one.unwrap_err().code().as_str(), "invalid_option");
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
