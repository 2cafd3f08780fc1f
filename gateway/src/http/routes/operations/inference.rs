//! `/v2`: the Open Inference Protocol.

use serde_json::json;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{ObjectBuilder, Required};

use super::predictions::BODY;
use super::request::binary;
use crate::http::error::Code;
use crate::http::oip::{AnswerBody, RequestBody};
use crate::http::openapi::{Header, Operation, content, header_parameter, typed_header_parameter};
use crate::http::routes::oip::{Live, Metadata, ModelReadiness, Server};

fn operation(id: &str, summary: &str, description: &str) -> Operation {
    Operation::new(id, "open inference", summary, description)
}

/// `GET /v2`.
pub(in crate::http::routes) fn server() -> Operation {
    operation(
        "inferenceServer",
        "The server and its extensions",
        "Needs no key.",
    )
    .json::<Server>(200, "The server.", None)
}

/// `GET /v2/health/live`.
pub(in crate::http::routes) fn live() -> Operation {
    operation(
        "inferenceLive",
        "Whether the process turns",
        "Needs no key.",
    )
    .json::<Live>(200, "It does.", Some(json!({"live": true})))
    .headers(200, &[Header::CACHE_CONTROL])
}

/// `GET /v2/health/ready`.
pub(in crate::http::routes) fn ready() -> Operation {
    readiness(
        "inferenceReady",
        "Whether traffic should come here",
        "What `/readyz` says. Needs no key.",
    )
}

fn readiness(id: &str, summary: &str, description: &str) -> Operation {
    operation(id, summary, description)
        .json::<ModelReadiness<'_>>(200, "Ready.", Some(json!({"ready": true})))
        .headers(200, &[Header::CACHE_CONTROL])
        .json::<ModelReadiness<'_>>(503, "Not ready.", Some(json!({"ready": false})))
        .headers(503, &[Header::CACHE_CONTROL])
}

/// Whether an operation is about a version that its path names; its id must differ then.
#[derive(Clone, Copy, Debug)]
pub(in crate::http::routes) enum Version {
    /// The only one.
    Only,
    /// The one of the path.
    Named,
}

impl Version {
    fn id(self, id: &str) -> String {
        match self {
            Self::Only => id.to_owned(),
            Self::Named => format!("{id}OfVersion"),
        }
    }

    fn describe(self, operation: Operation) -> Operation {
        let text = || Object::with_type(Type::String);
        let operation = operation.path("name", "The model's name.", text(), "fashion-mnist");
        let operation = match self {
            Self::Only => operation,
            Self::Named => operation.path("version", "The model's version.", text(), "1"),
        };
        operation.fails(&[Code::ModelNotFound])
    }
}

/// `GET …/models/{name}`.
pub(in crate::http::routes) fn metadata(version: Version) -> Operation {
    let id = version.id("inferenceModel");
    version
        .describe(operation(
            &id,
            "What a model takes and gives",
            "-1 stands for any number of images.",
        ))
        .json::<Metadata<'_>>(200, "The model.", None)
}

/// `GET …/models/{name}/ready`.
pub(in crate::http::routes) fn model_ready(version: Version) -> Operation {
    let description = "The gateway serves, and it is not known that no worker holds the model.";
    let id = version.id("inferenceModelReady");
    version.describe(readiness(&id, "Whether a model can be asked", description))
}

/// `POST …/models/{name}/infer`.
pub(in crate::http::routes) fn infer(version: Version) -> Operation {
    let description = "One input of 1 to 64 images, `UINT8` as pictures or `FP32` as given, in the shape of the metadata. \
        Values are in the JSON, or behind it where `Inference-Header-Content-Length` gives its length; with a length of 0 \
        the body is the values of the only input. `Idempotency-Key` is refused.";
    let id = version.id("infer");
    let mut operation = version.describe(operation(
        &id,
        "Classify the images of a tensor",
        description,
    ));
    let json = operation.refer::<RequestBody<'_>>();
    let answer = operation.refer::<AnswerBody<'_>>();
    let request = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/json", content(json, []))
        .content("application/octet-stream", content(binary(), []));
    let bytes = ObjectBuilder::new().schema_type(Type::Integer);
    let bytes = bytes.minimum(Some(0));
    let length = "Length of the JSON, where binary values follow it.";
    operation
        .parameter(typed_header_parameter(
            "Inference-Header-Content-Length",
            length,
            bytes.build(),
        ))
        .parameter(header_parameter("Cache-Control", "As for `/predict`."))
        .parameter(header_parameter("traceparent", "As for `/predict`."))
        .body(request.build())
        .answer(
            200,
            "The scores, or the best labels.",
            [
                ("application/json", content(answer, [])),
                ("application/octet-stream", content(binary(), [])),
            ],
        )
        .headers(200, &[Header::JSON_LENGTH, Header::CACHE_CONTROL])
        .fails(&BODY)
        .fails(&[
            Code::InvalidTensor,
            Code::InvalidImage,
            Code::InferenceFailed,
            Code::BrokerUnavailable,
            Code::Draining,
            Code::DeadlineExceeded,
        ])
}
