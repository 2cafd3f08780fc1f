//! `POST /models/{name}/input`: the picture a model is given to see, after decoding, cutting, scaling and negating.
//!
//! Pictures are decoded by workers only, so this is a job as any other; no client that does not ask pays for it.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use selvage_core::catalog::{Channels, Input};
use selvage_core::job::{CachePolicy, ModelName};
use selvage_core::outcome::Scores;
use selvage_core::preview;

use super::middleware::RequestId;
use super::receive::{ANSWER, BODY, IMAGE, Received};
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::openapi::{Binary, Errors, set};
use crate::http::options::Query;
use crate::http::upload;
use crate::service::predictions::{Answer, PredictRequest};

const PNG: HeaderValue = HeaderValue::from_static("image/png");
/// Such a job costs little and is never asked for twice, so no cache is filled with pictures.
const UNCACHED: CachePolicy = CachePolicy {
    read: false,
    write: false,
};

/// The picture that a model is given
///
/// The image after decoding, cropping, scaling and negating, as a PNG. There are no unfinished answers.
#[utoipa::path(
    post,
    path = "/models/{name}/input",
    operation_id = "modelInput",
    tag = "models",
    params(("name" = inline(ModelName), Path, description = "The model's name.",
    example = "fashion-mnist")),
    request_body(
        description = "The first bytes decide what the content is, not its type.",
        content(
            (Binary = "image/png"), (Binary = "image/jpeg"), (Binary = "image/webp"),
            (Binary = "image/gif"), (Binary = "image/bmp"), (Binary = "application/octet-stream"),
        ),
    ),
    responses(
        (status = 200, description = "The picture.", body = Binary, content_type = "image/png",
         headers(("Cache-Control"))),
        Errors<{ BODY | IMAGE | ANSWER | set(&[Code::EmptyBody]) }>,
    ),
)]
pub(super) async fn input(
    State(app): State<App>,
    caller: Caller,
    Extension(id): Extension<RequestId>,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let held = app.bodies.read(&headers, body).await?;
    upload::refuse_encoding(&headers)?;
    Query::of(&uri)?.nothing()?;
    let Path(name) = name.unwrap_or_else(|_| Path(String::new()));
    let model = app.models.find(Some(&name), None)?;
    if held.bytes.is_empty() {
        return Err(ApiError::new(Code::EmptyBody, "send an image as the body"));
    }
    upload::check(&held.bytes, app.limits.max_pixels)?;
    let question = preview::ask(&held.bytes);
    let wait = app.limits.default_wait;
    let received = Received::stand_ins(
        &app,
        (id, caller),
        &headers,
        (Arc::clone(&model), wait),
        (held.share, vec![question]),
    )
    .await?;
    let ask = received.asks(&app, wait).pop();
    let ask = ask.unwrap_or_else(|| Err(ApiError::new(Code::MissingImage, "send an image")))?;
    let ask = PredictRequest {
        values: Some(model.input.values()),
        policy: UNCACHED,
        ..ask
    };
    let scores = match app.predictions.answer(&ask).await? {
        Answer::Finished(finished) => finished.scores,
        Answer::Recorded(_) => None,
    };
    let late = || ApiError::new(Code::DeadlineExceeded, "no worker came to it in time");
    let png = encode(&model.input, &scores.ok_or_else(late)?).map_err(ApiError::internal)?;
    let mut response = png.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PNG);
    headers.insert(header::CACHE_CONTROL, super::jobs::NOT_KEPT);
    Ok(response)
}

fn encode(input: &Input, values: &Scores) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, input.width, input.height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(match input.channels {
        Channels::Gray => png::ColorType::Grayscale,
        Channels::Rgb | Channels::Bgr => png::ColorType::Rgb,
    });
    let pixels: Vec<u8> = values.as_slice().iter().map(|value| *value as u8).collect();
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}
