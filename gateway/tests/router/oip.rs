//! `/v2`: tensors become jobs of the same queue, and errors have the protocol's form.

use std::sync::atomic::Ordering;

use selvage_core::job::Priority;
use selvage_core::outcome::{FailureCode, Outcome};
use selvage_core::tensor::{self, Datatype};
use selvage_gateway::service::lifecycle::Phase;
use serde_json::{Value, json};

use crate::rig::{Answer, Plan, Rig, boots, failed, png};

const INFER: &str = "/v2/models/tiny/infer";

fn body(images: usize, datatype: &str) -> Value {
    let data: Vec<usize> = (0..images * 784).map(|at| at / 784 % 256).collect();
    json!({"inputs": [{"name": "input", "shape": [images, 1, 28, 28], "datatype": datatype, "data": data}]})
}

async fn infer(rig: &Rig, body: &Value) -> Answer {
    rig.post(INFER, body.to_string().into()).await
}

/// An error in the protocol's form.
#[track_caller]
fn expect_error(answer: Answer, status: u16) -> Answer {
    let answer = answer.expect(status);
    let fields = answer.json.as_object().unwrap();
    assert!(
        fields.len() == 1
            && fields["error"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
        "{fields:?}"
    );
    assert_eq!(answer.header("content-type"), "application/json");
    answer
}

#[tokio::test]
async fn each_image_is_a_job_of_its_own_and_repeats_come_from_the_cache() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let answer = infer(&rig, &body(3, "UINT8")).await.expect(200);
    let expected = json!({
        "model_name": "tiny", "model_version": "2",
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [3, 3], "data": [0.1, 0.7, 0.2, 0.1, 0.7, 0.2, 0.1, 0.7, 0.2]}],
    });
    assert_eq!(answer.json, expected);
    assert_eq!(rig.computed.load(Ordering::Relaxed), 3);
    infer(&rig, &body(3, "UINT8")).await.expect(200);
    assert_eq!(rig.computed.load(Ordering::Relaxed), 3);
    // The same numbers as floats are another tensor.
    infer(&rig, &body(1, "FP32")).await.expect(200);
    assert_eq!(rig.computed.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_job_carries_its_values_as_they_were_given() {
    let rig = Rig::new(Plan::default());
    let waiting = rig.post_later(INFER, body(1, "FP32").to_string().into());
    let delivery = rig.take(Priority::Interactive).await;
    let (datatype, values) = tensor::read(&delivery.jobs[0].image).unwrap();
    assert_eq!((datatype, values), (Datatype::Fp32, &[0; 784 * 4][..]));
    delivery.settle.ack();
    waiting.abort();
}

#[tokio::test]
async fn values_alone_are_the_only_input() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let length = [("inference-header-content-length", "0")];
    let answer = rig
        .post_with(INFER, vec![0; 2 * 784 * 4], &length)
        .await
        .expect(200);
    let json_length: usize = answer
        .header("inference-header-content-length")
        .parse()
        .unwrap();
    let head: Value = serde_json::from_slice(&answer.body[..json_length]).unwrap();
    assert_eq!(
        head["outputs"][0]["parameters"]["binary_data_size"],
        2 * 3 * 4
    );
    assert_eq!(answer.body.len(), json_length + 2 * 3 * 4);
    expect_error(
        rig.post_with(INFER, vec![0; 784 * 4 + 1], &length).await,
        400,
    );
    expect_error(rig.post_with(INFER, Vec::new(), &length).await, 400);
}

#[tokio::test]
async fn what_does_not_fit_the_model_is_refused_before_any_work() {
    let rig = Rig::new(Plan::default());
    let with = |field: &str, value: Value| {
        let mut body = body(1, "UINT8");
        body["inputs"][0][field] = value;
        body
    };
    let two = json!({"inputs": [body(1, "UINT8")["inputs"][0], body(1, "UINT8")["inputs"][0]]});
    let mut output = body(1, "UINT8");
    output["outputs"] = json!([{"name": "surprise"}]);
    for wrong in [
        with("name", json!("surprise")),
        with("shape", json!([784])),
        with("shape", json!([1, 28, 28, 1])),
        with("shape", json!([784, 1, 1, 1])),
        with("shape", json!([0, 1, 28, 28])),
        with("shape", json!([-1, 1, 28, 28])),
        with("shape", json!([1_u64 << 60, 1, 28, 28])),
        with("datatype", json!("INT8")),
        body(65, "UINT8"),
        two,
        output,
        json!({"inputs": []}),
        json!({}),
    ] {
        expect_error(infer(&rig, &wrong).await, 400);
    }
    assert_eq!(rig.metric("selvage_gateway_cache_misses_total"), 0.0);
}

#[tokio::test]
async fn errors_have_the_protocols_form_on_every_path() {
    let rig = Rig::new(Plan::default());
    for path in [
        "/v2/models/none",
        "/v2/models/none/ready",
        "/v2/models/tiny/versions/9",
        "/v2/surprise",
        "/v2/",
    ] {
        expect_error(rig.get(path).await, 404);
    }
    let wrong_method = expect_error(rig.get(INFER).await, 405);
    assert_eq!(wrong_method.header("allow"), "POST");
    expect_error(rig.post(INFER, vec![0; (1 << 20) + 1]).await, 413);
    expect_error(
        rig.post_with(INFER, vec![0], &[("content-encoding", "gzip")])
            .await,
        415,
    );
    assert_eq!(rig.get("/v20").await.expect(404).json["code"], "not_found");
}

#[tokio::test]
async fn a_wait_that_runs_out_is_an_error_and_leaves_no_job() {
    let rig = Rig::new(Plan::default());
    let mut late = body(1, "UINT8");
    late["parameters"] = json!({"timeout": 50_000});
    expect_error(infer(&rig, &late).await, 504);
    let (model, depth) = (rig.model(), 0);
    assert_eq!(
        selvage_core::queue::Queue::depth(&*rig.queue, &model, Priority::Batch)
            .await
            .unwrap(),
        depth
    );
}

#[tokio::test]
async fn an_end_by_a_clock_that_runs_before_ours_is_no_submission() {
    let rig = Rig::new(Plan::default());
    rig.work(|_| Outcome::Expired);
    expect_error(infer(&rig, &body(1, "UINT8")).await, 504);
    // The same where the wait of `/predict` is the whole life of its job.
    let late = rig.post("/predict?timeout_ms=5000", png(1)).await;
    assert_eq!(late.expect(200).json["status"], "expired");
    assert_eq!(rig.metric("selvage_gateway_jobs_submitted_total"), 0.0);
    assert_eq!(rig.computed.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_idempotency_key_is_refused_rather_than_ignored() {
    let rig = Rig::new(Plan::default());
    rig.work(boots);
    let json = body(1, "UINT8").to_string();
    let key = [("idempotency-key", "k")];
    let refused = rig.post_with(INFER, json.clone().into(), &key).await;
    let refused = expect_error(refused, 400);
    assert!(refused.json.to_string().contains("Idempotency-Key"));
    rig.post(INFER, json.into()).await.expect(200);
}

#[tokio::test]
async fn health_has_the_truth_of_readyz() {
    let down = Plan {
        broker_down: true,
        ..Plan::default()
    };
    let no_store = Plan {
        store_down: true,
        ..Plan::default()
    };
    for (plan, status) in [(Plan::default(), 200), (down, 503), (no_store, 200)] {
        let rig = Rig::new(plan);
        rig.get("/readyz").await.expect(status);
        let ready = rig.get("/v2/health/ready").await.expect(status);
        assert_eq!(ready.json["ready"], status == 200);
    }
    let rig = Rig::new(Plan::default());
    rig.app.life.enter(Phase::Draining);
    rig.get("/readyz").await.expect(503);
    rig.get("/v2/health/ready").await.expect(503);
}

#[tokio::test]
async fn overload_and_failures_are_reported_as_everywhere() {
    let mut plan = Plan::default();
    plan.limits.max_in_flight = 1;
    let rig = Rig::new(plan);
    let full = expect_error(infer(&rig, &body(2, "UINT8")).await, 429);
    assert!(!full.header("retry-after").is_empty());
    let rig = Rig::new(Plan::default());
    rig.work(|_| failed(FailureCode::InferenceFailed));
    let failed = expect_error(infer(&rig, &body(1, "UINT8")).await, 500);
    assert!(!failed.json.to_string().contains("on fire"));
    let down = Rig::new(Plan {
        broker_down: true,
        ..Plan::default()
    });
    expect_error(infer(&down, &body(1, "UINT8")).await, 503);
    expect_503(down.get("/v2/health/ready").await);
}

#[track_caller]
fn expect_503(answer: Answer) {
    assert_eq!(answer.expect(503).json["ready"], false);
}

#[tokio::test]
async fn server_and_models_describe_themselves() {
    let rig = Rig::new(Plan::default());
    let server = rig.get("/v2").await.expect(200);
    assert_eq!(
        server.json["extensions"],
        json!(["classification", "binary_tensor_data", "parameters"])
    );
    assert_eq!(
        rig.get("/v2/health/live").await.expect(200).json,
        json!({"live": true})
    );
    assert_eq!(
        rig.get("/v2/health/ready").await.expect(200).json,
        json!({"ready": true})
    );
    // No worker has announced itself.
    expect_503(rig.get("/v2/models/tiny/ready").await);
    let expected = json!({
        "name": "tiny", "versions": ["2"], "platform": "onnx_onnxv1",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 28, 28]}],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 3]}],
    });
    for path in ["/v2/models/tiny", "/v2/models/tiny/versions/2"] {
        assert_eq!(rig.get(path).await.expect(200).json, expected);
    }
}
