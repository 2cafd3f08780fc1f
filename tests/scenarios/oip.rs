//! The Open Inference Protocol: what a tensor is answered is what the same picture is answered.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use selvage_tests::{Deployment, pictures, program};
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest time the stock client may take for all it asks.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);

pub(super) async fn the_stock_client_gets_the_scores_of_predict(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let python = program::project().join(".venv-clients/bin/python");
    ensure!(
        python.is_file(),
        "run scripts/clients first: it installs the stock client"
    );
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
    let client = Command::new(python)
        .arg(program::project().join("tests/clients/triton.py"))
        .arg(on.gateways[0].to_string())
        .args([png, raw])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(CLIENT_LIMIT, client)
        .await
        .context("the client hangs")??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.contains("all checks held"),
        "{said}"
    );
    Ok(())
}

pub(super) async fn colours_are_taken_in_the_layout_of_the_model(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    for (place, color) in [[250, 3, 7], [4, 240, 9], [1, 2, 230]]
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
        assert_eq!(predicted.json["output"]["index"], place);
        assert_eq!(
            scores[place], predicted.json["output"]["score"],
            "{}",
            answer.json
        );
    }
    Ok(())
}
