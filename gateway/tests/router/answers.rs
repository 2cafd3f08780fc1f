//! Answers within the wait: computed, cached, shared, failed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use selvage_core::cache::{Cache, CacheError, Cached, MemoryCache};
use selvage_core::clock::UnixMillis;
use selvage_core::job::Priority;
use selvage_core::key::PredictionKey;
use selvage_core::outcome::{Cost, FailureCode, Outcome, Scores};
use selvage_core::queue::Queue as _;
use serde_json::json;

use crate::rig::{Plan, Rig, Script, boots, eventually, failed, png, report, scores};

#[tokio::test]
async fn a_new_image_is_computed_and_a_repeat_is_a_hit() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let first = rig.post("/predict", png(1)).await.expect(200);
    assert_eq!(first.json["output"]["label"], "boot");
    assert_eq!(first.json["output"]["top"].as_array().unwrap().len(), 3);
    assert_eq!(first.json["status"], "succeeded");
    assert_eq!(first.json["attempts"], 1);
    assert_eq!(first.json["timings"]["batch_size"], 4);
    assert_eq!(
        first.header("cache-status"),
        "selvage; fwd=uri-miss; stored"
    );
    assert!(
        first
            .header("server-timing")
            .contains("decode;dur=0.2, infer;dur=0.6, total;dur=")
    );
    assert!(first.json.get("urls").is_none() && first.json.get("durable").is_none());
    assert!(first.json["expires_at"].is_null() && first.json["started_at"].is_string());
    let again = rig.post("/predict?top_k=1", png(1)).await.expect(200);
    assert_eq!(again.header("cache-status"), "selvage; hit; ttl=3600");
    assert!(again.header("age").parse::<u64>().unwrap() <= 60);
    assert_eq!(first.header("age"), "");
    assert_eq!(
        (&again.json["cached"], &again.json["attempts"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(again.json["output"]["top"].as_array().unwrap().len(), 1);
    assert_ne!(again.id(), first.id());
    assert_eq!(rig.computed.load(Ordering::Relaxed), 1);
    let skips = [("cache-control", "no-cache")];
    rig.post_with("/predict", png(1), &skips).await.expect(200);
    assert_eq!(rig.metric("selvage_gateway_cache_hits_total"), 1.0);
    assert_eq!(
        rig.metric("selvage_gateway_cache_misses_total"),
        1.0,
        "a request that skips the cache does not miss it"
    );
}

/// A cache into which somebody else's answer comes just after the first look.
#[derive(Debug)]
struct Meanwhile(MemoryCache);

#[async_trait]
impl Cache for Meanwhile {
    async fn get(&self, keys: &[PredictionKey]) -> Result<Vec<Option<Cached>>, CacheError> {
        let found = self.0.get(keys).await;
        for key in keys {
            self.0.keep(*key, scores());
        }
        found
    }

    fn at_hand(&self, key: &PredictionKey) -> Option<Cached> {
        self.0.at_hand(key)
    }

    async fn put(&self, entries: &[(PredictionKey, Scores)]) -> Result<(), CacheError> {
        self.0.put(entries).await
    }

    async fn ping(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn an_answer_that_came_since_the_look_into_the_cache_is_not_computed_again() {
    let rig = Rig::new(Plan {
        before_cache: Some(|cache| Arc::new(Meanwhile(cache))),
        ..Plan::default()
    });
    rig.work(boots);
    let answer = rig.post("/predict", png(1)).await.expect(200);
    assert!(answer.header("cache-status").starts_with("selvage; hit"));
    assert_eq!(rig.computed.load(Ordering::Relaxed), 0);
    assert_eq!(rig.metric("selvage_gateway_in_flight"), 0.0);
}

#[tokio::test]
async fn identical_images_in_flight_are_one_job() {
    let rig = Rig::new(Plan::default());
    let posts: Vec<_> = (1..=5)
        .map(|k| rig.post_later(&format!("/predict?top_k={k}"), png(1)))
        .collect();
    rig.wait_for_depth(Priority::Interactive, 1).await;
    eventually(async || rig.metric("selvage_gateway_cache_misses_total") == 5.0).await;
    rig.work(boots);
    let mut collapsed = 0;
    let mut ids = Vec::new();
    for (k, post) in posts.into_iter().enumerate() {
        let answer = post.await.unwrap().expect(200);
        assert_eq!(
            answer.json["output"]["top"].as_array().unwrap().len(),
            (k + 1).min(3)
        );
        collapsed +=
            usize::from(answer.header("cache-status") == "selvage; fwd=uri-miss; collapsed");
        ids.push(answer.id().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(
        (rig.computed.load(Ordering::Relaxed), collapsed, ids.len()),
        (1, 4, 5)
    );
}

#[tokio::test]
async fn cache_control_is_obeyed() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let ask = async |directive: &str| {
        rig.post_with("/predict", png(1), &[("cache-control", directive)])
            .await
    };
    let unstored = ask("no-store").await.expect(200);
    assert_eq!(unstored.header("cache-status"), "selvage; fwd=request");
    let plain = rig.post("/predict", png(1)).await.expect(200);
    assert_eq!(plain.json["cached"], false, "no-store wrote nothing");
    let no_cache = ask("no-cache").await.expect(200);
    assert_eq!(
        no_cache.header("cache-status"),
        "selvage; fwd=request; stored"
    );
    assert_eq!(no_cache.json["cached"], false);
    assert_eq!(rig.computed.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_answer_tells_its_age() {
    let rig = Rig::new(Plan::default());
    let old = UnixMillis(UnixMillis::wall().0 - 100_500);
    let key = rig.key_of(&png(1));
    rig.cache.keep_made(key, scores(), old);
    for path in ["/predict", "/jobs"] {
        let hit = rig.post(path, png(1)).await.expect(200);
        let age: u64 = hit.header("age").parse().unwrap();
        assert!((100..160).contains(&age), "{age}");
    }
}

#[tokio::test]
async fn every_answer_tells_its_cache_and_its_time() {
    let rig = Rig::new(Plan::default());
    let submitted = rig.post("/jobs", png(1)).await.expect(202);
    assert_eq!(submitted.header("cache-status"), "selvage; fwd=uri-miss");
    let key = [("idempotency-key", "k"), ("cache-control", "no-cache")];
    let keyed = rig.post_with("/jobs", png(2), &key).await.expect(202);
    assert_eq!(keyed.header("cache-status"), "selvage; fwd=request");
    let joined = rig.post_with("/jobs", png(2), &key).await.expect(202);
    let collapsed = "selvage; fwd=request; collapsed";
    assert_eq!(joined.header("cache-status"), collapsed);
    rig.work(boots);
    let ended = rig.post_with("/predict?wait=20", png(2), &key).await;
    assert_eq!(ended.expect(200).header("cache-status"), collapsed);
    let new = [("idempotency-key", "new")];
    let ended = rig.post_with("/predict?wait=20", png(3), &new).await;
    let stored = "selvage; fwd=uri-miss; stored";
    assert_eq!(ended.expect(200).header("cache-status"), stored);
    let job = format!("/jobs/{}", submitted.id());
    for path in [
        "/", "/livez", "/models", "/jobs", "/jobs/1", "/nowhere", &job,
    ] {
        let timing = rig.get(path).await.header("server-timing").to_owned();
        let total = timing.strip_prefix("total;dur=").unwrap_or("none");
        assert!(total.parse::<f64>().is_ok(), "{path}: {timing}");
    }
    let refused = rig.post("/predict?top_k=0", png(1)).await.expect(422);
    assert!(refused.header("server-timing").starts_with("total;dur="));
    assert_eq!(refused.header("cache-status"), "");
}

#[tokio::test]
async fn no_cache_requests_do_not_share() {
    let rig = Rig::new(Plan::default());
    let plain = rig.post_later("/predict", png(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    let headers = [("cache-control", "no-cache")];
    let no_cache = rig.post_with("/predict", png(1), &headers);
    let work = async {
        rig.wait_for_depth(Priority::Interactive, 2).await;
        rig.work(boots);
    };
    let (no_cache, ()) = tokio::join!(no_cache, work);
    no_cache.expect(200);
    plain.await.unwrap().expect(200);
    assert_eq!(rig.computed.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn failures_have_their_status_and_no_inner_text() {
    let cases: [(Script, u16, &str); 4] = [
        (|_| failed(FailureCode::InvalidImage), 422, "invalid_image"),
        (
            |_| failed(FailureCode::ImageTooLarge),
            422,
            "image_too_large",
        ),
        (
            |_| failed(FailureCode::InferenceFailed),
            500,
            "inference_failed",
        ),
        (|_| failed(FailureCode::Poison), 500, "inference_failed"),
    ];
    for (script, status, code) in cases {
        let rig = Rig::new(Plan::default());
        rig.work(script);
        let answer = rig.post("/predict", png(1)).await;
        let answer = answer.expect_problem(status, code);
        let reported = answer.json["detail"].as_str().unwrap().contains("on fire");
        assert_eq!(reported, status == 422, "{}", answer.json);
    }
    let rig = Rig::new(Plan::default());
    rig.work(|_| Outcome::Canceled);
    rig.post("/predict", png(1))
        .await
        .expect_problem(409, "job_canceled");
}

#[tokio::test]
async fn options_reach_the_answer_in_every_body_shape() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, png(1));
    let body = json!({
        "image": base64, "model": "tiny", "version": "2", "top_k": 2, "metadata": {"a": [1]},
        "timeout_ms": 5000,
    });
    let headers = [("content-type", "application/json")];
    let answer = rig
        .post_with("/predict", body.to_string().into_bytes(), &headers)
        .await
        .expect(200);
    assert_eq!(answer.json["metadata"], json!({"a": [1]}));
    assert_eq!(answer.json["output"]["top"].as_array().unwrap().len(), 2);
    let raw = rig
        .post("/predict?metadata=%7B%22b%22%3A2%7D&wait=3", png(1))
        .await;
    assert_eq!(raw.expect(200).json["metadata"], json!({"b": 2}));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_the_others_along() {
    let rig = Rig::new(Plan::default());
    let leader = rig.post_later("/predict", png(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    let follower = rig.post_later("/predict", png(1));
    eventually(async || rig.metric("selvage_gateway_cache_misses_total") == 2.0).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    assert_eq!(
        rig.app.predictions.admission.in_flight(),
        1,
        "the job is still on its way"
    );
    rig.work(boots);
    let answer = follower.await.unwrap().expect(200);
    assert_eq!(
        answer.header("cache-status"),
        "selvage; fwd=uri-miss; collapsed"
    );
    assert_eq!(rig.app.predictions.admission.in_flight(), 0);
}

#[tokio::test]
async fn whoever_waits_longer_than_the_job_they_share_computes_again() {
    let rig = Rig::new(Plan::default());
    let short = rig.post_later("/predict?wait=0.3", png(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    let long = rig.post_later("/predict?wait=30", png(1));
    let delivery = rig.take(Priority::Interactive).await;
    assert_eq!(short.await.unwrap().expect(202).json["status"], "queued");
    rig.wait_for_depth(Priority::Interactive, 1).await;
    rig.work(boots);
    let answer = long.await.unwrap().expect(200);
    assert_eq!(
        answer.header("cache-status"),
        "selvage; fwd=uri-miss; stored"
    );
    // The first job comes back late: nobody waits for it, and nothing happens.
    let late = report(
        delivery.jobs[0].id,
        Outcome::Succeeded(scores()),
        Cost::default(),
    );
    let to = delivery.jobs[0].reply_to.clone().unwrap();
    rig.queue.reply(&to, vec![late]).await.unwrap();
    eventually(async || rig.metric("selvage_gateway_late_reports_total") == 1.0).await;
}

#[tokio::test]
async fn a_job_carries_what_its_worker_needs() {
    let rig = Rig::new(Plan::default());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("request-id", "r-7"), ("traceparent", trace)];
    let post = rig.post_with("/predict?wait=5", png(1), &headers);
    let look = async {
        let delivery = rig.take(Priority::Interactive).await;
        let job = &delivery.jobs[0];
        assert_eq!(job.request_id.as_deref(), Some("r-7"));
        assert_eq!(job.traceparent.as_deref(), Some(trace));
        assert_eq!(job.image, png(1));
        assert!(job.submission.is_none());
        let life = job.deadline.since(job.created_at);
        assert!(
            life <= Duration::from_secs(5) && life > Duration::from_secs(4),
            "{life:?}"
        );
        let answer = report(job.id, Outcome::Succeeded(scores()), Cost::default());
        let to = job.reply_to.clone().unwrap();
        rig.queue.reply(&to, vec![answer]).await.unwrap();
        delivery.settle.ack();
    };
    let (answer, ()) = tokio::join!(post, look);
    assert_eq!(answer.expect(200).header("request-id"), "r-7");
}

#[tokio::test]
async fn a_life_shorter_than_the_wait_ends_as_expired() {
    let rig = Rig::new(Plan::default());
    let answer = rig
        .post("/predict?timeout_ms=50&wait=30", png(1))
        .await
        .expect(200);
    assert_eq!(answer.json["status"], "expired");
    assert!(answer.json["output"].is_null() && answer.json.get("urls").is_none());
}
