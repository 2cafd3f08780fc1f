//! Models on another device than the CPU: the same answers, and the truth about where they come from.

use std::sync::Arc;

use anyhow::Context;
use selvage_tests::program::project;
use selvage_tests::{Deployment, Settings, Shape, openvino, pictures};
use serde_json::{Value, json};

/// Farthest a score of a float32 model may be from the CPU's.
const SAME_SCORE: f64 = 1e-3;
/// The same for int8: ONNX Runtime's own scores on processors with and without VNNI are about as far from each other.
const SAME_INT8_SCORE: f64 = 0.02;

/// Every model on OpenVINO.
pub(super) fn on_openvino() -> Settings {
    Settings::default()
        .with("SELVAGE_DEVICE", "openvino")
        .with("SELVAGE_EP_LIBRARY", openvino::plugin().display())
}

/// Models of float32, as many tools write them.
fn exports() -> std::path::PathBuf {
    project().join("tests/fixtures/exports")
}

/// The same for the models of float32.
pub(super) fn exports_on_openvino() -> Settings {
    on_openvino().with("SELVAGE_MODELS", exports().display())
}

/// A model's best label, and its scores by label.
async fn scores(on: &Deployment, path: &str, image: Vec<u8>) -> anyhow::Result<(u64, Vec<f64>)> {
    let answer = on.client().post_image(path, image).await?.expect(200).json;
    let top = answer["output"]["top"].as_array().context("top")?;
    let score = |entry: &Value| Some((entry["index"].as_u64()?, entry["score"].as_f64()?));
    let mut scores: Vec<_> = top.iter().filter_map(score).collect();
    let best = scores.first().context("a score")?.0;
    scores.sort_unstable_by_key(|(index, _)| *index);
    Ok((best, scores.into_iter().map(|(_, score)| score).collect()))
}

/// Compares what both give for an image.
async fn compare(
    ours: &Deployment,
    cpu: &Deployment,
    path: &str,
    image: Vec<u8>,
    allowed: f64,
) -> anyhow::Result<()> {
    let (best, scores_here) = scores(ours, path, image.clone()).await?;
    let (expected, scores_there) = scores(cpu, path, image).await?;
    let apart = scores_here.iter().zip(&scores_there);
    let apart = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert_eq!(
        (best, scores_here.len()),
        (expected, scores_there.len()),
        "{path}"
    );
    assert!(apart < allowed, "{path}: {apart}");
    Ok(())
}

pub(super) async fn float_models_give_the_scores_of_the_cpu(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let settings = Settings::default().with("SELVAGE_MODELS", exports().display());
    let cpu = Deployment::start(Shape::Embedded, settings).await;
    let picture = std::fs::read(exports().join("_pictures/wide.png"))?;
    let models = on.client().get("/models").await?.expect(200).json;
    let models = models["models"].as_array().context("models")?;
    assert!(models.len() >= 20, "{}", models.len());
    for model in models {
        let name = model["name"].as_str().context("name")?;
        let path = format!("/predict?top_k=5&model={name}");
        compare(&on, &cpu, &path, picture.clone(), SAME_SCORE).await?;
    }
    Ok(())
}

pub(super) async fn the_included_model_gives_the_labels_of_the_cpu(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let cpu = Deployment::start(Shape::Embedded, Settings::default()).await;
    for name in pictures::SAMPLES {
        let image = pictures::sample(name);
        compare(&on, &cpu, "/predict?top_k=10", image, SAME_INT8_SCORE).await?;
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
    let folder = project().join("tests/fixtures/variants");
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
