//! `POST /predict`, `POST /predict/batch`, `POST /jobs`, `POST /models/{name}/input`.

use selvage_core::job::ModelName;
use selvage_core::job_state::JobState;
use utoipa::PartialSchema as _;

use super::request;
use crate::http::error::Code;
use crate::http::openapi::{Header, Operation, content, job};
use crate::http::routes::batch::Items;
use crate::http::upload::Count;
use crate::http::view::JobView;

/// What reading a body can end in.
pub(super) const BODY: [Code; 6] = [
    Code::BadRequest,
    Code::BodyTimeout,
    Code::PayloadTooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidOption,
    Code::QueueFull,
];
/// What reading images and options can end in.
const ASKED: [Code; 7] = [
    Code::EmptyBody,
    Code::MissingImage,
    Code::BadBase64,
    Code::ModelNotFound,
    Code::WebhookForbidden,
    Code::IdempotencyMismatch,
    Code::RequestInProgress,
];
/// What an image can be.
const IMAGE: [Code; 2] = [Code::InvalidImage, Code::ImageTooLarge];
/// What can be in the way of an answer or a job.
const AWAY: [Code; 4] = [
    Code::BrokerUnavailable,
    Code::StoreUnavailable,
    Code::StoreFull,
    Code::Draining,
];

const FINISHED: [Header; 4] = [
    Header::AGE,
    Header::CACHE_STATUS,
    Header::PREFERENCE_APPLIED,
    Header::CACHE_CONTROL,
];
const UNFINISHED: [Header; 5] = [
    Header::CACHE_STATUS,
    Header::LOCATION,
    Header::RETRY_AFTER,
    Header::PREFERENCE_APPLIED,
    Header::CACHE_CONTROL,
];

fn asking(id: &str, summary: &str, description: &str, count: Count) -> Operation {
    Operation::new(id, "predictions", summary, description)
        .parameters(request::in_query())
        .parameters(request::headers())
        .body(request::body(count))
        .fails(&BODY)
        .fails(&ASKED)
        .fails(&AWAY)
}

fn one(operation: Operation) -> Operation {
    let follow = ["showJob", "followJob", "cancelJob"];
    operation
        .json::<JobView<'_>>(200, "The job, ended.", job(JobState::Succeeded))
        .headers(200, &FINISHED)
        .json::<JobView<'_>>(202, "The job, unfinished; poll it.", job(JobState::Queued))
        .headers(202, &UNFINISHED)
        .leads_to(202, "/id", &follow)
        .fails(&IMAGE)
}

/// `POST /predict`.
pub(in crate::http::routes) fn predict() -> Operation {
    let description =
        "Waits 10 s unless asked otherwise. A wait that runs out is a 202 with a job to follow.";
    one(asking(
        "predict",
        "Classify an image and wait for the answer",
        description,
        Count::One,
    ))
    .parameter(request::wait())
    .fails(&[Code::JobCanceled, Code::InferenceFailed])
}

/// `POST /jobs`.
pub(in crate::http::routes) fn submit() -> Operation {
    let description =
        "Never waits: 202 once the job is stored and queued, 200 where the cache has the answer.";
    one(asking(
        "submit",
        "Submit a classification job",
        description,
        Count::One,
    ))
}

/// `POST /predict/batch`.
pub(in crate::http::routes) fn batch() -> Operation {
    let description = "Each image is a job of its own, in its place in `items`; one that is bad fails alone. \
        Where nothing could be taken for want of room the whole request is that error.";
    let items = |state| job(state).map(|job| serde_json::json!({"items": [job]}));
    asking(
        "predictBatch",
        "Classify up to 64 images",
        description,
        Count::Batch,
    )
    .parameter(request::wait())
    .json::<Items<'_>>(200, "The jobs, all ended.", items(JobState::Succeeded))
    .headers(200, &[Header::PREFERENCE_APPLIED, Header::CACHE_CONTROL])
    .json::<Items<'_>>(202, "The jobs, some unfinished.", items(JobState::Queued))
    .headers(
        202,
        &[
            Header::RETRY_AFTER,
            Header::PREFERENCE_APPLIED,
            Header::CACHE_CONTROL,
        ],
    )
    .fails(&[Code::JobCanceled, Code::InferenceFailed])
}

/// `POST /models/{name}/input`.
pub(in crate::http::routes) fn input() -> Operation {
    let description = "After decoding, cutting, scaling and negating, as a PNG. The body is the image; there are no \
        unfinished answers.";
    let picture = [("image/png", content(request::binary(), []))];
    Operation::new(
        "modelInput",
        "models",
        "The picture a model is given to see",
        description,
    )
    .path(
        "name",
        "The model's name.",
        ModelName::schema(),
        "fashion-mnist",
    )
    .body(request::image())
    .answer(200, "The picture.", picture)
    .headers(200, &[Header::CACHE_CONTROL])
    .fails(&BODY)
    .fails(&IMAGE)
    .fails(&[
        Code::EmptyBody,
        Code::ModelNotFound,
        Code::InferenceFailed,
        Code::BrokerUnavailable,
        Code::Draining,
        Code::DeadlineExceeded,
    ])
}
