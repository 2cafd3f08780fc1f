//! `GET /jobs`, `GET /jobs/{id}`, its events, and its cancellation.

use selvage_core::job::JobId;
use selvage_core::job_state::JobState;
use serde_json::json;
use utoipa::PartialSchema as _;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::schema::Type;

use super::{query, request};
use crate::http::error::Code;
use crate::http::openapi::{Header, Operation, content, header_parameter, job};
use crate::http::routes::list::{Jobs, LIMIT, STATES};
use crate::http::view::JobView;

fn of_job(id: &str, summary: &str, description: &str) -> Operation {
    let says = "The job's id, as it was answered: a UUID of version 7.";
    Operation::new(id, "jobs", summary, description)
        .path(
            "id",
            says,
            JobId::schema(),
            "01929f3e-7c1a-7b52-9a64-2f0d8f6a5b11",
        )
        .fails(&[
            Code::BadRequest,
            Code::JobNotFound,
            Code::JobExpired,
            Code::InvalidOption,
            Code::StoreUnavailable,
        ])
}

/// `GET /jobs`.
pub(in crate::http::routes) fn list() -> Operation {
    let (usual, most) = LIMIT;
    let limit = ObjectBuilder::new().schema_type(Type::Integer);
    let limit = limit.minimum(Some(1)).maximum(Some(most));
    let states = STATES.map(|state| json!(state.as_str()));
    let status = ObjectBuilder::new().schema_type(Type::String);
    Operation::new(
        "listJobs",
        "jobs",
        "The caller's jobs, newest first",
        "Asynchronous jobs of the caller's key, as long as their records are kept. A part of a list by status may be short, or empty, \
         and still have a next one.",
    )
    .parameter(query("limit", "Jobs in the answer.", limit.default(Some(json!(usual)))))
    .parameter(query("status", "Only jobs in this state.", status.enum_values(Some(states))))
    .parameter(query(
        "cursor",
        "`next_cursor` of the part before.",
        JobId::schema(),
    ))
    .json::<Jobs<'_>>(200, "A part of the list.", None)
    .headers(200, &[Header::CACHE_CONTROL, Header::LINK])
    .fails(&[
        Code::BadRequest,
        Code::InvalidOption,
        Code::StoreUnavailable,
    ])
}

/// `GET /jobs/{id}`.
pub(in crate::http::routes) fn show() -> Operation {
    let description = "With `wait`, or `Prefer: wait=N`, the answer comes when the job has ended, or after that time.";
    of_job("showJob", "A job as it is now", description)
        .parameter(request::wait())
        .parameter(header_parameter(
            "Prefer",
            "`wait=N` (RFC 7240); wins over `wait`.",
        ))
        .json::<JobView<'_>>(200, "The job.", job(JobState::Succeeded))
        .headers(
            200,
            &[
                Header::RETRY_AFTER,
                Header::PREFERENCE_APPLIED,
                Header::CACHE_CONTROL,
            ],
        )
}

/// `GET /jobs/{id}/events`.
pub(in crate::http::routes) fn events() -> Operation {
    let description = "Server-sent events named `status` with the job as data and `state.attempts` as id: the state now, \
        unless `Last-Event-ID` says that it is known, then each change; the stream ends with the job. Every 15 s without \
        a change a comment comes.";
    let mut operation = of_job("followJob", "A job as a stream of its changes", description);
    let job = operation.refer::<JobView<'_>>();
    operation
        .parameter(header_parameter(
            "Last-Event-ID",
            "The id of the last event that was seen.",
        ))
        .answer(
            200,
            "The stream.",
            [(
                "text/event-stream",
                content(super::event("status", job), []),
            )],
        )
        .headers(200, &[Header::CACHE_CONTROL, Header::X_ACCEL_BUFFERING])
        .answer(204, "The end is known already: do not come back.", [])
}

/// `POST /jobs/{id}/cancel`.
pub(in crate::http::routes) fn cancel() -> Operation {
    of_job("cancelJob", "Cancel a job", "Takes no body.")
        .json::<JobView<'_>>(200, "The job, canceled.", job(JobState::Canceled))
        .headers(200, &[Header::CACHE_CONTROL])
        .json::<JobView<'_>>(
            202,
            "The job, running, and asked to stop.",
            job(JobState::Running),
        )
        .headers(202, &[Header::CACHE_CONTROL, Header::RETRY_AFTER])
        .fails(&[Code::JobFinished, Code::StoreFull])
}
