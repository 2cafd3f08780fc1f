//! The Open Inference Protocol, version 2: tensors in, tensors out, in JSON and in its binary extension.
//!
//! Pure functions on bytes; the handlers are in `routes/oip.rs`. A tensor becomes one job per image, each in the place of
//! an encoded picture (`selvage_core::tensor`), so queue, cache and limits are those of `/predict`.

mod answer;
mod request;
mod rows;
mod values;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use selvage_core::catalog::Model;
use serde::Serialize;
use utoipa::ToSchema;

pub use answer::{Answer, Body as AnswerBody, respond};
pub use request::{Body as RequestBody, Inputs, Request, RequestedOutput, Tensor, parse};
pub use rows::{MAX_IMAGES, output_shape, rows, shape};

use crate::http::error::{ApiError, retry_after};

/// The length of a body's JSON part, where binary values follow it.
pub const JSON_LENGTH: &str = "inference-header-content-length";

/// Names that stand for a model's input and output, whatever its file calls them.
const DEFAULT_INPUT: &str = "input";
const DEFAULT_OUTPUT: &str = "output";

/// The input's name in the model's file.
#[must_use]
pub fn input_name(model: &Model) -> &str {
    model.input.name.as_deref().unwrap_or(DEFAULT_INPUT)
}

/// The output's name in the model's file.
#[must_use]
pub fn output_name(model: &Model) -> &str {
    model.output.name.as_deref().unwrap_or(DEFAULT_OUTPUT)
}

/// Whether errors of this path have the protocol's form.
#[must_use]
pub fn owns(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// An error as the protocol has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceError)]
pub struct ErrorBody<'a> {
    error: &'a str,
}

/// An error in the protocol's own form.
#[must_use]
pub fn render(error: &ApiError) -> Response {
    let body = serde_json::to_vec(&ErrorBody {
        error: error.detail(),
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    let status = error.code().status();
    let mut response = (status, kind, body.unwrap_or_default()).into_response();
    if let Some(after) = error.after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, retry_after(after));
    }
    response
}
