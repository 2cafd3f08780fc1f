//! Refusals: bounds, missing dependencies, wrong requests.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use selvage_core::job::Priority;
use tower::ServiceExt as _;

use crate::rig::{Plan, Rig, boots, png};

/// Path, body, headers; status and code of the answer.
type Case = (
    &'static str,
    Vec<u8>,
    &'static [(&'static str, &'static str)],
    u16,
    &'static str,
);

fn limited(change: fn(&mut Plan)) -> Rig {
    let mut plan = Plan::default();
    change(&mut plan);
    Rig::new(plan)
}

#[tokio::test]
async fn a_full_house_answers_429_with_a_time() {
    let rig = limited(|plan| plan.limits.max_in_flight = 1);
    let first = rig.post_later("/predict", png(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    let refused = rig
        .post("/predict", png(2))
        .await
        .expect_problem(429, "queue_full");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(refused.json["retry_after_ms"].as_u64().unwrap() >= 100);
    let shared = rig.post_later("/predict", png(1));
    rig.work(boots);
    first.await.unwrap().expect(200);
    shared.await.unwrap().expect(200);
    rig.post("/predict", png(2)).await.expect(200);
}

#[tokio::test]
async fn refused_jobs_leave_no_records_that_push_others_out() {
    let rig = limited(|plan| {
        plan.queue_capacity = 1;
        plan.records = 3;
    });
    let accepted = rig.post("/jobs", png(1)).await.expect(202);
    let url = format!("/jobs/{}", accepted.id());
    // It ends at once, and its message still fills the queue.
    rig.post(&format!("{url}/cancel"), vec![]).await.expect(200);
    for n in 2..20 {
        rig.post("/jobs", png(n))
            .await
            .expect_problem(429, "queue_full");
    }
    assert_eq!(rig.store.unfinished(), 0);
    let kept = rig.get(&url).await.expect(200);
    assert_eq!(kept.json["status"], "canceled");
}

#[tokio::test]
async fn a_full_store_takes_no_job_until_one_ends() {
    let rig = limited(|plan| plan.records = 1);
    let accepted = rig.post("/jobs", png(1)).await.expect(202);
    let refused = rig.post("/jobs", png(2)).await;
    refused.expect_problem(503, "store_full");
    let cancel = format!("/jobs/{}/cancel", accepted.id());
    rig.post(&cancel, vec![]).await.expect(200);
    rig.post("/jobs", png(2)).await.expect(202);
}

#[tokio::test]
async fn a_full_queue_answers_429_at_once() {
    let rig = limited(|plan| plan.queue_capacity = 1);
    let first = rig.post_later("/predict?wait=30", png(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    rig.post("/predict?wait=30", png(2))
        .await
        .expect_problem(429, "queue_full");
    rig.post("/jobs", png(3)).await.expect(202);
    rig.post("/jobs", png(4))
        .await
        .expect_problem(429, "queue_full");
    assert_eq!(rig.app.predictions.admission.in_flight(), 1);
    rig.work(boots);
    first.await.unwrap().expect(200);
}

#[tokio::test]
async fn without_a_broker_nothing_new_is_taken() {
    let rig = limited(|plan| plan.broker_down = true);
    for path in ["/predict", "/jobs"] {
        let refused = rig
            .post(path, png(1))
            .await
            .expect_problem(503, "broker_unavailable");
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert!(!String::from_utf8(refused.body).unwrap().contains("s3cret"));
    }
    assert_eq!(rig.app.predictions.admission.in_flight(), 0);
    let ready = rig.get("/readyz").await.expect(503);
    assert_eq!(ready.json["checks"]["broker"], "down");
    rig.get("/livez").await.expect(200);
}

#[tokio::test]
async fn without_a_store_waiting_works_and_promising_does_not() {
    let rig = limited(|plan| plan.store_down = true);
    let no_answer = rig.post("/predict?wait=0.05", png(9)).await;
    no_answer.expect_problem(503, "store_unavailable");
    rig.work(|job| {
        if job.submission.is_some() {
            unreachable!("nothing was submitted")
        } else {
            boots(job)
        }
    });
    rig.post("/predict", png(1)).await.expect(200);
    rig.post("/jobs", png(1)).await.expect(200);
    let refused = rig
        .post("/jobs", png(2))
        .await
        .expect_problem(503, "store_unavailable");
    assert!(!String::from_utf8(refused.body).unwrap().contains("s3cret"));
    let id = selvage_core::job::JobId::new();
    rig.get(&format!("/jobs/{id}"))
        .await
        .expect_problem(503, "store_unavailable");
    rig.post(&format!("/jobs/{id}/cancel"), vec![])
        .await
        .expect_problem(503, "store_unavailable");
    let ready = rig.get("/readyz").await.expect(200);
    assert_eq!(ready.json["status"], "degraded");
}

#[tokio::test]
async fn wrong_requests_have_their_codes() {
    let rig = limited(|plan| plan.limits.max_pixels = 10_000);
    let big = {
        let mut image = png(1);
        image[16..20].copy_from_slice(&200_u32.to_be_bytes());
        image[20..24].copy_from_slice(&200_u32.to_be_bytes());
        image
    };
    let cases: Vec<Case> = vec![
        ("/predict", vec![], &[], 400, "empty_body"),
        (
            "/predict",
            b"hello".to_vec(),
            &[],
            415,
            "unsupported_media_type",
        ),
        (
            "/predict",
            b"\x89PNG\r\n\x1a\n".to_vec(),
            &[],
            422,
            "invalid_image",
        ),
        ("/predict", big, &[], 422, "image_too_large"),
        (
            "/predict",
            vec![0; (1 << 20) + 1],
            &[],
            413,
            "payload_too_large",
        ),
        (
            "/jobs",
            vec![0; (1 << 20) + 1],
            &[],
            413,
            "payload_too_large",
        ),
        (
            "/predict",
            png(1),
            &[("content-encoding", "gzip")],
            415,
            "unsupported_media_type",
        ),
        (
            "/predict",
            png(1),
            &[("content-type", "multipart/form-data")],
            400,
            "bad_request",
        ),
        (
            "/predict",
            png(1),
            &[("content-type", "application/json")],
            400,
            "bad_request",
        ),
        (
            "/predict",
            png(1),
            &[("idempotency-key", "\"\"")],
            400,
            "bad_request",
        ),
        ("/predict?model=absent", png(1), &[], 404, "model_not_found"),
        (
            "/predict?model=..%2F..%2Fetc%2Fpasswd",
            png(1),
            &[],
            404,
            "model_not_found",
        ),
        ("/predict?model=%00", png(1), &[], 404, "model_not_found"),
        ("/predict?version=1", png(1), &[], 404, "model_not_found"),
        ("/predict?colour=red", png(1), &[], 422, "invalid_option"),
        ("/predict?wait=-1", png(1), &[], 422, "invalid_option"),
        ("/predict/many", png(1), &[], 404, "not_found"),
    ];
    for (path, body, headers, status, code) in cases {
        let answer = rig.post_with(path, body, headers).await;
        let answer = answer.expect_problem(status, code);
        if code == "invalid_option" {
            assert!(
                answer.json["errors"][0]["pointer"].is_string(),
                "{}",
                answer.json
            );
        }
    }
    for path in ["/none", "/openapi.yaml", "/jobs/a/b", "/docs/other.js"] {
        rig.get(path).await.expect_problem(404, "not_found");
    }
    for (path, allow) in [
        ("/predict", "POST"),
        ("/predict/batch", "POST"),
        ("/jobs/1/cancel", "POST"),
    ] {
        let wrong = rig
            .get(path)
            .await
            .expect_problem(405, "method_not_allowed");
        assert_eq!(wrong.header("allow"), allow);
    }
    let wrong = rig
        .post("/models", vec![])
        .await
        .expect_problem(405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), "GET,HEAD");
    rig.get("/models?page=2")
        .await
        .expect_problem(422, "invalid_option");
}

#[tokio::test]
async fn a_request_has_exactly_one_valid_host() {
    let rig = limited(|_| {});
    let request = |hosts: &[&str]| {
        let hosts = hosts.iter();
        let request = hosts.fold(Request::get("/livez"), |request, host| {
            request.header("host", *host)
        });
        request.body(Body::empty()).unwrap()
    };
    let answer = async |request| rig.app.router().oneshot(request).await.unwrap();
    for hosts in [&[][..], &["localhost", "localhost"], &["local host"]] {
        let response = answer(request(hosts)).await;
        assert_eq!(response.status(), 400, "{hosts:?}");
    }
    let mut old = request(&[]);
    *old.version_mut() = axum::http::Version::HTTP_10;
    for request in [old, request(&["localhost:8000"]), request(&[""])] {
        assert_eq!(answer(request).await.status(), 200);
    }
}

#[tokio::test]
async fn a_transfer_coding_that_is_not_known_is_a_501() {
    let rig = limited(|_| {});
    let coded = async |coding| {
        rig.post_with("/jobs", png(1), &[("transfer-encoding", coding)])
            .await
    };
    for unknown in ["gzip, chunked", "chunked, identity"] {
        let answer = coded(unknown).await;
        answer.expect_problem(501, "unsupported_transfer_coding");
    }
    coded("Chunked").await.expect(202);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_a_408() {
    let rig = limited(|_| {});
    let stalled = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let request = Request::post("/predict").header("content-length", "10");
    let request = request.body(Body::from_stream(stalled)).unwrap();
    let began = tokio::time::Instant::now();
    rig.send(request).await.expect_problem(408, "body_timeout");
    assert_eq!(began.elapsed(), Duration::from_secs(30));
}

#[tokio::test]
async fn large_bodies_beyond_the_memory_for_them_are_refused() {
    let rig = limited(|plan| {
        plan.limits.max_buffered = 1 << 20;
        plan.limits.max_pixels = 4_000_000;
    });
    let large = |seed| [png(seed), vec![0; 600 * 1024]].concat();
    let first = rig.post_later("/predict?wait=30", large(1));
    rig.wait_for_depth(Priority::Interactive, 1).await;
    rig.post("/predict", large(2))
        .await
        .expect_problem(429, "queue_full");
    rig.work(boots);
    first.await.unwrap().expect(200);
    crate::rig::eventually(async || rig.post("/predict", large(2)).await.status == 200).await;
}
