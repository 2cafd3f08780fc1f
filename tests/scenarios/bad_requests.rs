//! Requests that are wrong in form: each has its code, and none does harm.

use std::io::Write as _;
use std::slice;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::{Method, RequestBuilder};
use selvage_tests::{Client, Deployment, pictures};

use super::bad_json;

pub(super) async fn no_bad_request_does_harm(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let mut wrong = Vec::new();
    let rows = bodies(&client)
        .into_iter()
        .chain(multiparts(&client))
        .chain(bad_json::rows(&client))
        .chain(options(&client));
    for (what, request, status, code) in rows {
        let answer = client.send(request).await?;
        let seen_code = if answer.status == 200 || answer.status == 202 {
            ""
        } else {
            answer.code()
        };
        if (answer.status, seen_code) != (status, code) {
            wrong.push(format!(
                "{what}: {} {seen_code}, expected {status} {code}: {}",
                answer.status, answer.json
            ));
        }
        if code == "invalid_option" && answer.json["errors"][0]["pointer"].as_str().is_none() {
            wrong.push(format!("{what}: says not where: {}", answer.json));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    client
        .post_image("/predict", pictures::boot())
        .await?
        .expect(200);
    Ok(())
}

pub(super) type Row = (&'static str, RequestBuilder, u16, &'static str);

fn bodies(client: &Client) -> Vec<Row> {
    let post = |body: Vec<u8>, kind: &str| {
        client
            .request(Method::POST, "/predict")
            .header("content-type", kind)
            .body(body)
    };
    let oversized = vec![0x89; (10 << 20) + 1];
    vec![
        ("empty body", post(vec![], "image/png"), 400, "empty_body"),
        (
            "no body at all",
            client.request(Method::POST, "/predict"),
            400,
            "empty_body",
        ),
        (
            "one byte above the body limit",
            post(oversized.clone(), "image/png"),
            413,
            "payload_too_large",
        ),
        (
            "oversized job",
            client.request(Method::POST, "/jobs").body(oversized),
            413,
            "payload_too_large",
        ),
        (
            "text/plain with PNG bytes",
            post(pictures::boot(), "text/plain"),
            200,
            "",
        ),
        (
            "image/jpeg with PNG bytes",
            post(pictures::boot(), "image/jpeg"),
            200,
            "",
        ),
        (
            "octet-stream with PNG bytes",
            post(pictures::boot(), "application/octet-stream"),
            200,
            "",
        ),
        (
            "JPEG with 30 MiB of padding",
            post(pictures::padded_jpeg(), "image/jpeg"),
            413,
            "payload_too_large",
        ),
        (
            "gzip of 1 GiB",
            post(gzip_bomb(), "image/png").header("content-encoding", "gzip"),
            415,
            "unsupported_media_type",
        ),
        (
            "gzip of 1 GiB without a word",
            post(gzip_bomb(), "image/png"),
            415,
            "unsupported_media_type",
        ),
        (
            "compressed body",
            post(pictures::deflate(&pictures::boot()), "image/png")
                .header("content-encoding", "deflate"),
            415,
            "unsupported_media_type",
        ),
    ]
}

/// 1 MiB of gzip (RFC 1952) that is 1 GiB of zeros: the same member over and over.
fn gzip_bomb() -> Vec<u8> {
    let mut member = GzEncoder::new(Vec::new(), Compression::best());
    let written = member.write_all(&vec![0; 1 << 20]);
    written.expect("memory takes every write");
    member
        .finish()
        .expect("memory takes every write")
        .repeat(1024)
}

fn multiparts(client: &Client) -> Vec<Row> {
    let post = |body: Vec<u8>, kind: &str| {
        client
            .request(Method::POST, "/predict")
            .header("content-type", kind)
            .body(body)
    };
    const KIND: &str = "multipart/form-data; boundary=b";
    let part = |name: &str, data: &[u8]| {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        [head.as_bytes(), data, b"\r\n"].concat()
    };
    let closed = |parts: &[Vec<u8>]| [parts.concat(), b"--b--\r\n".to_vec()].concat();
    let image = part("image", &pictures::boot());
    let long_head = {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{}\"\r\n\r\n",
            "x".repeat(1 << 20)
        );
        [
            head.into_bytes(),
            pictures::boot(),
            b"\r\n--b--\r\n".to_vec(),
        ]
        .concat()
    };
    vec![
        (
            "multipart with an image",
            post(closed(slice::from_ref(&image)), KIND),
            200,
            "",
        ),
        (
            "multipart without an image",
            post(closed(&[part("model", b"fashion-mnist")]), KIND),
            400,
            "missing_image",
        ),
        (
            "multipart with two images",
            post(closed(&[image.clone(), image.clone()]), KIND),
            400,
            "bad_request",
        ),
        (
            "multipart with an empty image",
            post(closed(&[part("image", b"")]), KIND),
            400,
            "empty_body",
        ),
        (
            "multipart without a boundary",
            post(closed(slice::from_ref(&image)), "multipart/form-data"),
            400,
            "bad_request",
        ),
        (
            "multipart cut before its end",
            post(image[..image.len() / 2].to_vec(), KIND),
            400,
            "bad_request",
        ),
        (
            "multipart of 10,000 parts",
            post(closed(&vec![part("x", b"1"); 10_000]), KIND),
            400,
            "bad_request",
        ),
        (
            "multipart head of 1 MiB",
            post(long_head, KIND),
            400,
            "bad_request",
        ),
        (
            "multipart with an unknown field",
            post(closed(&[image.clone(), part("colour", b"1")]), KIND),
            422,
            "invalid_option",
        ),
        (
            "multipart with a bad option",
            post(closed(&[image, part("top_k", b"-1")]), KIND),
            422,
            "invalid_option",
        ),
    ]
}

fn options(client: &Client) -> Vec<Row> {
    let post = |query: &str| {
        client
            .request(Method::POST, &format!("/predict?{query}"))
            .body(pictures::boot())
    };
    vec![
        ("wait of -1", post("wait=-1"), 422, "invalid_option"),
        ("wait of letters", post("wait=abc"), 422, "invalid_option"),
        ("wait far above the limit", post("wait=99999"), 200, ""),
        ("unknown parameter", post("colour=1"), 422, "invalid_option"),
        ("top_k of 0", post("top_k=0"), 422, "invalid_option"),
        (
            "model that is a path",
            post("model=..%2F..%2Fetc%2Fpasswd"),
            404,
            "model_not_found",
        ),
        (
            "model with a NUL",
            post("model=%00"),
            404,
            "model_not_found",
        ),
        (
            "empty idempotency key",
            post("").header("idempotency-key", "\"\""),
            400,
            "bad_request",
        ),
        (
            "idempotency key of 1 KB",
            post("").header("idempotency-key", "k".repeat(1024)),
            400,
            "bad_request",
        ),
        (
            "idempotency key with control characters",
            post("").header("idempotency-key", "a\tb"),
            400,
            "bad_request",
        ),
    ]
}
