//! The fleet in numbers: once, and as a stream.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt as _;
use selvage_core::job::Priority;
use selvage_core::key::Digest;
use selvage_core::registry::{
    ANNOUNCE_EVERY, Fleet as _, GONE_AFTER, Member, ModelStatus, WorkerStatus,
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::rig::{Answer, Plan, Rig, boots, png};

async fn stats(rig: &Rig) -> Value {
    let answer = rig.get("/stats").await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json
}

/// The next event of a stream, as its name and its data; `None` at its end.
async fn event(body: &mut axum::body::BodyDataStream) -> Option<(String, Value)> {
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        let frame = body.next().await?;
        text.push_str(std::str::from_utf8(&frame.unwrap()).unwrap());
    }
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let data = serde_json::from_str(&field("data:")).unwrap();
    Some((field("event:"), data))
}

async fn open(rig: &Rig) -> axum::body::BodyDataStream {
    let request = Request::get("/stats/events").body(Body::empty()).unwrap();
    let response = rig.open(request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    response.into_body().into_data_stream()
}

#[tokio::test]
async fn what_was_answered_is_counted_at_once() {
    let rig = Rig::new(Plan::default());
    let before = stats(&rig).await;
    assert_eq!(before["latency_ms"]["p50"], Value::Null);
    assert_eq!(before["cache"]["hit_ratio"], Value::Null);
    rig.work(boots);
    // The window begins with the first reading.
    let mut body = open(&rig).await;
    event(&mut body).await.unwrap();
    for image in [1, 2, 2, 2] {
        rig.post("/predict", png(image)).await.expect(200);
    }
    rig.post("/jobs", png(3)).await;
    let after = stats(&rig).await;
    assert_eq!(after["mode"], "fleet");
    assert_eq!(after["cache"]["hits"], 2);
    assert_eq!(after["cache"]["hit_ratio"], 0.4);
    assert_eq!(after["jobs"]["submitted"], 1);
    assert_eq!(after["jobs"]["in_flight"], 0);
    assert_eq!(after["latency_ms"]["count"], 4);
    let quantile = |name: &str| after["latency_ms"][name].as_f64().unwrap();
    assert!(quantile("p50") > 0.0 && quantile("p50") <= quantile("p99"));
    assert!(after["rates"]["answered_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(after["gateways"].as_array().unwrap().len(), 1);
    assert_eq!(after["gateways"][0]["answering"], true);
    assert_eq!(after["dependencies"]["store"], "ok");
}

#[tokio::test]
async fn a_backlog_has_a_depth_and_an_age_and_both_end_with_it() {
    let rig = Rig::new(Plan::default());
    let mut body = open(&rig).await;
    let (_, idle) = event(&mut body).await.unwrap();
    let batch = |stats: &Value| {
        let queues = stats["queues"].as_array().unwrap().clone();
        let priority = queues
            .into_iter()
            .find(|priority| priority["priority"] == "batch");
        priority.unwrap()
    };
    assert_eq!(batch(&idle)["depth"], 0);
    assert_eq!(batch(&idle)["oldest_ms"], Value::Null);
    rig.post("/jobs", png(1)).await.expect(202);
    rig.wait_for_depth(Priority::Batch, 1).await;
    let waiting = loop {
        let (_, stats) = event(&mut body).await.unwrap();
        if batch(&stats)["depth"] == 1 {
            break stats;
        }
    };
    assert_eq!(batch(&waiting)["model"], "tiny");
    let age = batch(&waiting)["oldest_ms"].as_u64().unwrap();
    let later = loop {
        let (_, stats) = event(&mut body).await.unwrap();
        let later = batch(&stats)["oldest_ms"].as_u64().unwrap();
        if later > age {
            break later;
        }
    };
    assert!(later < 60_000, "{later}");
    rig.work(boots);
    loop {
        let (name, stats) = event(&mut body).await.unwrap();
        assert_eq!(name, "stats");
        if batch(&stats)["depth"] == 0 {
            assert_eq!(batch(&stats)["oldest_ms"], Value::Null);
            break;
        }
    }
}

/// A model in a worker that has succeeded with seven jobs.
fn held() -> ModelStatus {
    serde_json::from_value(serde_json::json!({
        "name": "m", "version": "1", "digest": Digest::of(b"m"), "sessions": 1, "busy": 0,
        "jobs": 7, "batches": 7, "ended": {"succeeded": 7},
    }))
    .unwrap()
}

/// A worker that announces itself until it is killed.
fn announced(rig: &Rig) -> JoinHandle<()> {
    let fleet = Arc::clone(&rig.fleet);
    rig.app.life.tasks.spawn(async move {
        let worker = Member::Worker(WorkerStatus {
            id: "w".to_owned(),
            started_at: selvage_core::clock::UnixMillis::wall(),
            models: vec![held()],
        });
        loop {
            fleet.announce(&worker).await.unwrap();
            sleep(ANNOUNCE_EVERY).await;
        }
    })
}

/// In simulated time, with the worker's announcements at different moments between two readings.
#[tokio::test(start_paused = true)]
async fn a_worker_is_seen_to_come_and_to_vanish_within_two_seconds_and_a_stall_is_not() {
    let rig = Rig::new(Plan::default());
    let mut body = open(&rig).await;
    let mut until_listed = async |count: usize| loop {
        let (_, stats) = event(&mut body).await.unwrap();
        if stats["workers"]
            .as_array()
            .is_some_and(|w| w.len() == count)
        {
            return;
        }
    };
    let submission = Duration::from_secs(2);
    for offset in [0, 137, 250, 499, 731, 999] {
        sleep(Duration::from_millis(offset)).await;
        let came = Instant::now();
        let mut worker = announced(&rig);
        until_listed(1).await;
        let appeared = came.elapsed();
        assert!(appeared <= submission, "{offset}: {appeared:?}");

        worker.abort();
        let stall = sleep(Duration::from_millis(1200));
        tokio::select! {
            () = until_listed(0) => panic!("{offset}: a stall was taken for an end"),
            () = stall => worker = announced(&rig),
        }
        tokio::select! {
            () = until_listed(0) => panic!("{offset}: it was gone after it was back"),
            () = sleep(Duration::from_millis(3000 + offset)) => {}
        }

        let killed = Instant::now();
        worker.abort();
        until_listed(0).await;
        let vanished = killed.elapsed();
        assert!(vanished <= submission, "{offset}: {vanished:?}");
        println!("{offset} ms after a reading: appeared in {appeared:?}, vanished in {vanished:?}");
    }
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_a_drain() {
    let rig = Rig::new(Plan::default());
    let mut bodies = Vec::new();
    let refused: Answer = loop {
        match rig.app.stats.follow() {
            Some(body) => bodies.push(body),
            None => break rig.get("/stats/events").await,
        }
    };
    let refused = refused.expect_problem(503, "too_many_streams");
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(bodies.len(), 256);
    bodies.clear();
    let mut body = open(&rig).await;
    event(&mut body).await.unwrap();
    rig.app.life.draining.cancel();
    while event(&mut body).await.is_some() {}
}

#[tokio::test]
async fn what_is_down_is_said() {
    let plan = Plan {
        broker_down: true,
        store_down: true,
        ..Plan::default()
    };
    let rig = Rig::new(plan);
    let mut body = open(&rig).await;
    let (_, stats) = event(&mut body).await.unwrap();
    let expected = serde_json::json!({"broker": "down", "store": "down", "cache": "ok"});
    assert_eq!(stats["dependencies"], expected);
    assert_eq!(stats["gateways"][0]["status"], "unready");
    let metrics = rig.get("/metrics").await.expect(200);
    let metrics = String::from_utf8(metrics.body).unwrap();
    for line in [
        "selvage_gateway_dependency_up{dependency=\"store\"} 0",
        "selvage_gateway_dependency_up{dependency=\"cache\"} 1",
        "selvage_gateway_model_workers{file=\"current\",model=\"tiny\"} 0",
        "selvage_gateway_queue_oldest_seconds{model=\"tiny\",priority=\"batch\"} 0",
        "selvage_gateway_ready 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let unknown = rig.get("/stats?model=tiny").await;
    unknown.expect_problem(422, "invalid_option");
}

/// In simulated time: a worker that dies is a condition and an event, and its counts stay in the sums.
#[tokio::test(start_paused = true)]
async fn a_lost_worker_is_said_and_its_counts_stay() {
    let rig = Rig::new(Plan::default());
    let worker = announced(&rig);
    let mut body = open(&rig).await;
    let mut until = async |wanted: fn(&Value) -> bool| loop {
        let (_, stats) = event(&mut body).await.unwrap();
        if wanted(&stats) {
            return stats;
        }
    };
    until(|stats| stats["jobs"]["succeeded"] == 7).await;
    worker.abort();
    let conditions = |stats: &Value| {
        let all = stats["conditions"].as_array().unwrap().iter();
        all.map(|one| format!("{} {}", one["kind"], one["subject"]))
            .collect::<Vec<_>>()
    };
    let lost = until(|stats| stats["conditions"].to_string().contains("worker_lost")).await;
    assert_eq!(
        conditions(&lost),
        [r#""no_worker" "fleet""#, r#""worker_lost" "w""#]
    );
    assert_eq!(lost["events"][0]["warning"], true);
    sleep(2 * GONE_AFTER).await;
    let stats = stats(&rig).await;
    assert_eq!(stats["jobs"]["succeeded"], 7);
    assert_eq!(stats["workers"], serde_json::json!([]));
}

/// In simulated time: an hour of samples, ten seconds apart.
#[tokio::test(start_paused = true)]
async fn the_last_hour_is_kept() {
    let rig = Rig::new(Plan::default());
    sleep(Duration::from_secs(2 * 3600)).await;
    let answer = rig.get("/stats/history").await.expect(200);
    assert_eq!(answer.json["every_s"], 10);
    let samples = answer.json["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 360);
    assert!(samples[0]["at"].as_str() < samples[1]["at"].as_str());
}
