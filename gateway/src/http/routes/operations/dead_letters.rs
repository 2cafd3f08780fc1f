//! `/admin/dead-letters`.

use selvage_core::job::JobId;
use selvage_core::job_state::JobState;
use serde_json::json;
use utoipa::PartialSchema as _;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::schema::Type;

use super::query;
use crate::http::error::Code;
use crate::http::openapi::{Header, Operation, job};
use crate::http::routes::dead_letters::{LAST, MOST, Purged, ReplayedView, USUAL};
use crate::http::view::JobView;
use crate::service::dead_letters::Page;

fn admin(id: &str, summary: &str, description: &str) -> Operation {
    Operation::new(id, "admin", summary, description).fails(&[
        Code::BadRequest,
        Code::Forbidden,
        Code::InvalidOption,
        Code::StoreUnavailable,
        Code::StoreFull,
    ])
}

fn limit(says: &str) -> Parameter {
    let number = ObjectBuilder::new().schema_type(Type::Integer);
    let number = number.minimum(Some(1)).maximum(Some(MOST));
    query("limit", says, number.default(Some(json!(USUAL))))
}

/// `GET /admin/dead-letters`.
pub(in crate::http::routes) fn list() -> Operation {
    let offset = ObjectBuilder::new().schema_type(Type::Integer);
    let offset = offset.minimum(Some(0)).maximum(Some(LAST));
    admin(
        "listDeadLetters",
        "List dead letters",
        "Oldest first; never with its images.",
    )
    .parameter(limit("Dead letters on the page."))
    .parameter(query("offset", "Dead letters before the page.", offset))
    .json::<Page>(200, "The page.", None)
    .leads_to(200, "/items/0/id", &["replayDeadLetter"])
    .headers(200, &[Header::CACHE_CONTROL])
}

/// `DELETE /admin/dead-letters`.
pub(in crate::http::routes) fn purge() -> Operation {
    admin(
        "purgeDeadLetters",
        "Delete all dead letters",
        "They cannot be had back.",
    )
    .json::<Purged>(200, "How many there were.", Some(json!({"purged": 3})))
    .headers(200, &[Header::CACHE_CONTROL])
}

/// `POST /admin/dead-letters/replay`.
pub(in crate::http::routes) fn replay_all() -> Operation {
    let description = "Each as a new job with `retry_of`; those that hold no job are skipped.";
    admin("replayDeadLetters", "Replay many dead letters", description)
        .parameter(limit("Dead letters that are replayed."))
        .json::<ReplayedView<'_>>(200, "What was replayed.", None)
        .headers(200, &[Header::CACHE_CONTROL])
        .fails(&[
            Code::NotReplayable,
            Code::NotFound,
            Code::PayloadTooLarge,
            Code::QueueFull,
            Code::IdempotencyMismatch,
            Code::RequestInProgress,
            Code::BrokerUnavailable,
            Code::Draining,
        ])
}

/// `POST /admin/dead-letters/{id}/replay`.
pub(in crate::http::routes) fn replay() -> Operation {
    let id = "01929f3e-7c1a-7b52-9a64-2f0d8f6a5b11";
    admin(
        "replayDeadLetter",
        "Replay a dead letter",
        "As a new job with `retry_of`.",
    )
    .path("id", "The dead letter's id.", JobId::schema(), id)
    .json::<JobView<'_>>(202, "The new job.", job(JobState::Queued))
    .headers(
        202,
        &[Header::LOCATION, Header::RETRY_AFTER, Header::CACHE_CONTROL],
    )
    .leads_to(202, "/id", &["showJob", "followJob", "cancelJob"])
    .fails(&[
        Code::NotFound,
        Code::NotReplayable,
        Code::PayloadTooLarge,
        Code::QueueFull,
        Code::IdempotencyMismatch,
        Code::RequestInProgress,
        Code::BrokerUnavailable,
        Code::Draining,
    ])
}
