//! Models: listed truthfully, chosen by name.

use std::sync::Arc;

use anyhow::Context;
use selvage_core::key::Digest;
use selvage_tests::program::project;
use selvage_tests::{Deployment, Settings, Shape, pictures};
use serde_json::json;

pub(super) async fn models_are_listed_with_their_rules(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let list = client.get("/models").await?.expect(200);
    let models = list.json["models"].as_array().context("models")?;
    let names: Vec<&str> = models
        .iter()
        .filter_map(|model| model["name"].as_str())
        .collect();
    assert_eq!(names, ["clothing", "fashion-mnist", "rgb-tiny"]);
    let model = client.get("/models/fashion-mnist").await?.expect(200).json;
    assert_eq!(model["labels"].as_array().map(Vec::len), Some(10));
    assert_eq!(model["labels"][9], "Ankle boot");
    assert_eq!(model["input"]["width"], 28);
    assert_eq!(model["input"]["channels"], "gray");
    assert!(
        model["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:"))
    );
    let workers = model["workers"].as_array().context("workers")?;
    let expected = if on.shape == Shape::Fleet { 2 } else { 1 };
    assert_eq!(workers.len(), expected, "{model}");
    client
        .get("/models/absent")
        .await?
        .expect_problem(404, "model_not_found");
    Ok(())
}

/// A picture of the data set is given to the model as it is, its negative too, and a photograph becomes such a picture.
pub(super) async fn the_input_is_what_the_model_is_given(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let seen = async |image: Vec<u8>| {
        let answer = client
            .post_image("/models/fashion-mnist/input", image)
            .await?
            .expect(200);
        assert_eq!(answer.header("content-type"), "image/png");
        anyhow::Ok(image::load_from_memory(&answer.body)?.to_luma8())
    };
    let boot = image::load_from_memory(&pictures::boot())?.to_luma8();
    assert_eq!(seen(pictures::boot()).await?, boot);
    let mut negative = image::DynamicImage::ImageLuma8(boot.clone());
    negative.invert();
    assert_eq!(
        seen(pictures::encode(&negative, image::ImageFormat::Png)).await?,
        boot
    );
    let photograph = pictures::encode(&pictures::boot_photograph(), image::ImageFormat::Jpeg);
    assert_eq!(seen(photograph).await?.dimensions(), (28, 28));
    client
        .post_image(
            "/models/fashion-mnist/input",
            pictures::boot()[..100].to_vec(),
        )
        .await?
        .expect_problem(422, "invalid_image");
    Ok(())
}

pub(super) async fn a_second_model_answers_by_name(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    for (color, label) in [
        ([220, 10, 10], "red"),
        ([10, 220, 10], "green"),
        ([10, 10, 220], "blue"),
    ] {
        let answer = client
            .post_image("/predict?model=rgb-tiny", pictures::plain_rgb(color, 3))
            .await?
            .expect(200);
        assert_eq!(answer.label(), label, "{}", answer.json);
        assert_eq!(answer.json["model"]["name"], "rgb-tiny");
    }
    client
        .post_image("/predict?model=absent", pictures::boot())
        .await?
        .expect_problem(404, "model_not_found");
    let other_version = json!({"image": "", "model": "fashion-mnist", "version": "none such"});
    assert!([400, 404].contains(&client.post_json("/predict", &other_version).await?.status));
    client
        .post_image(
            "/predict?model=fashion-mnist&version=none",
            pictures::boot(),
        )
        .await?
        .expect_problem(404, "model_not_found");
    Ok(())
}

/// The model variants of the fixtures, one of which never ends on a bright picture; nobody waits long for it.
pub(super) fn endless() -> Settings {
    let models = project().join("tests/fixtures/variants");
    Settings::default()
        .with("SELVAGE_MODELS", models.display())
        .with("SELVAGE_INFERENCE_TIMEOUT", 1)
}

pub(super) async fn an_inference_without_end_is_broken_off(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let bright = pictures::plain_rgb([255; 3], 3);
    client
        .post_image("/predict?model=endless&wait=60", bright)
        .await?
        .expect_problem(500, "inference_failed");
    // The same process goes on, with this model and with others.
    for model in ["endless", "free-sides"] {
        let dark = pictures::plain_rgb([10, 200, 10], 3);
        let answer = client
            .post_image(&format!("/predict?model={model}&wait=60"), dark)
            .await?
            .expect(200);
        assert_eq!(answer.json["model"]["name"], model);
    }
    Ok(())
}

/// One picture hangs its decoder for ever; nobody waits long for it.
pub(super) fn hanging_decoder() -> Settings {
    let digest = Digest::of(&pictures::poison()).to_hex();
    Settings::default()
        .with("SELVAGE_FAILPOINT", format!("decode@{digest}"))
        .with("SELVAGE_INFERENCE_TIMEOUT", 1)
}

/// Jobs of an embedded gateway are in its memory: it must outlive any image.
pub(super) async fn an_image_that_hangs_its_decoder_costs_no_other_job(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let submit = |image: Vec<u8>| client.post_image("/jobs", image);
    let hanging = submit(pictures::poison()).await?.expect(202);
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(submit(pictures::unique()).await?.expect(202));
    }
    let wait = |id: &str| format!("/jobs/{id}?wait=60");
    for job in &others {
        let ended = client.get(&wait(job.id())).await?.expect(200);
        assert_eq!(ended.json["status"], "succeeded", "{}", ended.json);
    }
    let ended = client.get(&wait(hanging.id())).await?.expect(200);
    assert_eq!(ended.json["error"]["code"], "poison", "{}", ended.json);
    client
        .post_image("/predict?wait=60", pictures::poison())
        .await?
        .expect_problem(500, "inference_failed");
    client
        .post_image("/predict?wait=60", pictures::unique())
        .await?
        .expect(200);
    Ok(())
}
