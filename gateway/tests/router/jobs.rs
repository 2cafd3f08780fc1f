//! Asynchronous jobs: how they are submitted, polled, canceled, swept.

use std::time::Duration;

use axum::http::Request;
use selvage_core::clock::UnixMillis;
use selvage_core::job::{JobId, Priority};
use selvage_core::job_state::JobState;
use selvage_core::outcome::{Cost, Failure, FailureCode};
use selvage_core::store::{Completion, End, JobStore as _, Seed, WorkerStore as _};
use selvage_gateway::background::sweeper;

use crate::rig::{Plan, Rig, boots, failed, old_id, png, scores};

#[tokio::test]
async fn a_wait_that_runs_out_becomes_a_job_that_can_be_polled() {
    let rig = Rig::new(Plan::default());
    let answer = rig
        .post("/predict?wait=0.05&top_k=1", png(1))
        .await
        .expect(202);
    let url = format!("/jobs/{}", answer.id());
    assert_eq!(answer.header("location"), url);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(answer.json["status"], "queued");
    assert!(answer.json["queue"]["position"].as_u64().unwrap() >= 1);
    assert_eq!(answer.json["urls"]["self"], url);
    assert!(answer.json.get("durable").is_none());
    let path = format!("{url}?wait=20");
    let polling = rig.get(&path);
    let (ended, ()) = tokio::join!(polling, async { rig.work(boots) });
    let ended = ended.expect(200);
    assert_eq!(ended.json["status"], "succeeded");
    assert_eq!(ended.json["output"]["top"].as_array().unwrap().len(), 1);
    assert!(ended.json["finished_at"].is_string() && ended.json["expires_at"].is_string());
    assert_eq!(ended.header("retry-after"), "");
    assert_eq!(answer.json["image_hash"], ended.json["image_hash"]);
}

#[tokio::test]
async fn preferences_choose_between_waiting_and_a_submission() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let cases = [
        ("/predict", 1, "respond-async", 202, "respond-async"),
        ("/predict", 2, "wait=5", 200, "wait=5"),
        ("/predict", 3, "wait=0", 202, "wait=0"),
        ("/predict", 4, "respond-async, wait=5", 200, "wait=5"),
        ("/predict", 5, "wait=9999", 200, "wait=60"),
        ("/predict?wait=0", 6, "wait=5", 200, "wait=5"),
        ("/predict?wait=0", 7, "wait=soon", 202, ""),
        ("/predict", 8, "handling=lenient", 200, ""),
        ("/jobs", 9, "wait=5", 202, ""),
        ("/jobs", 10, "respond-async", 202, "respond-async"),
        // What the cache has is answered at once, asynchronous or not.
        ("/predict", 2, "respond-async", 200, ""),
        ("/jobs", 2, "", 200, ""),
    ];
    for (path, seed, prefer, status, applied) in cases {
        let answer = rig.post_with(path, png(seed), &[("prefer", prefer)]).await;
        let answer = answer.expect(status);
        assert_eq!(
            answer.header("preference-applied"),
            applied,
            "{path} {prefer}"
        );
    }
}

#[tokio::test]
async fn promises_of_a_process_say_that_they_end_with_it() {
    let rig = Rig::new(Plan {
        durable: false,
        ..Plan::default()
    });
    let answer = rig.post("/jobs", png(1)).await.expect(202);
    assert_eq!(answer.json["durable"], false);
    let polled = rig.get(&format!("/jobs/{}", answer.id())).await.expect(200);
    assert_eq!(polled.json["durable"], false);
}

#[tokio::test]
async fn an_unfinished_poll_says_when_to_come_back() {
    let rig = Rig::new(Plan::default());
    let job = rig.post("/jobs", png(1)).await.expect(202);
    let polled = rig
        .get(&format!("/jobs/{}?wait=0.05", job.id()))
        .await
        .expect(200);
    assert_eq!(polled.json["status"], "queued");
    assert!(polled.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(polled.header("cache-control"), "no-store");
    let request = Request::get(format!("/jobs/{}", job.id())).header("prefer", "wait=0");
    let preferred = rig
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await;
    assert_eq!(preferred.expect(200).header("preference-applied"), "wait=0");
}

#[tokio::test]
async fn a_failed_job_carries_its_problem() {
    let rig = Rig::new(Plan::default());
    rig.work(|_| failed(FailureCode::InvalidImage));
    let job = rig.post("/jobs", png(1)).await.expect(202);
    let ended = rig
        .get(&format!("/jobs/{}?wait=20", job.id()))
        .await
        .expect(200);
    assert_eq!(ended.json["status"], "failed");
    assert_eq!(ended.json["error"]["code"], "invalid_image");
    assert_eq!(ended.json["error"]["status"], 422);
}

#[tokio::test]
async fn cancellation_depends_on_the_state() {
    let rig = Rig::new(Plan::default());
    let queued = rig.post("/jobs", png(1)).await.expect(202);
    let cancel = format!("/jobs/{}/cancel", queued.id());
    for _ in 0..2 {
        let canceled = rig.post(&cancel, vec![]).await.expect(200);
        assert_eq!(canceled.json["status"], "canceled");
    }
    let running = rig.post("/jobs", png(2)).await.expect(202);
    let mut running_job = None;
    while running_job.is_none() {
        let delivery = rig.take(Priority::Batch).await;
        running_job = delivery
            .jobs
            .iter()
            .find(|job| job.id.to_string() == running.id())
            .cloned();
        delivery.settle.ack();
    }
    let seed = Seed::of(&running_job.unwrap()).unwrap();
    rig.store.claim(&[seed]).await.unwrap();
    let asked = rig
        .post(&format!("/jobs/{}/cancel", running.id()), vec![])
        .await;
    assert_eq!(asked.expect(202).json["status"], "running");
    rig.work(boots);
    let ended = rig.post("/jobs", png(3)).await.expect(202);
    rig.get(&format!("/jobs/{}?wait=20", ended.id()))
        .await
        .expect(200);
    rig.post(&format!("/jobs/{}/cancel", ended.id()), vec![])
        .await
        .expect_problem(409, "job_finished");
}

#[tokio::test]
async fn only_a_cancellation_can_be_repeated_after_the_end() {
    let rig = Rig::new(Plan::default());
    let meaning = rig.catalog.models()[0].meaning();
    let ends = [
        End::Succeeded(meaning.output(&scores(), 1).unwrap()),
        End::Failed(Failure::new(FailureCode::InvalidImage, "cut")),
        End::Canceled,
        End::Expired,
    ];
    for (seed, end) in (1..).zip(ends) {
        let job = rig.post("/jobs", png(seed)).await.expect(202);
        let id: JobId = job.id().parse().unwrap();
        let state = end.state();
        let completion = Completion {
            id,
            end,
            cost: Cost::default(),
            cached: false,
        };
        assert_eq!(rig.store.complete(&[completion]).await.unwrap(), [true]);
        let again = rig.post(&format!("/jobs/{id}/cancel"), vec![]).await;
        if state == JobState::Canceled {
            assert_eq!(again.expect(200).json["status"], "canceled");
        } else {
            let refused = again.expect_problem(409, "job_finished");
            let detail = refused.json["detail"].as_str().unwrap();
            assert!(detail.ends_with(state.as_str()), "{detail}");
        }
        // Who polls is shown the end, whatever it is.
        let polled = rig.get(&format!("/jobs/{id}?wait=5")).await.expect(200);
        assert_eq!(polled.json["status"], state.as_str());
    }
}

#[tokio::test]
async fn an_id_in_upper_case_is_the_same_id() {
    let rig = Rig::new(Plan::default());
    let job = rig.post("/jobs", png(1)).await.expect(202);
    let upper = job.id().to_uppercase();
    let shown = rig.get(&format!("/jobs/{upper}")).await.expect(200);
    assert_eq!(shown.json["id"], job.json["id"]);
}

#[tokio::test]
async fn a_job_that_the_cache_answers_can_be_polled() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let computed = rig.post("/predict", png(1)).await.expect(200);
    let job = rig.post("/jobs", png(1)).await.expect(200);
    assert_eq!(job.json["cached"], true);
    let url = job.json["urls"]["self"].as_str().unwrap();
    let polled = rig.get(url).await.expect(200);
    assert_eq!(polled.json["id"], job.json["id"]);
    assert_eq!(polled.json["status"], "succeeded");
    assert_eq!(polled.json["output"], computed.json["output"]);
}

#[tokio::test]
async fn an_answer_is_given_also_where_it_cannot_be_recorded() {
    let rig = Rig::new(Plan {
        store_down: true,
        ..Plan::default()
    });
    rig.work(boots);
    rig.post("/predict", png(1)).await.expect(200);
    let job = rig.post("/jobs", png(1)).await.expect(200);
    assert!(job.json["urls"].is_null(), "{}", job.json);
}

#[tokio::test]
async fn unknown_malformed_and_forgotten_ids_are_distinguished() {
    let rig = Rig::new(Plan::default());
    let fresh = JobId::new().to_string();
    for id in [
        &fresh,
        "1",
        "%00",
        "%ff",
        "550e8400-e29b-41d4-a716-446655440000",
    ] {
        rig.get(&format!("/jobs/{id}"))
            .await
            .expect_problem(404, "job_not_found");
        rig.post(&format!("/jobs/{id}/cancel"), vec![])
            .await
            .expect_problem(404, "job_not_found");
    }
    let old = old_id(Duration::from_secs(86_400 + 60));
    rig.get(&format!("/jobs/{old}"))
        .await
        .expect_problem(410, "job_expired");
    rig.get(&format!("/jobs/{old}?wait=5"))
        .await
        .expect_problem(410, "job_expired");
    rig.get(&format!("/jobs/{old}/events"))
        .await
        .expect_problem(410, "job_expired");
    rig.post(&format!("/jobs/{old}/cancel"), vec![])
        .await
        .expect_problem(410, "job_expired");
    rig.get(&format!("/jobs/{fresh}/events"))
        .await
        .expect_problem(404, "job_not_found");
    let young = old_id(Duration::from_secs(86_400 - 60));
    rig.get(&format!("/jobs/{young}"))
        .await
        .expect_problem(404, "job_not_found");
    rig.work(boots);
    let answered = rig.post("/predict", png(1)).await.expect(200);
    rig.get(&format!("/jobs/{}", answered.id()))
        .await
        .expect_problem(404, "job_not_found");
}

#[tokio::test]
async fn polls_know_no_other_parameter() {
    let rig = Rig::new(Plan::default());
    let path = format!("/jobs/{}", JobId::new());
    for query in ["wait=-1", "wait=x", "colour=1", "wait=1&wait=2"] {
        rig.get(&format!("{path}?{query}"))
            .await
            .expect_problem(422, "invalid_option");
    }
    rig.post("/jobs?wait=1", png(1))
        .await
        .expect_problem(422, "invalid_option");
}

#[tokio::test]
async fn overdue_records_end_from_the_cache_or_as_expired() {
    let rig = Rig::new(Plan::default());
    let (known, unknown) = (
        rig.post("/jobs?timeout_ms=1", png(1)),
        rig.post("/jobs?timeout_ms=1", png(2)),
    );
    let (known, unknown) = (known.await.expect(202), unknown.await.expect(202));
    let id: JobId = known.id().parse().unwrap();
    let record = rig.store.get(&[id]).await.unwrap().remove(0).unwrap();
    rig.cache.keep(record.seed.key, scores());
    // The gateway's own sweeper may come first; either way both records end.
    crate::rig::eventually(async || {
        sweeper::turn(&rig.app.gateway).await.unwrap();
        rig.metric("selvage_gateway_swept_total") == 2.0
    })
    .await;
    let known = rig.get(&format!("/jobs/{}", known.id())).await.expect(200);
    assert_eq!(
        (&known.json["status"], &known.json["cached"]),
        (&"succeeded".into(), &true.into())
    );
    let unknown = rig
        .get(&format!("/jobs/{}", unknown.id()))
        .await
        .expect(200);
    assert_eq!(unknown.json["status"], "expired");
    assert!(record.expires_at > UnixMillis::wall());
}

#[tokio::test]
async fn the_record_shown_in_a_202_is_the_one_that_was_written() {
    let rig = Rig::new(Plan::default());
    let job = rig
        .post("/jobs?top_k=2&metadata=%7B%22a%22:1%7D", png(1))
        .await
        .expect(202);
    let polled = rig.get(&format!("/jobs/{}", job.id())).await.expect(200);
    for field in [
        "id",
        "status",
        "model",
        "image_hash",
        "created_at",
        "expires_at",
        "metadata",
        "attempts",
    ] {
        assert_eq!(job.json[field], polled.json[field], "{field}");
    }
}
