//! Keys: what is refused before anything is read, and whose a record is.

use axum::body::Body;
use axum::http::Request;
use selvage_core::job::Priority;
use selvage_core::key::Digest;
use selvage_core::store::JobStore as _;

use crate::rig::{Plan, Rig, boots, png};

const ANN: (&str, &str) = ("authorization", "Bearer ann-key");
const BOB: (&str, &str) = ("authorization", "Bearer bob-key");

fn guarded() -> Plan {
    let line = |name: &str| {
        let hash = Digest::of(format!("{name}-key").as_bytes()).to_hex();
        format!("{name} {hash}\n")
    };
    Plan {
        keys: Some(line("ann") + &line("bob")),
        ..Plan::default()
    }
}

async fn get(rig: &Rig, path: &str, (name, value): (&str, &str)) -> crate::rig::Answer {
    let request = Request::get(path).header(name, value);
    rig.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_stranger_learns_how_to_ask_and_no_more() {
    let rig = Rig::new(guarded());
    let answer = rig.post("/predict", png(1)).await;
    let answer = answer.expect_problem(401, "unauthenticated");
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer realm=\"selvage\""
    );
    // Not even what an image may be.
    let answer = rig.post("/predict", b"no image".to_vec()).await;
    answer.expect_problem(401, "unauthenticated");
    assert_eq!(rig.metric("selvage_gateway_cache_misses_total"), 0.0);
    rig.get("/livez").await.expect(200);
    rig.get("/nowhere").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_submission_is_kept_for_its_owner_alone() {
    let rig = Rig::new(guarded());
    let job = rig.post_with("/jobs", png(1), &[ANN]).await.expect(202);
    let url = format!("/jobs/{}", job.id());
    get(&rig, &url, ANN).await.expect(200);
    get(&rig, &url, BOB)
        .await
        .expect_problem(404, "job_not_found");
    let cancel = format!("{url}/cancel");
    let refused = rig.post_with(&cancel, Vec::new(), &[BOB]).await;
    refused.expect_problem(404, "job_not_found");
    let id = job.id().parse().unwrap();
    let record = rig.store.get(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!(record.state.as_str(), "queued");
    assert_eq!(record.seed.submission.owner.unwrap().as_str(), "ann");
    // The owner travels along: a store that was wiped learns it again from the message.
    let delivery = rig.take(Priority::Batch).await;
    let submission = delivery.jobs[0].submission.as_ref().unwrap();
    assert_eq!(submission.owner.as_ref().unwrap().as_str(), "ann");
    delivery.settle.give_back();

    rig.work(boots);
    let ended = get(&rig, &format!("{url}?wait=20"), ANN).await.expect(200);
    assert_eq!(ended.json["status"], "succeeded");
}

#[tokio::test]
async fn a_key_does_not_see_what_others_have_asked() {
    let rig = Rig::new(guarded());
    rig.work(boots);
    let ask = async |key| rig.post_with("/predict", png(1), &[key]).await.expect(200);
    let first = ask(ANN).await;
    assert_eq!(ask(ANN).await.json["cached"], true);
    let other = ask(BOB).await;
    assert_eq!(other.json["cached"], false);
    assert_eq!(other.header("age"), "");
    assert_eq!(other.header("cache-status"), first.header("cache-status"));
    assert_eq!(other.json["image_hash"], Digest::of(&png(1)).to_string());

    let no_cache = ("cache-control", "no-cache");
    let job = rig.post_with("/jobs", png(1), &[BOB, no_cache]).await;
    let url = format!("/jobs/{}?wait=20", job.expect(202).id());
    let ended = get(&rig, &url, BOB).await.expect(200);
    assert_eq!(ended.json["image_hash"], other.json["image_hash"]);
}

#[tokio::test]
async fn a_key_does_not_share_anothers_job() {
    let rig = Rig::new(guarded());
    let ann = rig.post_with_later("/predict", png(1), &[ANN]);
    let bob = rig.post_with_later("/predict", png(1), &[BOB]);
    rig.wait_for_depth(Priority::Interactive, 2).await;
    rig.work(boots);
    for answer in [ann, bob] {
        let answer = answer.await.unwrap().expect(200);
        let status = answer.header("cache-status");
        assert_eq!(status, "selvage; fwd=uri-miss; stored");
    }
}

#[tokio::test]
async fn keys_share_the_cache_where_the_operator_says_so() {
    let mut plan = guarded();
    plan.limits.shared_cache = true;
    let rig = Rig::new(plan);
    rig.work(boots);
    let ask = async |key| rig.post_with("/predict", png(1), &[key]).await.expect(200);
    assert_eq!(ask(ANN).await.json["cached"], false);
    assert_eq!(ask(BOB).await.json["cached"], true);
}

#[tokio::test]
async fn open_inference_needs_a_key_but_for_its_health() {
    let rig = Rig::new(guarded());
    rig.work(boots);
    for open in ["/v2", "/v2/health/live", "/v2/health/ready"] {
        rig.get(open).await.expect(200);
    }
    let image = vec![0; 784 * 4];
    let length = ("inference-header-content-length", "0");
    let infer = "/v2/models/tiny/infer";
    for headers in [&[length][..], &[length, ("authorization", "Bearer x")]] {
        let refused = rig.post_with(infer, image.clone(), headers).await;
        let refused = refused.expect(401);
        assert!(refused.json["error"].is_string(), "{}", refused.json);
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
    }
    assert_eq!(rig.metric("selvage_gateway_cache_misses_total"), 0.0);
    rig.get("/v2/models/tiny").await.expect(401);
    rig.post_with(infer, image, &[length, ANN])
        .await
        .expect(200);
    get(&rig, "/v2/models/tiny", ANN).await.expect(200);
}

#[tokio::test]
async fn a_wait_that_runs_out_belongs_to_its_key_too() {
    let rig = Rig::new(guarded());
    let job = rig.post_with("/predict?wait=0.05", png(1), &[ANN]).await;
    let url = format!("/jobs/{}", job.expect(202).id());
    get(&rig, &url, ANN).await.expect(200);
    get(&rig, &url, BOB)
        .await
        .expect_problem(404, "job_not_found");
}

#[tokio::test]
async fn without_keys_everybody_is_the_same_caller() {
    let rig = Rig::new(Plan::default());
    let job = rig.post_with("/jobs", png(1), &[ANN]).await.expect(202);
    let url = format!("/jobs/{}", job.id());
    get(&rig, &url, BOB).await.expect(200);
    // A parameter that is not known is distinguished from a key that is needed.
    rig.get("/models?api_key=x")
        .await
        .expect_problem(422, "invalid_option");
}
