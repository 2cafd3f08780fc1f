//! JSON bodies that are wrong in form, for `bad_requests`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use selvage_tests::{Client, pictures};
use serde_json::{Value, json};

use super::bad_requests::Row;

pub(super) fn rows(client: &Client) -> Vec<Row> {
    let raw = |body: Vec<u8>| {
        client
            .request(Method::POST, "/predict")
            .header("content-type", "application/json")
            .body(body)
    };
    let post = |body: Value| raw(body.to_string().into_bytes());
    let image = STANDARD.encode(pictures::boot());
    let with = |name: &str, value: Value| {
        let mut body = json!({"image": image});
        body[name] = value;
        post(body)
    };
    let deep = [
        b"{\"image\":\"\",\"metadata\":".to_vec(),
        b"[".repeat(10_000),
        b"]".repeat(10_000),
        b"}".to_vec(),
    ]
    .concat();
    let huge_number = format!("{{\"image\":\"{image}\",\"top_k\":1e999}}").into_bytes();
    let twice = format!("{{\"image\":\"{image}\",\"top_k\":1,\"top_k\":2}}").into_bytes();
    vec![
        (
            "JSON that is none",
            raw(b"{\"image\":".to_vec()),
            400,
            "bad_request",
        ),
        (
            "JSON of another kind",
            raw(b"[1,2]".to_vec()),
            400,
            "bad_request",
        ),
        ("JSON of 10,000 levels", raw(deep), 400, "bad_request"),
        (
            "JSON with invalid UTF-8",
            raw(b"{\"image\":\"\xFF\xFE\"}".to_vec()),
            400,
            "bad_request",
        ),
        ("JSON with a key twice", raw(twice), 400, "bad_request"),
        (
            "JSON without an image",
            post(json!({"top_k": 1})),
            400,
            "missing_image",
        ),
        (
            "JSON with an empty image",
            post(json!({"image": ""})),
            400,
            "empty_body",
        ),
        (
            "JSON with bad base64",
            post(json!({"image": "!!!"})),
            400,
            "bad_base64",
        ),
        (
            "JSON with an image of white space",
            post(json!({"image": " \t\r\n "})),
            400,
            "bad_base64",
        ),
        (
            "JSON with a data URI of white space",
            post(json!({"image": "data:image/png;base64, "})),
            400,
            "bad_base64",
        ),
        (
            "JSON with base64 in lines",
            post(json!({"image": format!("{}\n{}", &image[..76], &image[76..])})),
            200,
            "",
        ),
        (
            "JSON with a bad data URI",
            post(json!({"image": "data:image/png,abc"})),
            400,
            "bad_base64",
        ),
        (
            "JSON with an image URL",
            post(json!({"image": "https://example.org/a.png"})),
            400,
            "bad_base64",
        ),
        (
            "JSON whose image is text",
            post(json!({"image": STANDARD.encode("hello, world")})),
            415,
            "unsupported_media_type",
        ),
        (
            "JSON with an unknown field",
            with("colour", json!(1)),
            422,
            "invalid_option",
        ),
        (
            "JSON with top_k of 0",
            with("top_k", json!(0)),
            422,
            "invalid_option",
        ),
        (
            "JSON with top_k of -1",
            with("top_k", json!(-1)),
            422,
            "invalid_option",
        ),
        (
            "JSON with top_k of 10⁹",
            with("top_k", json!(1_000_000_000)),
            422,
            "invalid_option",
        ),
        (
            "JSON with top_k as text",
            with("top_k", json!("many")),
            422,
            "invalid_option",
        ),
        (
            "JSON with an infinite number",
            raw(huge_number),
            400,
            "bad_request",
        ),
        (
            "JSON with a large metadata",
            with("metadata", json!({"a": "x".repeat(2000)})),
            422,
            "invalid_option",
        ),
        (
            "JSON with metadata of another kind",
            with("metadata", json!([1])),
            422,
            "invalid_option",
        ),
        (
            "JSON with a negative wait",
            with("timeout_ms", json!(-5)),
            422,
            "invalid_option",
        ),
        (
            "JSON with a model path",
            with("model", json!("../../etc/passwd")),
            404,
            "model_not_found",
        ),
        (
            "JSON with a NUL in the model",
            with("model", json!("a\0b")),
            404,
            "model_not_found",
        ),
        (
            "JSON with a model of 10 KB",
            with("model", json!("m".repeat(10_000))),
            404,
            "model_not_found",
        ),
    ]
}
