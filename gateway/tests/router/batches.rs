//! Several images in one request.

use std::sync::atomic::Ordering;

use selvage_core::job::Job;
use selvage_core::outcome::{FailureCode, Outcome};
use serde_json::json;

use crate::rig::{Answer, Plan, Rig, boots, failed, png, post, scores};

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=B");
const JSON: (&str, &str) = ("content-type", "application/json");
const KEY: (&str, &str) = ("idempotency-key", "batch");

fn form(images: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for image in images {
        body.extend_from_slice(b"--B\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n");
        body.extend_from_slice(image);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--B--\r\n");
    body
}

fn pngs(seeds: std::ops::Range<u8>) -> Vec<Vec<u8>> {
    seeds.map(png).collect()
}

fn statuses(answer: &Answer) -> Vec<&str> {
    let items = answer.json["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["status"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn both_body_forms_answer_every_image_in_its_place() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let images = pngs(0..20);
    let by_form = rig
        .post_with("/predict/batch", form(&images), &[FORM])
        .await
        .expect(200);
    let base64: Vec<String> = images
        .iter()
        .map(|image| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, image))
        .collect();
    let body = json!({"images": base64, "top_k": 1, "metadata": {"a": 1}});
    let by_json = rig
        .post_with("/predict/batch", body.to_string().into(), &[JSON])
        .await
        .expect(200);
    for (index, image) in images.iter().enumerate() {
        let digest = selvage_core::key::Digest::of(image).to_string();
        for answer in [&by_form, &by_json] {
            let item = &answer.json["items"][index];
            assert_eq!(item["image_hash"], digest);
            assert_eq!(item["output"]["label"], "boot");
        }
        assert_eq!(by_json.json["items"][index]["metadata"], json!({"a": 1}));
        assert_eq!(by_json.json["items"][index]["cached"], true);
    }
    assert_eq!(rig.computed.load(Ordering::Relaxed), 20);
}

fn dark_is_broken(job: &Job) -> Outcome {
    if job.image[..] == png(1)[..] {
        failed(FailureCode::InvalidImage)
    } else {
        Outcome::Succeeded(scores())
    }
}

#[tokio::test]
async fn a_bad_image_fails_alone() {
    let rig = Rig::new(Plan::default());
    rig.work(dark_is_broken);
    let images = vec![png(0), png(1), b"no image".to_vec(), png(3)];
    let answer = rig
        .post_with("/predict/batch", form(&images), &[FORM])
        .await
        .expect(200);
    assert_eq!(
        statuses(&answer),
        ["succeeded", "failed", "failed", "succeeded"]
    );
    let error = |index: usize| answer.json["items"][index]["error"]["code"].clone();
    assert_eq!(
        (error(1), error(2)),
        ("invalid_image".into(), "unsupported_media_type".into())
    );
    let all_bad = rig
        .post_with("/predict/batch", form(&[b"no image".to_vec()]), &[FORM])
        .await;
    assert_eq!(statuses(&all_bad.expect(200)), ["failed"]);
}

#[tokio::test]
async fn what_is_unfinished_is_submitted() {
    let rig = Rig::new(Plan::default());
    for headers in [
        &[FORM, ("prefer", "respond-async")][..],
        &[FORM, ("prefer", "wait=0")],
    ] {
        let images = form(&[png(1), b"no image".to_vec(), png(2)]);
        let answer = rig
            .post_with("/predict/batch", images, headers)
            .await
            .expect(202);
        assert_eq!(statuses(&answer), ["queued", "failed", "queued"]);
        assert_eq!(answer.header("preference-applied"), headers[1].1);
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        for index in [0, 2] {
            let url = answer.json["items"][index]["urls"]["self"]
                .as_str()
                .unwrap();
            rig.get(url).await.expect(200);
        }
    }
    let some = rig
        .post_with("/predict/batch?wait=0.2", form(&pngs(3..5)), &[FORM])
        .await;
    assert_eq!(statuses(&some.expect(202)), ["queued", "queued"]);
}

#[tokio::test]
async fn a_batch_that_finds_no_place_is_refused_and_one_that_finds_some_is_not() {
    let none = Rig::new(Plan {
        broker_down: true,
        ..Plan::default()
    });
    none.post_with("/predict/batch", form(&pngs(0..3)), &[FORM])
        .await
        .expect_problem(503, "broker_unavailable");
    let mut plan = Plan::default();
    plan.limits.max_in_flight = 1;
    let few = Rig::new(plan);
    let (answer, ()) = tokio::join!(
        few.post_with("/predict/batch", form(&pngs(0..3)), &[FORM]),
        async { few.work(boots) }
    );
    assert_eq!(
        statuses(&answer.expect(200)),
        ["succeeded", "failed", "failed"]
    );
}

#[tokio::test]
async fn a_repeated_batch_is_the_same_jobs() {
    let rig = Rig::new(Plan::default());
    let send = |images: Vec<Vec<u8>>, path: &'static str| {
        rig.send(post(path, form(&images), &[FORM, KEY]))
    };
    let images = vec![b"no image".to_vec(), png(1), png(2)];
    let first = send(images.clone(), "/predict/batch?wait=0")
        .await
        .expect(202);
    rig.work(boots);
    let second = send(images, "/predict/batch").await.expect(200);
    for index in [1, 2] {
        assert_eq!(
            first.json["items"][index]["id"],
            second.json["items"][index]["id"]
        );
    }
    assert_eq!(rig.computed.load(Ordering::Relaxed), 2);
    let others = [
        vec![png(1), png(2)],
        vec![b"no image".to_vec(), png(1), png(2), png(3), png(4)],
    ];
    for other in others {
        send(other, "/predict/batch")
            .await
            .expect_problem(422, "idempotency_mismatch");
    }
    assert_eq!(
        rig.computed.load(Ordering::Relaxed),
        2,
        "nothing of another request was run"
    );
    rig.post_with("/predict", png(1), &[KEY])
        .await
        .expect_problem(422, "idempotency_mismatch");
}

#[tokio::test]
async fn batches_know_the_same_options_and_refusals() {
    let rig = Rig::new(Plan::default());
    let post = |query: &str| {
        let path = format!("/predict/batch?{query}");
        let request = post(&path, form(&pngs(0..2)), &[FORM]);
        rig.send(request)
    };
    post("model=absent")
        .await
        .expect_problem(404, "model_not_found");
    post("top_k=0").await.expect_problem(422, "invalid_option");
    rig.post_with("/predict/batch", form(&pngs(0..65)), &[FORM])
        .await
        .expect_problem(422, "invalid_option");
    rig.post("/predict/batch", png(1))
        .await
        .expect_problem(415, "unsupported_media_type");
    rig.get("/predict/batch")
        .await
        .expect_problem(405, "method_not_allowed");
}
