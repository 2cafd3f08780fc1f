//! Results of each task, through HTTP: the same from a wait, a job, a batch and the cache.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, ensure};
use selvage_tests::program::project;
use selvage_tests::{Deployment, Settings, pictures};
use serde_json::{Value, json};

const FIXTURES: &str = "tests/fixtures/tasks";

/// The models of `make_tasks.py`, with the results that NumPy has for a picture.
pub(super) fn every_task() -> Settings {
    Settings::default().with("SELVAGE_MODELS", project().join(FIXTURES).display())
}

fn picture() -> anyhow::Result<Vec<u8>> {
    Ok(fs::read(
        project().join("tests/fixtures/tasks/upright.png"),
    )?)
}

/// What is compared exactly: names and counts. Numbers are compared where the model is run without HTTP.
fn names(output: &Value) -> Value {
    let labels = |list: &Value| {
        let labels = list.as_array().into_iter().flatten();
        labels.map(|item| item["label"].clone()).collect::<Value>()
    };
    let length = output["embedding"].as_array().map(Vec::len);
    json!([
        output["task"],
        labels(&output["labels"]),
        labels(&output["boxes"]),
        output["width"],
        length
    ])
}

pub(super) async fn each_task_has_its_result(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let mut seen = 0;
    for entry in fs::read_dir(project().join(FIXTURES))? {
        let folder = entry?.path();
        let Ok(expected) = fs::read(folder.join("expected.json")) else {
            continue;
        };
        let expected: Value = serde_json::from_slice(&expected)?;
        let name = folder
            .file_name()
            .context("name")?
            .to_string_lossy()
            .into_owned();
        let model = client.get(&format!("/models/{name}")).await?.expect(200);
        assert_eq!(model.json["task"], expected["task"], "{name}");

        let path = format!("/predict?model={name}&wait=60");
        let first = client.post_image(&path, picture()?).await?.expect(200);
        let output = &first.json["output"];
        assert_eq!(names(output), names(&expected), "{name}");
        for edges in output["boxes"].as_array().into_iter().flatten() {
            let edges: Vec<f64> = serde_json::from_value(edges["box"].clone())?;
            let inside = edges[0] >= 0.0 && edges[2] <= 97.0 && edges[3] <= 64.0;
            ensure!(
                inside && edges[0] < edges[2] && edges[1] < edges[3],
                "{name}: {edges:?}"
            );
        }
        let again = client.post_image(&path, picture()?).await?.expect(200);
        assert_eq!(
            (&again.json["cached"], &again.json["output"]),
            (&json!(true), output)
        );

        let jobs = format!("/jobs?model={name}");
        let uncached = [("cache-control", "no-store")];
        let job = client
            .post_image_with(&jobs, picture()?, &uncached)
            .await?
            .expect(202);
        let ended = client
            .get(&format!("/jobs/{}?wait=60", job.id()))
            .await?
            .expect(200);
        assert_eq!(ended.json["cached"], false);
        assert_eq!(&ended.json["output"], output, "{name}: a record differs");
        seen += 1;
    }
    assert_eq!(seen, 8);
    Ok(())
}

pub(super) async fn a_vector_comes_as_json_or_as_floats(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let floats = [("accept", "application/octet-stream")];
    let path = "/predict?model=embed&wait=60";
    let shown = client.post_image(path, picture()?).await?.expect(200);
    let vector: Vec<f32> = serde_json::from_value(shown.json["output"]["embedding"].clone())?;
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let norm: f32 = vector.iter().map(|value| value * value).sum();
    ensure!((norm - 1.0).abs() < 1e-5, "{norm}");

    let binary = client
        .post_image_with(path, picture()?, &floats)
        .await?
        .expect(200);
    assert_eq!(binary.header("content-type"), "application/octet-stream");
    assert_eq!(binary.body, bytes);
    ensure!(binary.header("cache-status").starts_with("selvage; hit"));
    // What is no vector stays JSON.
    let path = "/predict?model=single&wait=60";
    let other = client
        .post_image_with(path, picture()?, &floats)
        .await?
        .expect(200);
    assert_eq!(other.json["output"]["task"], "multilabel");
    Ok(())
}

/// A picture of the model's size is its own tensor, so both have the same boxes.
pub(super) async fn tensors_get_boxes_and_vectors(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let picture = image::RgbImage::from_fn(64, 64, |x, y| {
        image::Rgb([x, y, x ^ y].map(|value| (value * 4 % 256) as u8))
    });
    let planes = (0..3).flat_map(|channel| picture.pixels().map(move |pixel| pixel.0[channel]));
    let input = json!({"name": "pixels", "shape": [1, 3, 64, 64], "datatype": "UINT8", "data": planes.collect::<Vec<u8>>()});
    let body = json!({"inputs": [input]});
    let png = pictures::encode(&picture.clone().into(), image::ImageFormat::Png);
    for (model, name, shape) in [
        ("yolov8", "output0", json!([-1, -1, 6])),
        ("embed", "pooler_output", json!([-1, -1])),
    ] {
        let described = client
            .get(&format!("/v2/models/{model}"))
            .await?
            .expect(200);
        assert_eq!(
            described.json["outputs"][0],
            json!({"name": name, "datatype": "FP32", "shape": shape})
        );
        let path = format!("/predict?model={model}&wait=60");
        let output = client
            .post_image(&path, png.clone())
            .await?
            .expect(200)
            .json["output"]
            .clone();
        let mut expected: Vec<f32> =
            serde_json::from_value(output["embedding"].clone()).unwrap_or_default();
        for found in output["boxes"].as_array().into_iter().flatten() {
            expected.extend(serde_json::from_value::<Vec<f32>>(found["box"].clone())?);
            expected.extend(
                [&found["score"], &found["index"]]
                    .map(|value| value.as_f64().unwrap_or(-1.0) as f32),
            );
        }
        let path = format!("/v2/models/{model}/infer");
        let answer = client.post_json(&path, &body).await?.expect(200);
        let values: Vec<f32> = serde_json::from_value(answer.json["outputs"][0]["data"].clone())?;
        ensure!(
            expected.len() >= 6 && values == expected,
            "{model}: {values:?}, not {expected:?}"
        );
    }
    Ok(())
}
