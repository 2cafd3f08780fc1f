//! Jobs as clients see them.

use selvage_core::job::Submission;
use selvage_core::key::PredictionKey;
use selvage_core::outcome::{Failure, FailureCode};
use selvage_core::output::Ranked;
use selvage_core::store::Seed;
use serde_json::json;

use super::*;

const QUEUE: QueueView = QueueView {
    position: 12,
    eta_ms: 240,
};

fn record(state: JobState) -> Record {
    let digest = |bytes: &[u8]| Digest::of(bytes);
    let seed = Seed {
        id: "01929f3e-7c1a-7b52-9a64-2f0d8f6a5b11".parse().unwrap(),
        model: "fashion-mnist".parse().unwrap(),
        key: PredictionKey {
            model: digest(b"a model"),
            preprocessing: 0,
            image: digest(b"an image"),
        },
        created_at: UnixMillis(1_700_000_000_000),
        deadline: UnixMillis(1_700_000_900_000),
        submission: Submission {
            version: "1".to_owned(),
            top_k: 3,
            ..Submission::default()
        },
    };
    let started = state != JobState::Queued;
    let started_at = started.then_some(UnixMillis(1_700_000_000_009));
    let ended = state.is_terminal().then_some(UnixMillis(1_700_000_000_010));
    let boot = Ranked {
        label: "Ankle boot".to_owned(),
        index: 9,
        score: 0.9375,
    };
    let output = Output::Classify {
        label: boot.label.clone(),
        index: boot.index,
        score: boot.score,
        top: vec![boot],
    };
    Record {
        seed,
        number: Some(12),
        state,
        attempts: u32::from(started),
        started_at,
        finished_at: ended,
        expires_at: UnixMillis(1_700_086_400_000),
        output: (state == JobState::Succeeded).then_some(output),
        failure: None,
        cost: Cost {
            waited_us: 500,
            decode_us: 200,
            inference_us: 600,
            batch_size: 4,
        },
        cached: false,
        delivery: None,
    }
}

#[test]
fn fields_come_in_the_order_of_the_api() {
    let record = record(JobState::Queued);
    let text = serde_json::to_string(&JobView::recorded(&record, Some(QUEUE), true)).unwrap();
    let value: Map<String, Value> = serde_json::from_str(&text).unwrap();
    let names = [
        "id",
        "status",
        "model",
        "image_hash",
        "cached",
        "output",
        "error",
        "queue",
        "timings",
        "attempts",
        "created_at",
        "started_at",
        "finished_at",
        "expires_at",
        "metadata",
        "urls",
    ];
    let places: Vec<usize> = names
        .iter()
        .map(|name| text.find(&format!("\"{name}\":")).unwrap())
        .collect();
    assert!(places.is_sorted() && value.len() == names.len(), "{text}");
    assert_eq!(value["queue"], json!({"position": 12, "eta_ms": 240}));
    assert_eq!(value["created_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!(
        value["urls"]["cancel"],
        "/jobs/01929f3e-7c1a-7b52-9a64-2f0d8f6a5b11/cancel"
    );
    assert!(value["timings"].is_null() && value["finished_at"].is_null());
}

#[test]
fn the_examples_of_the_document_are_what_is_answered() {
    for state in [
        JobState::Queued,
        JobState::Running,
        JobState::Succeeded,
        JobState::Canceled,
    ] {
        let record = record(state);
        let queue = (state == JobState::Queued).then_some(QUEUE);
        let view = serde_json::to_value(JobView::recorded(&record, queue, true)).unwrap();
        assert_eq!(crate::http::openapi::job(state.as_str()), view, "{view:#}");
    }
}

#[test]
fn a_failed_job_carries_its_problem() {
    let mut record = record(JobState::Failed);
    record.failure = Some(Failure::new(FailureCode::InvalidImage, "cut"));
    let value = serde_json::to_value(JobView::recorded(&record, None, false)).unwrap();
    let problem = json!({
        "type": "/problems/invalid_image", "title": "The image is broken", "status": 422,
        "code": "invalid_image", "detail": "cut",
    });
    assert_eq!(
        (&value["error"], &value["durable"]),
        (&problem, &json!(false))
    );
    assert!(value["queue"].is_null());
    let timings = json!({
        "queue_ms": 9.2, "batch_wait_ms": 0.5, "decode_ms": 0.2, "inference_ms": 0.6, "total_ms": 10.0, "batch_size": 4,
    });
    assert_eq!(value["timings"], timings);
}

#[test]
fn waiting_is_never_negative() {
    let cost = Cost {
        decode_us: 5000,
        ..Cost::default()
    };
    let timings = Timings::of(&cost, Duration::from_millis(1));
    assert_eq!((timings.queue_ms, timings.total_ms), (0.0, 1.0));
    assert_eq!(
        timings.server_timing(),
        "queue;dur=0, decode;dur=5, infer;dur=0, total;dur=1"
    );
}
