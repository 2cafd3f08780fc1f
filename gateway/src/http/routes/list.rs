//! `GET /jobs`: the caller's jobs, newest first, in parts.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use selvage_core::job::JobId;
use selvage_core::job_state::JobState;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::jobs::{NOT_KEPT, json};
use crate::http::access::Caller;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::options::Query;
use crate::http::view::JobView;

/// Jobs in an answer unless the request says otherwise, and the most it can ask for.
pub(super) const LIMIT: (usize, usize) = (20, 100);
/// Longest time for reading one list.
const LIST_LIMIT: Duration = Duration::from_secs(5);

pub(super) const STATES: [JobState; 6] = [
    JobState::Queued,
    JobState::Running,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Canceled,
    JobState::Expired,
];

/// What is asked for.
#[derive(Debug, PartialEq)]
struct ListQuery {
    state: Option<JobState>,
    limit: usize,
    /// The job the list goes on after.
    cursor: Option<JobId>,
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Jobs<'a> {
    items: Vec<JobView<'a>>,
    /// What to ask with for the next part; null after the last.
    next_cursor: Option<JobId>,
}

/// The caller's jobs.
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
    let read = timeout(LIST_LIMIT, reading).await;
    let page = read.map_err(ApiError::store)?.map_err(ApiError::store)?;
    let predictions = &app.predictions;
    let items = page.records.iter().map(|record| {
        JobView::recorded(
            record,
            predictions.queues.queue_view(record),
            predictions.durable,
        )
    });
    let jobs = Jobs {
        items: items.collect(),
        next_cursor: page.next,
    };
    let mut response = json(StatusCode::OK, &jobs)?;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NOT_KEPT);
    headers.extend(
        page.next
            .and_then(|next| Some((header::LINK, list_query.link(next)?))),
    );
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
            limit: query.number("limit", 1..=LIMIT.1)?.unwrap_or(LIMIT.0),
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
