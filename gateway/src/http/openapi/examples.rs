//! Examples, made by the code that makes the answers.

use selvage_core::clock::UnixMillis;
use selvage_core::job_state::JobState;
use selvage_core::key::{Digest, PredictionKey};
use selvage_core::outcome::Cost;
use selvage_core::output::{Output, Ranked};
use selvage_core::store::{Record, Seed};
use serde_json::{Map, Value};

use crate::http::error::{ApiError, Code};
use crate::http::view::JobView;
use crate::service::queues::QueueView;

/// A job in that state; `None` if it could not be shown.
#[must_use]
pub fn job(state: JobState) -> Option<Value> {
    let record = record(state)?;
    let queue = (state == JobState::Queued).then_some(QueueView {
        position: 12,
        eta_ms: 240,
    });
    serde_json::to_value(JobView::recorded(&record, queue, true)).ok()
}

fn record(state: JobState) -> Option<Record> {
    let created_at = UnixMillis(1_790_000_000_000);
    let seed = Seed {
        id: "01929f3e-7c1a-7b52-9a64-2f0d8f6a5b11".parse().ok()?,
        model: "fashion-mnist".parse().ok()?,
        version: "1".to_owned(),
        key: PredictionKey {
            model: Digest::of(b"a model"),
            preprocessing: 0,
            image: Digest::of(b"an image"),
        },
        created_at,
        deadline: UnixMillis(created_at.0 + 900_000),
        top_k: 1,
        metadata: Map::new(),
        idempotency: None,
        owner: None,
        webhook: None,
        retry_of: None,
        image_hash: None,
    };
    let boot = Ranked {
        label: "Ankle boot".to_owned(),
        index: 9,
        score: 0.9375,
    };
    let output = Output {
        label: boot.label.clone(),
        index: boot.index,
        score: boot.score,
        top: vec![boot],
    };
    let moment = |after: u64| UnixMillis(created_at.0 + after);
    let ended = state.is_terminal();
    Some(Record {
        seed,
        number: Some(5012),
        state,
        attempts: u32::from(state != JobState::Queued),
        started_at: (state != JobState::Queued).then(|| moment(2)),
        finished_at: ended.then(|| moment(4)),
        expires_at: moment(86_400_000),
        output: (state == JobState::Succeeded).then_some(output),
        failure: None,
        cost: Cost {
            waited_us: 0,
            decode_us: 200,
            inference_us: 600,
            batch_size: 4,
        },
        cached: false,
        delivery: None,
    })
}

/// The problem of that code.
#[must_use]
pub(super) fn problem(code: Code) -> Value {
    let mut error = ApiError::new(code, code.title());
    if code == Code::RequestInProgress || matches!(code.status().as_u16(), 429 | 503) {
        error = error.retry_after(std::time::Duration::from_millis(1300));
    }
    serde_json::to_value(error.problem()).unwrap_or_default()
}
