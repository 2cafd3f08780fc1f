//! `application/json` bodies: the image, or a list of them, as base64 or data: URIs; options beside it.
//!
//! Only the outer object is taken apart at first; each value is read for what it should be, so that a wrong one can be
//! named and a huge one is never built in memory.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::count::{Count, MAX_BATCH, within};
use super::encoded::from_base64;
use crate::http::depth;
use crate::http::error::{ApiError, Code};
use crate::http::options::{ParameterSource, ParameterValue, Reader};

/// Values up to this size are read in full, so that a number no type can hold is found; longer ones are no option's.
const MAX_READ_BYTES: usize = 8 * 1024;
/// Most fields of the body.
const MAX_FIELDS: usize = 64;

/// The images of a JSON body; its other fields go to `options`.
///
/// # Errors
/// `bad_request` for what is no JSON object, `missing_image`, `bad_base64`, or `invalid_option` with a pointer.
pub(super) fn read(
    body: &[u8],
    options: &mut Reader,
    count: Count,
) -> Result<Vec<Result<Bytes, ApiError>>, ApiError> {
    let field = match count {
        Count::One => "image",
        Count::Batch => "images",
    };
    let text = std::str::from_utf8(body).map_err(|_| malformed("not UTF-8"))?;
    let Fields(fields) =
        serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
    let mut image = None;
    for (name, value) in fields {
        let raw = value.get();
        if name == field {
            image = Some(raw);
            continue;
        }
        depth::check(raw.as_bytes())?;
        if raw.len() <= MAX_READ_BYTES {
            serde_json::from_str::<Value>(raw).map_err(|error| malformed(&error.to_string()))?;
        }
        if raw != "null" {
            options.take(ParameterSource::Body, &name, ParameterValue::Json(raw))?;
        }
    }
    let missing = |detail: String| ApiError::new(Code::MissingImage, detail);
    match (image, count) {
        (None | Some("null"), _) => Err(missing(format!("the body has no field `{field}`"))),
        (Some(raw), Count::One) => Ok(vec![Ok(decode(raw, "#/image")?)]),
        (Some(raw), Count::Batch) => {
            let list = list(raw)?;
            if list.is_empty() {
                return Err(missing("the list `images` is empty".to_owned()));
            }
            let decode = |(index, image): (usize, &&RawValue)| {
                decode(image.get(), &format!("#/images/{index}"))
            };
            Ok(list.iter().enumerate().map(decode).collect())
        }
    }
}

/// The elements of the JSON array `raw`, unread, no more than there may be.
fn list(raw: &str) -> Result<Vec<&RawValue>, ApiError> {
    if !raw.starts_with('[') {
        return Err(ApiError::option("#/images", "must be a list"));
    }
    let List(images) = serde_json::from_str(raw).map_err(|error| malformed(&error.to_string()))?;
    within(Count::Batch, images.len())?;
    Ok(images)
}

fn malformed(detail: &str) -> ApiError {
    ApiError::new(Code::BadRequest, format!("JSON: {detail}"))
}

/// The image's bytes out of the JSON string `raw`.
fn decode(raw: &str, pointer: &str) -> Result<Bytes, ApiError> {
    let quoted = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = quoted else {
        return Err(ApiError::option(pointer, "must be text"));
    };
    let text = if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        Cow::Borrowed(inner)
    } else {
        let unescaped: String =
            serde_json::from_str(raw).map_err(|error| malformed(&error.to_string()))?;
        Cow::Owned(unescaped)
    };
    let bad = |detail| ApiError::new(Code::BadBase64, detail);
    let base64 = match text.strip_prefix("data:") {
        None => &*text,
        Some(rest) => rest
            .split_once(',')
            .filter(|(kind, _)| kind.ends_with(";base64"))
            .map(|(_, data)| data)
            .ok_or_else(|| bad("a data: URI must be of the form data:image/png;base64,…"))?,
    };
    from_base64(base64.as_bytes())
}

/// The outer object: names and unread values; a name given twice is an error.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// An array's unread elements: one more than there may be says that there are too many.
struct List<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<'de>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element::<&'de RawValue>()? {
            if elements.len() <= MAX_BATCH {
                elements.push(element);
            }
        }
        Ok(List(elements))
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields: Vec<(String, &'de RawValue)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            if fields.len() == MAX_FIELDS {
                return Err(A::Error::custom("too many fields"));
            }
            if fields.iter().any(|(seen, _)| *seen == name) {
                return Err(A::Error::custom("a field is given twice"));
            }
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::options::Options;

    fn parse(body: &[u8]) -> Result<(Bytes, Options), ApiError> {
        let mut reader = Reader::default();
        let image = read(body, &mut reader, Count::One)?.remove(0)?;
        Ok((image, reader.finish()))
    }

    #[test]
    fn images_come_as_base64_or_as_data_uris() {
        for image in [
            "aGVsbG8=",
            "aGVsbG8",
            "data:image/png;base64,aGVsbG8=",
            "data:;base64,aGVsbG8",
            "aGVsb\\u0047\\u0038=",
            "aGVs\\nbG8=\\r\\n",
        ] {
            let body = format!(r#"{{"image": "{image}", "top_k": 5, "model": null}}"#);
            let (bytes, options) = parse(body.as_bytes()).unwrap();
            assert_eq!(&*bytes, b"hello", "{image}");
            assert_eq!((options.top_k, options.model), (5, None));
        }
        let slashes = parse(br#"{"image": "\/\/8="}"#).unwrap();
        assert_eq!(&*slashes.0, b"\xff\xff");
    }

    #[test]
    fn wrong_bodies_have_their_codes() {
        let deep = format!(r#"{{"metadata": {}"#, "[".repeat(10_000));
        let closed = format!(
            r#"{{"x": {}{}, "image": "aGk"}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        let many: String = (0..100).map(|i| format!("\"f{i}\":1,")).collect();
        let many = format!("{{{many}\"image\":\"aGk\"}}");
        let cases: &[(&[u8], &str)] = &[
            (b"{", "bad_request"),
            (b"[]", "bad_request"),
            (b"\"image\"", "bad_request"),
            (b"nonsense", "bad_request"),
            (b"{} trailing", "bad_request"),
            (b"{\"image\": \"a\x00b\"}", "bad_request"),
            (b"{\"image\": \"\xff\"}", "bad_request"),
            (br#"{"image":"aGk","image":"aGk"}"#, "bad_request"),
            (br#"{"image":"aGk","top_k":1,"top_k":2}"#, "bad_request"),
            (deep.as_bytes(), "bad_request"),
            (closed.as_bytes(), "bad_request"),
            (many.as_bytes(), "bad_request"),
            (b"{}", "missing_image"),
            (br#"{"image": null}"#, "missing_image"),
            (br#"{"image": 5}"#, "invalid_option"),
            (br#"{"image": {"url": "x"}}"#, "invalid_option"),
            (br#"{"image": "a*b"}"#, "bad_base64"),
            (br#"{"image": "aGVs bG8="}"#, "bad_base64"),
            (br#"{"image": "a"}"#, "bad_base64"),
            (br#"{"image": "data:image/png,aGVsbG8="}"#, "bad_base64"),
            (br#"{"image": "data:image/png;base64"}"#, "bad_base64"),
            (br#"{"image": "https://example.org/a.png"}"#, "bad_base64"),
            (br#"{"image": "aGk", "top_k": -1}"#, "invalid_option"),
            (br#"{"image": "aGk", "top_k": 1e999}"#, "bad_request"),
            (br#"{"image": "aGk", "surprise": 1}"#, "invalid_option"),
            (br#"{"image": "aGk", "wait": 1}"#, "invalid_option"),
            (
                br#"{"image": "aGk", "webhook": {"url": "https://e.org", "events": ["running"]}}"#,
                "invalid_option",
            ),
        ];
        for (body, code) in cases {
            let error = parse(body).unwrap_err();
            assert_eq!(
                error.code().as_str(),
                *code,
                "{:.80}: {error}",
                String::from_utf8_lossy(body)
            );
        }
    }
}
