//! `/v2`: the Open Inference Protocol, as the stock HTTP client of Triton expects it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::future::try_join_all;
use selvage_core::catalog::{Layout, Model};
use selvage_core::outcome::Scores;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::jobs::{NOT_KEPT, no_store};
use super::middleware::RequestId;
use super::receive::{ANSWER, BODY, Received};
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::idempotency::IDEMPOTENCY_KEY;
use crate::http::oip::{self, Answer, AnswerBody, RequestBody};
use crate::http::openapi::{Binary, InferenceErrors, set};
use crate::http::options::Query;
use crate::http::upload::{self, LARGE_BYTES};
use crate::service::predictions::{self, PredictRequest};

/// Which model a path names.
#[derive(Deserialize)]
pub(super) struct Named {
    name: String,
    version: Option<String>,
}

type ModelPath = Result<Path<Named>, PathRejection>;

#[derive(Serialize, ToSchema)]
#[schema(as = InferenceServer)]
pub(super) struct Server {
    name: &'static str,
    version: &'static str,
    extensions: &'static [&'static str],
}

/// The server and its extensions
///
/// Needs no API key.
#[utoipa::path(
    get,
    path = "/v2",
    operation_id = "inferenceServer",
    tag = "open inference",
    responses((status = 200, description = "The server.", body = Server)),
)]
pub(super) async fn server() -> Response {
    let server = Server {
        name: "selvage",
        version: env!("CARGO_PKG_VERSION"),
        extensions: &["classification", "binary_tensor_data", "parameters"],
    };
    Json(server).into_response()
}

#[derive(Serialize, ToSchema)]
#[schema(as = InferenceLive)]
pub(super) struct Live {
    live: bool,
}

/// Liveness probe
///
/// Needs no API key.
#[utoipa::path(
    get,
    path = "/v2/health/live",
    operation_id = "inferenceLive",
    tag = "open inference",
    responses(
        (status = 200, description = "The process runs.", body = Live, headers(("Cache-Control")),
         example = json!({"live": true})),
    ),
)]
pub(super) async fn live() -> Response {
    no_store(StatusCode::OK, &Live { live: true })
}

#[derive(Serialize, ToSchema)]
#[schema(as = InferenceReady)]
pub(super) struct ModelReadiness<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    ready: bool,
}

/// Readiness probe
///
/// What `/readyz` says. Needs no API key.
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    operation_id = "inferenceReady",
    tag = "open inference",
    responses(
        (status = 200, description = "Ready.", body = ModelReadiness, headers(("Cache-Control")),
         example = json!({"ready": true})),
        (status = 503, description = "Not ready.", body = ModelReadiness,
         headers(("Cache-Control")), example = json!({"ready": false})),
    ),
)]
pub(super) async fn ready(State(app): State<App>) -> Response {
    readiness(None, app.serves())
}

/// Whether a model is ready
///
/// The gateway serves, and as far as is known a worker holds the model.
#[utoipa::path(
    get,
    path = "/ready",
    operation_id = "inferenceModelReady",
    tag = "open inference",
    params(("name" = String, Path, description = "The model's name.", example = "fashion-mnist")),
    responses(
        (status = 200, description = "Ready.", body = ModelReadiness, headers(("Cache-Control")),
         example = json!({"ready": true})),
        (status = 503, description = "Not ready.", body = ModelReadiness,
         headers(("Cache-Control")), example = json!({"ready": false})),
        InferenceErrors<{ set(&[Code::ModelNotFound]) }>,
    ),
)]
pub(super) async fn model_ready(
    State(app): State<App>,
    named: ModelPath,
) -> Result<Response, ApiError> {
    let model = find(&app, named)?;
    let members = app.predictions.queues.read_members().await;
    let held = members.is_none_or(|members| {
        let mut held = members.workers.iter().flat_map(|worker| &worker.models);
        held.any(|held| held.is(&model))
    });
    let name = Some(model.name.as_str());
    Ok(readiness(name, app.serves() && held))
}

fn readiness(name: Option<&str>, ready: bool) -> Response {
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    no_store(status, &ModelReadiness { name, ready })
}

#[derive(Serialize, ToSchema)]
#[schema(as = InferenceModel)]
pub(super) struct Metadata<'a> {
    name: &'a str,
    versions: [&'a str; 1],
    platform: &'static str,
    inputs: [Described<'a>; 1],
    outputs: [Described<'a>; 1],
}

/// A tensor; -1 stands for any number of images.
#[derive(Serialize, ToSchema)]
#[schema(as = InferenceTensor)]
pub(super) struct Described<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<i64>,
}

/// The tensors of a model
///
/// -1 stands for any number of images.
#[utoipa::path(
    get,
    path = "",
    operation_id = "inferenceModel",
    tag = "open inference",
    params(("name" = String, Path, description = "The model's name.", example = "fashion-mnist")),
    responses(
        (status = 200, description = "The model.", body = Metadata),
        InferenceErrors<{ set(&[Code::ModelNotFound]) }>,
    ),
)]
pub(super) async fn metadata(
    State(app): State<App>,
    named: ModelPath,
) -> Result<Response, ApiError> {
    let model = find(&app, named)?;
    let sides = oip::shape(&model).map(|side| i64::try_from(side).unwrap_or(i64::MAX));
    let metadata = Metadata {
        name: model.name.as_str(),
        versions: [&model.version],
        platform: "onnx_onnxv1",
        inputs: [Described {
            name: oip::input_name(&model),
            datatype: "FP32",
            shape: batched(&sides),
        }],
        outputs: [Described {
            name: oip::output_name(&model),
            datatype: "FP32",
            shape: batched(&oip::output_shape(&model)),
        }],
    };
    Ok(Json(metadata).into_response())
}

fn batched(sides: &[i64]) -> Vec<i64> {
    std::iter::once(-1).chain(sides.iter().copied()).collect()
}

/// A model's configuration as Triton writes it.
#[derive(Serialize, ToSchema)]
#[schema(as = InferenceConfig)]
pub(super) struct Config<'a> {
    name: &'a str,
    platform: &'static str,
    backend: &'static str,
    max_batch_size: usize,
    input: [ConfiguredInput<'a>; 1],
    output: [ConfiguredOutput<'a>; 1],
}

#[derive(Serialize, ToSchema)]
#[schema(as = InferenceConfigInput)]
struct ConfiguredInput<'a> {
    name: &'a str,
    data_type: &'static str,
    format: &'static str,
    dims: [usize; 3],
}

#[derive(Serialize, ToSchema)]
#[schema(as = InferenceConfigOutput)]
struct ConfiguredOutput<'a> {
    name: &'a str,
    data_type: &'static str,
    dims: Vec<i64>,
}

/// The configuration of a model
///
/// In the form of Triton's `config.pbtxt`, as far as clients need it.
#[utoipa::path(
    get,
    path = "/config",
    operation_id = "inferenceConfig",
    tag = "open inference",
    params(("name" = String, Path, description = "The model's name.", example = "fashion-mnist")),
    responses(
        (status = 200, description = "The configuration.", body = Config),
        InferenceErrors<{ set(&[Code::ModelNotFound]) }>,
    ),
)]
pub(super) async fn config(State(app): State<App>, named: ModelPath) -> Result<Response, ApiError> {
    let model = find(&app, named)?;
    let config = Config {
        name: model.name.as_str(),
        platform: "onnxruntime_onnx",
        backend: "onnxruntime",
        max_batch_size: oip::MAX_IMAGES,
        input: [ConfiguredInput {
            name: oip::input_name(&model),
            data_type: "TYPE_FP32",
            format: match model.input.layout {
                Layout::Nchw => "FORMAT_NCHW",
                Layout::Nhwc => "FORMAT_NHWC",
            },
            dims: oip::shape(&model),
        }],
        output: [ConfiguredOutput {
            name: oip::output_name(&model),
            data_type: "TYPE_FP32",
            dims: oip::output_shape(&model),
        }],
    };
    Ok(Json(config).into_response())
}

/// Run a model on the images of a tensor
///
/// One input of 1 to 64 images, `UINT8` as pictures or `FP32` as given, in the shape of the metadata. Values are in the JSON, or
/// behind it if `Inference-Header-Content-Length` gives its length; with a length of 0 the body is the values of the only input.
/// `Idempotency-Key` is refused. The protocol has no unfinished answers: what is not done in time is an error.
#[utoipa::path(
    post,
    path = "/infer",
    operation_id = "infer",
    tag = "open inference",
    params(
        ("name" = String, Path, description = "The model's name.", example = "fashion-mnist"),
        ("Inference-Header-Content-Length" = usize, Header,
         description = "Length of the JSON, if binary values follow it."),
        ("Cache-Control", Header, description = "As for `/predict`."),
        ("traceparent", Header, description = "As for `/predict`."),
    ),
    request_body(content((RequestBody = "application/json"),
    (Binary = "application/octet-stream"))),
    responses(
        (status = 200, description = "The scores, or the best labels.",
         content((AnswerBody = "application/json"), (Binary = "application/octet-stream")),
         headers(("Inference-Header-Content-Length"), ("Cache-Control"))),
        InferenceErrors<{ BODY | ANSWER | set(&[Code::InvalidTensor, Code::InvalidImage]) }>,
    ),
)]
pub(super) async fn infer(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    caller: Caller,
    named: ModelPath,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let held = app.bodies.read(&headers, body).await?;
    upload::refuse_encoding(&headers)?;
    refuse_key(&headers)?;
    Query::of(&uri)?.nothing()?;
    let model = find(&app, named)?;
    let length = headers
        .get(oip::JSON_LENGTH)
        .map(|value| value.as_bytes().to_vec());
    let large = held.bytes.len() > LARGE_BYTES;
    let (bytes, asked) = (held.bytes, Arc::clone(&model));
    let read = move || {
        let request = oip::parse(length.as_deref(), &bytes)?;
        let rows = oip::rows(&request, &asked)?;
        Ok::<_, ApiError>((request, rows))
    };
    let (request, rows) = if large {
        tokio::task::spawn_blocking(read)
            .await
            .map_err(ApiError::internal)??
    } else {
        read()?
    };
    let limits = &app.limits;
    let wait = request
        .timeout
        .unwrap_or(limits.default_wait)
        .min(limits.max_wait);
    let received = Received::stand_ins(
        &app,
        (id, caller),
        &headers,
        (Arc::clone(&model), wait),
        (held.share, rows),
    )
    .await?;
    let asks: Vec<PredictRequest> = received
        .asks(&app, wait)
        .into_iter()
        .collect::<Result<_, _>>()?;
    let values = try_join_all(asks.iter().map(|ask| one(&app, ask))).await?;
    let answer = Answer {
        model: &model,
        request: &request,
        values: &values,
    };
    let fresh = [(header::CACHE_CONTROL, NOT_KEPT)];
    Ok((fresh, oip::respond(answer)?).into_response())
}

/// An answer of the protocol leaves no record a repeat could find, so a key must not look as if it had an effect.
fn refuse_key(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let detail = "Idempotency-Key: not taken under /v2; an inference may be repeated as it is, without harm";
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    Ok(())
}

async fn one(app: &App, ask: &PredictRequest) -> Result<Scores, ApiError> {
    let values = match app.predictions.answer(ask).await? {
        predictions::Answer::Finished(finished) => finished.scores,
        // A client that gets nothing after its wait has no record.
        predictions::Answer::Recorded(_) => None,
    };
    let detail = "no answer came in time; `timeout` (in microseconds) gives it more";
    values.ok_or_else(|| ApiError::new(Code::DeadlineExceeded, detail))
}

fn find(app: &App, named: ModelPath) -> Result<Arc<Model>, ApiError> {
    let Ok(Path(named)) = named else {
        return Err(ApiError::new(Code::ModelNotFound, "no model of that name"));
    };
    let model = app
        .models
        .find(Some(&named.name), named.version.as_deref())?;
    Ok(model)
}
