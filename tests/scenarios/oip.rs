//! The Open Inference Protocol: what a tensor is answered is what the same picture is answered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use selvage_tests::{Deployment, keys, pictures, stock};
use serde_json::json;

/// Longest time the stock client may take for all it asks.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);

pub(super) async fn the_stock_client_gets_the_scores_of_predict(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let said = stock_client(&on, None).await?;
    ensure!(said.contains("all checks held"), "{said}");
    Ok(())
}

/// It is given the key as a user gives it: as a header of each call.
pub(super) async fn the_stock_client_needs_a_key_where_keys_are_needed(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let said = stock_client(&on, Some(keys::ANN)).await?;
    ensure!(said.contains("all checks held"), "{said}");
    ensure!(said.contains("without a key: 401"), "{said}");
    Ok(())
}

async fn stock_client(on: &Deployment, key: Option<&str>) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let (png, raw) = (
        folder.path().join("boot.png"),
        folder.path().join("boot.raw"),
    );
    let pixels = pictures::boot_pixels();
    std::fs::write(
        &png,
        pictures::encode(&pixels.clone().into(), image::ImageFormat::Png),
    )?;
    std::fs::write(&raw, pixels.as_raw())?;
    let mut client = stock::python("tests/clients/triton.py")?;
    client
        .arg(on.gateways[0].to_string())
        .args([png, raw])
        .args(key);
    stock::run(client, CLIENT_LIMIT).await
}

pub(super) async fn colours_are_taken_in_the_layout_of_the_model(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    for (index, color) in [[250, 3, 7], [4, 240, 9], [1, 2, 230]]
        .into_iter()
        .enumerate()
    {
        let picture = image::RgbImage::from_pixel(8, 8, image::Rgb(color));
        let png = pictures::encode(&picture.clone().into(), image::ImageFormat::Png);
        let predicted = client
            .post_image("/predict?model=rgb-tiny", png)
            .await?
            .expect(200);
        let input = json!({"name": "input", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": picture.as_raw()});
        let body = json!({"inputs": [input]});
        let metadata = client.get("/v2/models/rgb-tiny").await?.expect(200);
        assert_eq!(metadata.json["inputs"][0]["shape"], json!([-1, 8, 8, 3]));
        let answer = client
            .post_json("/v2/models/rgb-tiny/infer", &body)
            .await?
            .expect(200);
        let scores = answer.json["outputs"][0]["data"]
            .as_array()
            .context("data")?;
        assert_eq!(predicted.json["output"]["index"], index);
        assert_eq!(
            scores[index], predicted.json["output"]["score"],
            "{}",
            answer.json
        );
    }
    Ok(())
}
