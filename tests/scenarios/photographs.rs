//! Photographs of clothes, classified by the model for them.

use std::sync::Arc;

use anyhow::Context;
use selvage_tests::program::project;
use selvage_tests::scrape::Scrape;
use selvage_tests::{Deployment, pictures};
use serde_json::Value;

/// Most a score may differ from Python's for the same pixels.
const TOLERANCE: f64 = 1e-3;
/// Where Python's best score leads by so much, the label is the same for a JPEG too: its decoder rounds some values by one
/// level otherwise, which in int8 can move a score by a tenth.
const LEAD: f64 = 0.2;

pub(super) async fn photographs_are_classified_as_in_python(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let file = project().join("tests/fixtures/clothing-reference.json");
    let reference: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let expected = reference[pictures::probabilities()]
        .as_object()
        .context("pictures")?;
    assert_eq!(expected.len(), pictures::PHOTOGRAPHS.len() + 2);
    for (path, scores) in expected {
        let jpeg = std::fs::read(project().join(path))?;
        let answer = on
            .client()
            .post_image("/predict?model=clothing&top_k=10", jpeg)
            .await?
            .expect(200);
        assert_eq!(
            answer.json["model"]["digest"], reference["digest"],
            "the reference is of another model file"
        );
        let top = answer.json["output"]["top"].as_array().context("top")?;
        assert_eq!(top.len(), 10);
        let theirs = |index: usize| scores[index].as_f64().context("p");
        let best = usize::try_from(top[0]["index"].as_u64().context("index")?)?;
        for entry in top {
            let index = usize::try_from(entry["index"].as_u64().context("index")?)?;
            let (ours, expected) = (entry["score"].as_f64().context("score")?, theirs(index)?);
            assert!(
                (ours - expected).abs() < TOLERANCE || path.ends_with(".jpg"),
                "{path}, label {index}: {ours} here, {expected} there"
            );
            assert!(
                expected - theirs(best)? < LEAD,
                "{path}: label {best} here, {index} there"
            );
        }
    }
    Ok(())
}

pub(super) async fn pictures_with_faults_are_classified_as_in_python(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    // Nearly all were made of the same photograph. Python's best score leads by 0.27 and more.
    let label = |name: &str| match name {
        _ if name.starts_with("i-adobergb") => "outwear",
        _ if name.starts_with("k-nonint") => "dress",
        "k-422-jpegtran-prog-pants.jpg" => "longsleeve",
        "k-422-jpegtran-prog-shoes.jpg" => "shoes",
        _ => "hat",
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(project().join("tests/fixtures/images"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "expected.json" {
            continue;
        }
        for (model, label) in [("clothing", Some(label(&name))), ("fashion-mnist", None)] {
            let answer = on
                .client()
                .post_image(
                    &format!("/predict?model={model}"),
                    std::fs::read(entry.path())?,
                )
                .await
                .with_context(|| name.clone())?
                .expect(200);
            let found = answer.json["output"]["top"][0]["label"].as_str();
            assert!(label.is_none() || found == label, "{name}: {found:?}");
        }
        seen += 1;
    }
    assert_eq!(seen, 28);
    // Two files lack their end mark, and two models have seen each.
    let workers = Scrape::of_workers(&on).await?;
    let lacking_end = workers.sum("selvage_worker_images_without_end_total", &[]);
    assert!(lacking_end >= 4.0, "{lacking_end}");
    Ok(())
}
