//! Models on another device than the CPU: the same answers, and the truth about where they come from.

use std::sync::Arc;

use anyhow::Context;
use selvage_tests::{Deployment, Settings, Shape, openvino, pictures};
use serde_json::{Value, json};

/// Farthest a score may be from the CPU's.
const SAME_SCORE: f64 = 1e-3;

/// Every model on OpenVINO.
pub(super) fn on_openvino() -> Settings {
    Settings::default()
        .with("SELVAGE_DEVICE", "openvino")
        .with("SELVAGE_EP_LIBRARY", openvino::plugin().display())
}

async fn scores(on: &Deployment, name: &str) -> anyhow::Result<Vec<(u64, f64)>> {
    let image = pictures::sample(name);
    let answer = on.client().post_image("/predict?top_k=10", image).await?;
    let answer = answer.expect(200).json;
    let top = answer["output"]["top"].as_array().context("top")?;
    let score = |entry: &Value| Some((entry["index"].as_u64()?, entry["score"].as_f64()?));
    let mut scores: Vec<_> = top.iter().filter_map(score).collect();
    assert_eq!(scores.len(), 10, "{answer}");
    let best = scores[0].0;
    scores.sort_unstable_by_key(|(index, _)| *index);
    scores.insert(0, (best, 0.0));
    Ok(scores)
}

pub(super) async fn openvino_gives_the_answers_of_the_cpu(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let cpu = Deployment::start(Shape::Embedded, Settings::default()).await;
    for name in pictures::SAMPLES {
        let (theirs, ours) = (scores(&cpu, name).await?, scores(&on, name).await?);
        for ((label, score), (expected, reference)) in ours.iter().zip(&theirs) {
            assert_eq!(label, expected, "{name}");
            let difference = (score - reference).abs();
            assert!(
                difference < SAME_SCORE,
                "{name}, label {label}: {difference}"
            );
        }
    }
    Ok(())
}

pub(super) async fn the_device_of_each_model_is_shown(on: Arc<Deployment>) -> anyhow::Result<()> {
    let whole = json!({"device": "openvino", "device_share": 1.0, "cpu_operators": {}});
    let client = on.client();
    let models = client.get("/models").await?.expect(200).json;
    let models = models["models"].as_array().context("models")?;
    let holders = models.iter().flat_map(|model| model["workers"].as_array());
    let shown: Vec<&Value> = holders
        .flatten()
        .map(|worker| &worker["placement"])
        .collect();
    assert!(
        shown.len() >= 3 && shown.iter().all(|shown| **shown == whole),
        "{shown:?}"
    );
    let stats = client.get("/stats").await?.expect(200).json;
    let worker = &stats["workers"][0]["models"];
    let worker = worker.as_array().context("a worker's models")?;
    assert!(
        worker.iter().all(|held| held["placement"] == whole),
        "{stats}"
    );
    if on.shape == Shape::Embedded {
        let metrics = client.get("/metrics").await?.expect(200);
        let line =
            "selvage_worker_device_nodes_ratio{device=\"openvino\",model=\"fashion-mnist\"} 1";
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    Ok(())
}

/// Only the model that names a device of its own, one that leaves a part of it to the CPU, is on it.
pub(super) fn partly_on_openvino() -> Settings {
    let folder = selvage_tests::program::project().join("tests/fixtures/variants");
    Settings::default()
        .with(
            "SELVAGE_MODELS",
            folder.join("partly-for-the-cpu").display(),
        )
        .with("SELVAGE_DEVICE", "openvino")
        .with("SELVAGE_EP_LIBRARY", openvino::plugin().display())
}

pub(super) async fn what_the_cpu_runs_is_named(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let model = client
        .get("/models/partly-for-the-cpu")
        .await?
        .expect(200)
        .json;
    let partly = json!({"device": "openvino", "device_share": 0.5, "cpu_operators": {"CDist": 1}});
    assert_eq!(model["workers"][0]["placement"], partly, "{model}");
    let answer = client
        .post_image("/predict", pictures::plain_rgb([10, 220, 10], 3))
        .await?;
    assert_eq!(
        answer.expect(200).json["output"]["top"][0]["label"],
        "green"
    );
    Ok(())
}
