//! What is answered: the right labels, whatever way the picture is sent.

use std::sync::Arc;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use selvage_tests::{Answer, Deployment, pictures, program};
use serde_json::{Value, json};

pub(super) async fn a_boot_is_an_ankle_boot(on: Arc<Deployment>) -> anyhow::Result<()> {
    let answer = on
        .client()
        .post_image("/predict", pictures::boot())
        .await?
        .expect(200);
    assert_eq!(answer.label(), "Ankle boot");
    let job = &answer.json;
    assert_eq!(job["status"], "succeeded");
    assert_eq!(job["model"]["name"], "fashion-mnist");
    assert!(
        job["model"]["digest"]
            .as_str()
            .context("digest")?
            .starts_with("sha256:")
    );
    assert!(
        job["image_hash"]
            .as_str()
            .context("image_hash")?
            .starts_with("sha256:")
    );
    assert_eq!(job["output"]["index"], 9);
    assert!(job["output"]["score"].as_f64().context("score")? > 0.5);
    assert_eq!(job["output"]["top"][0]["label"], "Ankle boot");
    assert!(job["error"].is_null() && job["queue"].is_null());
    assert!(
        job.get("urls").is_none(),
        "an answer within the wait leaves no record to point to"
    );
    for time in ["created_at", "finished_at"] {
        assert!(job[time].as_str().context(time)?.ends_with('Z'), "{job}");
    }
    for span in ["queue_ms", "decode_ms", "inference_ms", "total_ms"] {
        assert!(job["timings"][span].as_f64().context(span)? >= 0.0);
    }
    let spans = answer.header("server-timing");
    assert!(
        ["queue;dur=", "decode;dur=", "infer;dur=", "total;dur="]
            .iter()
            .all(|s| spans.contains(s)),
        "{spans}"
    );
    assert_eq!(answer.header("content-type"), "application/json");
    Ok(())
}

pub(super) async fn scores_equal_those_of_another_runtime(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let path = program::project().join("tests/fixtures/fashion-mnist-reference.json");
    let reference: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    for name in pictures::SAMPLES {
        let expected = reference[pictures::probabilities()][name]
            .as_array()
            .context("a reference per sample")?;
        let answer = on
            .client()
            .post_image("/predict?top_k=10", pictures::sample(name))
            .await?
            .expect(200);
        assert_eq!(
            answer.json["model"]["digest"], reference["digest"],
            "the reference is of another model file"
        );
        let top = answer.json["output"]["top"].as_array().context("top")?;
        assert_eq!(top.len(), 10);
        for entry in top {
            let index = usize::try_from(entry["index"].as_u64().context("index")?)?;
            let (ours, theirs) = (
                entry["score"].as_f64().context("score")?,
                expected[index].as_f64().context("p")?,
            );
            assert!(
                (ours - theirs).abs() < 1e-4,
                "{name}, label {index}: {ours} here, {theirs} there"
            );
        }
    }
    Ok(())
}

pub(super) async fn every_body_form_gives_the_same_answer(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let picture = pictures::sample("1-trouser");
    let encoded = STANDARD.encode(&picture);
    let form = |name: &'static str| {
        let part = Part::bytes(picture.clone()).file_name("trouser.png");
        Form::new().text("top_k", "3").part(name, part)
    };
    let post = |form| client.send(client.request(Method::POST, "/predict").multipart(form));
    let answers = [
        client
            .post_image("/predict?top_k=3", picture.clone())
            .await?,
        post(form("image")).await?,
        post(form("file")).await?,
        client
            .post_json("/predict", &json!({"image": encoded, "top_k": 3}))
            .await?,
        client
            .post_json(
                "/predict",
                &json!({"image": format!("data:image/png;base64,{encoded}"), "top_k": 3}),
            )
            .await?,
    ];
    let outputs = answers.map(|answer| answer.expect(200).json["output"].clone());
    assert_eq!(outputs[0]["label"], "Trouser");
    assert!(
        outputs.iter().all(|output| output == &outputs[0]),
        "{outputs:?}"
    );
    Ok(())
}

pub(super) async fn every_format_gives_the_same_answer(on: Arc<Deployment>) -> anyhow::Result<()> {
    let boot = DynamicImage::ImageLuma8(pictures::boot_pixels());
    let gray = |format| pictures::encode(&boot, format);
    let color = |format| pictures::encode(&DynamicImage::ImageRgb8(boot.to_rgb8()), format);
    let bodies = [
        ("png", gray(ImageFormat::Png)),
        ("bmp", color(ImageFormat::Bmp)),
        ("webp", color(ImageFormat::WebP)),
        ("gif", color(ImageFormat::Gif)),
        ("jpeg", gray(ImageFormat::Jpeg)),
    ];
    for (format, body) in bodies {
        let answer = on.client().post_image("/predict", body).await?.expect(200);
        assert_eq!(answer.label(), "Ankle boot", "{format}");
    }
    Ok(())
}

pub(super) async fn a_photograph_on_white_is_recognised(on: Arc<Deployment>) -> anyhow::Result<()> {
    let photograph = pictures::boot_photograph();
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let answer = on
            .client()
            .post_image("/predict", pictures::encode(&photograph, format))
            .await?
            .expect(200);
        assert_eq!(answer.label(), "Ankle boot", "{format:?}: {}", answer.json);
    }
    Ok(())
}

pub(super) async fn orientation_in_exif_is_applied(on: Arc<Deployment>) -> anyhow::Result<()> {
    let upright = pictures::boot_photograph();
    // Orientation 6: the camera was turned, and viewers turn the picture by 90° clockwise (EXIF 2.32, tag 0x0112).
    let turned = pictures::encode(&upright.rotate270(), ImageFormat::Jpeg);
    let answer = on
        .client()
        .post_image("/predict", with_orientation(&turned, 6))
        .await?
        .expect(200);
    assert_eq!(answer.label(), "Ankle boot", "{}", answer.json);
    Ok(())
}

/// Puts an EXIF segment with nothing but the orientation behind a JPEG's start marker.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
    exif.extend_from_slice(&[
        0x12,
        0x01,
        0x03,
        0x00,
        0x01,
        0,
        0,
        0,
        orientation,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    let length = u16::try_from(exif.len() + 2)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

pub(super) async fn options_shape_the_answer_and_not_the_scores(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let image = STANDARD.encode(pictures::sample("8-bag"));
    let ask = |top_k: u32| {
        let body = json!({"image": image, "model": "fashion-mnist", "top_k": top_k, "metadata": {"order": 7, "tag": "ä"}});
        let client = client.clone();
        async move { anyhow::Ok(client.post_json("/predict", &body).await?.expect(200)) }
    };
    let scores = |answer: &Answer| {
        answer.json["output"]["top"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let (one, all) = (ask(1).await?, ask(1000).await?);
    assert_eq!((scores(&one).len(), scores(&all).len()), (1, 10));
    assert_eq!(scores(&one)[0], scores(&all)[0]);
    assert_eq!(one.json["metadata"], json!({"order": 7, "tag": "ä"}));
    let sum: f64 = scores(&all)
        .iter()
        .filter_map(|entry| entry["score"].as_f64())
        .sum();
    assert!((sum - 1.0).abs() < 1e-3, "probabilities sum to {sum}");
    Ok(())
}
