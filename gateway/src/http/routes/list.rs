//! `GET /jobs`: the caller's jobs, newest first, in parts.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use selvage_core::job::JobId;
use selvage_core::job_state::JobState;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::jobs::{no_store, stored, view};
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::{ApiError, Code};
use crate::http::openapi::{Errors, set};
use crate::http::options::Query;
use crate::http::view::JobView;

/// Jobs in an answer unless the request says otherwise.
const USUAL: usize = 20;
/// The most jobs a request can ask for.
const MOST: usize = 100;
/// Longest time for reading one list.
const LIST_LIMIT: Duration = Duration::from_secs(5);

const STATES: [JobState; 6] = [
    JobState::Queued,
    JobState::Running,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Canceled,
    JobState::Expired,
];

/// What is asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only jobs in this state.
    #[param(rename = "status", inline)]
    state: Option<JobState>,
    /// Jobs in the answer.
    #[param(minimum = 1, maximum = 100, default = 20, required = false)]
    limit: usize,
    /// `next_cursor` of the part before.
    #[param(inline)]
    cursor: Option<JobId>,
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Jobs<'a> {
    items: Vec<JobView<'a>>,
    /// What to ask with for the next part; null after the last.
    next_cursor: Option<JobId>,
}

/// The caller's jobs, newest first
///
/// Asynchronous jobs of the caller's key, as long as their records are kept. A part of a list by status may be short, or empty, and
/// still have a next one.
#[utoipa::path(
    get,
    path = "/jobs",
    operation_id = "listJobs",
    tag = "jobs",
    params(ListQuery),
    responses(
        (status = 200, description = "A part of the list.", body = Jobs,
         headers(("Cache-Control"), ("Link"))),
        Errors<{ set(&[Code::InvalidOption, Code::StoreUnavailable]) }>,
    ),
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, ApiError> {
    let list_query = ListQuery::of(&uri)?;
    let _turn = app.lists.admit(caller.owner()).await?;
    let (owner, cursor) = (caller.owner(), list_query.cursor);
    let reading = app
        .store
        .list(owner, cursor, list_query.limit, list_query.state);
    let page = stored(LIST_LIMIT, reading).await?;
    let items = page.records.iter().map(|record| view(&app, record));
    let jobs = Jobs {
        items: items.collect(),
        next_cursor: page.next,
    };
    let mut response = no_store(StatusCode::OK, &jobs);
    let link = page.next.and_then(|next| list_query.link(next));
    let link = link.map(|link| (header::LINK, link));
    response.headers_mut().extend(link);
    Ok(response)
}

impl ListQuery {
    fn of(uri: &Uri) -> Result<Self, ApiError> {
        let query = Query::of(uri)?.only(&["status", "limit", "cursor"])?;
        let state = |text: &str| STATES.into_iter().find(|state| state.as_str() == text);
        let states = "must be queued, running, succeeded, failed, canceled or expired";
        let cursor = |text: &str| text.parse().ok();
        Ok(Self {
            state: query.read("status", state, states)?,
            limit: query.number("limit", 1..=MOST)?.unwrap_or(USUAL),
            cursor: query.read(
                "cursor",
                cursor,
                "must be a `next_cursor` as it was answered",
            )?,
        })
    }

    /// `Link` to the next part (RFC 8288).
    fn link(&self, next: JobId) -> Option<HeaderValue> {
        let state = self
            .state
            .map(|state| format!("status={}&", state.as_str()));
        let (state, limit) = (state.unwrap_or_default(), self.limit);
        let link = format!("</jobs?{state}limit={limit}&cursor={next}>; rel=\"next\"");
        HeaderValue::try_from(link).ok()
    }
}
