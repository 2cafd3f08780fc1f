//! Clients that leave before their answer.

use selvage_core::job::{Job, Priority};
use selvage_core::outcome::{Cost, Outcome};
use selvage_core::queue::{Delivery, Queue as _};
use selvage_core::store::WorkerStore as _;

use crate::rig::{Plan, Rig, boots, eventually, png, report, scores};

const ABANDONED: &str = "selvage_gateway_jobs_abandoned_total";

async fn is_abandoned(rig: &Rig, job: &Job) -> bool {
    rig.store.abandoned(&[job.id]).await.unwrap() == [true]
}

/// Answers the jobs of a delivery.
async fn reply(rig: &Rig, delivery: Delivery, outcome: Outcome) {
    for job in &delivery.jobs {
        let to = job.reply_to.as_ref().unwrap();
        let reports = vec![report(job.id, outcome.clone(), Cost::default())];
        rig.queue.reply(to, reports).await.unwrap();
    }
    delivery.settle.ack();
}

#[tokio::test]
async fn a_job_whose_client_has_left_is_abandoned() {
    let rig = Rig::new(Plan::default());
    let waiting = rig.post_later("/predict?wait=60", png(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    waiting.abort();
    let delivery = rig.take(Priority::Interactive).await;
    eventually(async || is_abandoned(&rig, &delivery.jobs[0]).await).await;
    assert_eq!(rig.metric(ABANDONED), 1.0);
    assert_eq!(rig.app.predictions.admission.in_flight(), 1);
    // Whoever asks again does not wait for a job that may be dropped.
    let again = rig.post_later("/predict?wait=60", png(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    reply(&rig, delivery, Outcome::Canceled).await;
    eventually(async || rig.app.predictions.admission.in_flight() == 1).await;
    rig.work(boots);
    again.await.unwrap().expect(200);
    assert_eq!(rig.metric(ABANDONED), 1.0);
}

#[tokio::test]
async fn a_job_that_another_one_waits_for_is_kept() {
    let rig = Rig::new(Plan::default());
    let first = rig.post_later("/predict?wait=60", png(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    let second = rig.post_later("/predict?wait=60", png(1));
    let third = rig.post_later("/predict?wait=60", png(1));
    eventually(async || rig.metric("selvage_gateway_cache_misses_total") == 3.0).await;
    let delivery = rig.take(Priority::Interactive).await;
    for left in [first, second] {
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
    }
    assert!(!is_abandoned(&rig, &delivery.jobs[0]).await);
    reply(&rig, delivery, Outcome::Succeeded(scores())).await;
    let answered = third.await.unwrap().expect(200);
    assert!(answered.header("cache-status").ends_with("; collapsed"));
    assert_eq!(rig.metric(ABANDONED), 0.0);
}

#[tokio::test]
async fn every_image_of_a_batch_is_abandoned() {
    let rig = Rig::new(Plan::default());
    let images: Vec<String> = (1..=5)
        .map(|seed| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, png(seed)))
        .collect();
    let body = serde_json::json!({"images": images}).to_string();
    let json = [("content-type", "application/json")];
    let waiting = rig.post_with_later("/predict/batch?wait=60", body.into_bytes(), &json);
    rig.wait_for_depth(Priority::Interactive, 5).await;
    waiting.abort();
    eventually(async || rig.metric(ABANDONED) == 5.0).await;
}

#[tokio::test]
async fn an_answered_or_submitted_request_abandons_nothing() {
    let rig = Rig::new(Plan::default());
    rig.post("/predict?wait=0.05", png(1)).await.expect(202);
    rig.post_with("/predict?wait=0.05", png(2), &[("idempotency-key", "k")])
        .await
        .expect(202);
    rig.work(boots);
    rig.post("/predict?wait=60", png(3)).await.expect(200);
    assert_eq!(rig.metric(ABANDONED), 0.0);
}

#[tokio::test]
async fn a_job_with_a_key_is_there_when_its_client_comes_back() {
    let rig = Rig::new(Plan::default());
    let key = [("idempotency-key", "k")];
    let waiting = rig.post_with_later("/predict?wait=60", png(1), &key);
    rig.wait_for_depth(Priority::Batch, 1).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    rig.work(boots);
    rig.post_with("/predict?wait=60", png(1), &key)
        .await
        .expect(200);
    assert_eq!(rig.metric(ABANDONED), 0.0);
    assert_eq!(rig.computed.load(std::sync::atomic::Ordering::Relaxed), 1);
}
