//! The job object as clients see it: names, order and units of its JSON. No decision is taken here.

use std::borrow::Cow;
use std::time::Duration;

use selvage_core::catalog::Model;
use selvage_core::clock::UnixMillis;
use selvage_core::job::JobId;
use selvage_core::job_state::JobState;
use selvage_core::key::Digest;
use selvage_core::outcome::Cost;
use selvage_core::output::Output;
use selvage_core::store::Record;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::error::{ApiError, Problem};
use crate::service::predictions::{Finished, PredictRequest};
use crate::service::queues::QueueView;
use crate::service::time::Time;

/// The job object.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub struct JobView<'a> {
    pub(crate) id: JobId,
    pub(crate) status: JobState,
    model: ModelView<'a>,
    #[schema(required)]
    image_hash: Option<Digest>,
    cached: bool,
    #[schema(required, value_type = Option<Output>)]
    output: Option<Cow<'a, Output>>,
    #[schema(required, value_type = Option<Problem>)]
    error: Option<Problem<'a>>,
    #[schema(required)]
    pub(crate) queue: Option<QueueView>,
    #[schema(required)]
    pub(crate) timings: Option<Timings>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
    created_at: Time,
    #[schema(required)]
    started_at: Option<Time>,
    #[schema(required)]
    finished_at: Option<Time>,
    #[schema(required)]
    expires_at: Option<Time>,
    #[schema(value_type = Object)]
    metadata: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    urls: Option<Urls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobModel)]
struct ModelView<'a> {
    name: &'a str,
    version: &'a str,
    digest: Digest,
}

impl<'a> ModelView<'a> {
    fn of(model: &'a Model) -> Self {
        Self {
            name: model.name.as_str(),
            version: &model.version,
            digest: model.digest,
        }
    }
}

/// Where a job's webhook is delivered, and what has become of that.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookState)]
struct WebhookView<'a> {
    url: &'a str,
    events: &'a [JobState],
    attempts: u32,
    last_status: Option<u16>,
    last_error: Option<&'a str>,
    delivered_at: Option<Time>,
    stopped_at: Option<Time>,
}

impl<'a> WebhookView<'a> {
    fn of(record: &'a Record) -> Option<Self> {
        let webhook = record.seed.submission.webhook.as_ref()?;
        let delivery = record.delivery.as_ref();
        Some(Self {
            url: &webhook.url,
            events: &webhook.events,
            attempts: delivery.map_or(0, |delivery| delivery.attempts),
            last_status: delivery.and_then(|delivery| delivery.last_status),
            last_error: delivery.and_then(|delivery| delivery.last_error.as_deref()),
            delivered_at: delivery
                .and_then(|delivery| delivery.delivered_at)
                .map(Time),
            stopped_at: delivery.and_then(|delivery| delivery.stopped_at).map(Time),
        })
    }
}

/// An image that got no answer, and why.
#[derive(Debug)]
pub struct Failed<'a> {
    /// The job's id, or one that no job has.
    pub id: JobId,
    /// The model that was asked.
    pub model: &'a Model,
    /// Digest of the image; `None` where its bytes could not be read.
    pub image: Option<Digest>,
    /// The client's own data.
    pub metadata: &'a Map<String, Value>,
    /// When it was accepted.
    pub created_at: UnixMillis,
    /// Why.
    pub error: &'a ApiError,
}

/// How long each part took, in milliseconds; `batch_wait_ms`, the wait inside the worker, is a part of `queue_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Timings {
    queue_ms: f64,
    batch_wait_ms: f64,
    decode_ms: f64,
    inference_ms: f64,
    total_ms: f64,
    batch_size: u16,
}

#[derive(Debug, Serialize, ToSchema)]
struct Urls {
    #[serde(rename = "self")]
    this: String,
    events: String,
    cancel: String,
}

impl Urls {
    fn of(id: JobId) -> Self {
        let this = format!("/jobs/{id}");
        Self {
            events: format!("{this}/events"),
            cancel: format!("{this}/cancel"),
            this,
        }
    }
}

impl Timings {
    /// What a job cost: all that was neither decoding nor inference was waiting.
    #[must_use]
    pub fn of(cost: &Cost, total: Duration) -> Self {
        let decode = Duration::from_micros(cost.decode_us.into());
        let inference = Duration::from_micros(cost.inference_us.into());
        let queue = total.saturating_sub(decode + inference);
        Self {
            queue_ms: millis(queue),
            batch_wait_ms: millis(Duration::from_micros(cost.waited_us.into()).min(queue)),
            decode_ms: millis(decode),
            inference_ms: millis(inference),
            total_ms: millis(total),
            batch_size: cost.batch_size,
        }
    }

    /// The same as a `Server-Timing` header.
    #[must_use]
    pub fn server_timing(&self) -> String {
        let Self {
            queue_ms,
            decode_ms,
            inference_ms,
            total_ms,
            ..
        } = self;
        format!(
            "queue;dur={queue_ms}, decode;dur={decode_ms}, infer;dur={inference_ms}, total;dur={total_ms}"
        )
    }
}

/// `Server-Timing` of an answer that is no image's: the time until its head.
pub(crate) fn total_timing(total: Duration) -> String {
    format!("total;dur={}", millis(total))
}

/// Milliseconds, to the microsecond.
fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// What a webhook says of an ended job, as JSON.
#[derive(Serialize)]
struct Event<'a> {
    r#type: String,
    timestamp: Time,
    data: JobView<'a>,
}

/// The body of the webhook of an ended job; `durable` as in the job object.
pub(crate) fn webhook_body(record: &Record, now: UnixMillis, durable: bool) -> Option<Vec<u8>> {
    let event = Event {
        r#type: format!("job.{}", record.state.as_str()),
        timestamp: Time(record.finished_at.unwrap_or(now)),
        data: JobView::recorded(record, None, durable),
    };
    serde_json::to_vec(&event).ok()
}

impl<'a> JobView<'a> {
    /// A job that ended within its client's wait: it has no address unless it has a record.
    #[must_use]
    pub fn finished(ask: &'a PredictRequest, finished: &'a Finished) -> Self {
        let finished_at = ask.created_at.after(finished.total);
        let run = u64::from(finished.cost.decode_us) + u64::from(finished.cost.inference_us);
        let ran = finished.attempts > 0;
        let started_at = UnixMillis(finished_at.0.saturating_sub(run / 1000));
        Self {
            id: ask.id,
            status: finished.state(),
            model: ModelView::of(&ask.model),
            image_hash: Some(ask.image_hash),
            cached: finished.source.is_cache(),
            output: finished.output(ask).map(Cow::Owned),
            error: None,
            queue: None,
            timings: Some(Timings::of(&finished.cost, finished.total)),
            attempts: finished.attempts,
            retry_of: None,
            created_at: Time(ask.created_at),
            started_at: ran.then_some(Time(started_at.max(ask.created_at))),
            finished_at: Some(Time(finished_at)),
            expires_at: None,
            metadata: &ask.metadata,
            webhook: None,
            urls: finished.recorded.then(|| Urls::of(ask.id)),
            durable: None,
        }
    }

    /// The vector that is its result.
    pub(crate) fn vector(&self) -> Option<&[f32]> {
        match self.output.as_deref()? {
            Output::Embed { embedding } => Some(embedding),
            Output::Classify { .. } | Output::Multilabel { .. } | Output::Detect { .. } => None,
        }
    }

    /// A job that failed within its client's wait, or an image of a batch that was refused and has no job.
    #[must_use]
    pub fn failed(failed: &Failed<'a>, finished_at: UnixMillis) -> Self {
        Self {
            id: failed.id,
            status: JobState::Failed,
            model: ModelView::of(failed.model),
            image_hash: failed.image,
            cached: false,
            output: None,
            error: Some(failed.error.problem()),
            queue: None,
            timings: None,
            attempts: 0,
            retry_of: None,
            created_at: Time(failed.created_at),
            started_at: None,
            finished_at: Some(Time(finished_at)),
            expires_at: None,
            metadata: failed.metadata,
            webhook: None,
            urls: None,
            durable: None,
        }
    }

    /// A job with a record. `queue` is of a queued job, `durable` where jobs end with the process.
    #[must_use]
    pub fn recorded(record: &'a Record, queue: Option<QueueView>, durable: bool) -> Self {
        let seed = &record.seed;
        let total = record.finished_at.map(|end| end.since(seed.created_at));
        let time = |moment: Option<UnixMillis>| moment.map(Time);
        Self {
            id: seed.id,
            status: record.state,
            model: ModelView {
                name: seed.model.as_str(),
                version: &seed.submission.version,
                digest: seed.key.model,
            },
            image_hash: Some(seed.image_hash()),
            cached: record.cached,
            output: record.output.as_ref().map(Cow::Borrowed),
            error: record.failure.as_ref().map(Problem::from),
            queue,
            timings: total.map(|total| Timings::of(&record.cost, total)),
            attempts: record.attempts,
            retry_of: seed.submission.retry_of,
            created_at: Time(seed.created_at),
            started_at: time(record.started_at),
            finished_at: time(record.finished_at),
            expires_at: Some(Time(record.expires_at)),
            metadata: &seed.submission.metadata,
            webhook: WebhookView::of(record),
            urls: Some(Urls::of(seed.id)),
            durable: (!durable).then_some(false),
        }
    }
}

#[cfg(test)]
mod tests;
