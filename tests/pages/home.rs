//! The home page: pictures in, answers out.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use fantoccini::key::Key;
use selvage_tests::driver::Driver;
use selvage_tests::program::project;
use selvage_tests::{Deployment, eventually, keys, pictures};
use serde_json::json;

/// The samples as files.
pub(super) fn samples() -> Vec<PathBuf> {
    let folder = project().join("models/fashion-mnist/samples");
    let entries = std::fs::read_dir(&folder).expect("the samples are part of the project");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

pub(super) async fn a_sample_is_answered(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    page.picture(&format!("{}-empty", on.shape.as_str()))
        .await?;
    page.click(".sample[title='Ankle boot']").await?;
    page.until_text("#answer .best", "Ankle boot").await;
    page.until_text("#answer .badge", "computed").await;
    page.until_text("#message", "Ankle boot").await;
    page.until(
        "what the model saw is 28 pixels wide",
        "document.querySelector('#seen')?.naturalWidth === 28",
    )
    .await;
    let bars = page
        .value("[...document.querySelectorAll('.bars li')].map((bar) => bar.lastChild.textContent)")
        .await?;
    let bars = bars.as_array().context("bars")?;
    let shares = bars
        .iter()
        .map(|share| share.as_str()?.strip_suffix(" %")?.parse::<f64>().ok());
    let shares: Option<Vec<f64>> = shares.collect();
    let shares = shares.with_context(|| format!("{bars:?}"))?;
    ensure!(
        shares.len() == 10 && shares.is_sorted_by(|a, b| a >= b),
        "{shares:?}"
    );
    ensure!(
        (shares.iter().sum::<f64>() - 100.0).abs() < 1.0,
        "{shares:?}"
    );
    let parts = page.value("[...document.querySelectorAll('.legend li span:nth-child(2)')].map((part) => part.textContent)").await?;
    ensure!(
        parts == json!(["queue", "batch wait", "decode", "inference", "network"]),
        "{parts}"
    );
    page.picture(&format!("{}-answer", on.shape.as_str()))
        .await?;

    page.click(".sample[title='Ankle boot']").await?;
    page.until_text("#answer .badge", "cached").await;
    page.click("#skip-cache").await?;
    page.click(".sample[title='Ankle boot']").await?;
    page.until_text("#answer .badge", "computed").await;
    page.until_text("#snippet", "cache-control: no-cache").await;
    page.close(&[]).await
}

pub(super) async fn pictures_come_by_drop_paste_and_choice(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    let files = samples();
    page.drop_files("#drop", &files[1..2]).await?;
    page.until_text("#answer .best", "Trouser").await;

    let bytes =
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, std::fs::read(&files[8])?);
    let paste = "const [base64, done] = arguments; \
         const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)); \
         const clipboardData = new DataTransfer(); \
         clipboardData.items.add(new File([bytes], 'image.png', { type: 'image/png' })); \
         document.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true })); done();";
    page.run(paste, vec![json!(bytes)]).await?;
    page.until_text("#answer .best", "Bag").await;

    let chosen = files[5].display().to_string();
    page.find("#file").await?.send_keys(&chosen).await?;
    page.until_text("#answer .best", "Sandal").await;

    let photograph = tempfile::tempdir()?;
    let file = photograph.path().join("photograph.jpg");
    let picture = pictures::encode(&pictures::boot_photograph(), image::ImageFormat::Jpeg);
    std::fs::write(&file, picture)?;
    page.find("#camera")
        .await?
        .send_keys(&file.display().to_string())
        .await?;
    page.until_text("figcaption", "photograph.jpg").await;
    page.until_text("#answer .best", "Ankle boot").await;
    page.until(
        "what the model saw is shown",
        "document.querySelector('#seen')?.naturalWidth === 28",
    )
    .await;
    page.picture("photograph").await?;
    page.close(&[]).await
}

/// A detector's boxes lie on the picture; of a vector its length and first values are shown.
pub(super) async fn boxes_and_vectors_are_shown(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    let file = project().join("tests/fixtures/tasks/upright.png");
    for (model, text) in [
        ("nms-inside", "10 crane, 1 kite"),
        ("embed", "Vector of 16 values"),
        ("multilabel", "crane, kite"),
    ] {
        page.until(
            "the model can be chosen",
            &format!("document.querySelector('#model option[value=\"{model}\"]') !== null"),
        )
        .await;
        page.click(&format!("#model option[value='{model}']"))
            .await?;
        page.find("#file")
            .await?
            .send_keys(&file.display().to_string())
            .await?;
        page.until_text("#answer .best", text).await;
        let drawn = page
            .value("document.querySelectorAll('#answer .boxes rect').length")
            .await?;
        ensure!(
            drawn == if model == "nms-inside" { 11 } else { 0 },
            "{model}: {drawn}"
        );
    }
    page.close(&[]).await
}

pub(super) async fn many_pictures_become_a_table_and_its_files(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    let downloads = page.downloads().await?;
    let odd = tempfile::tempdir()?;
    let file = odd.path().join("=a \"note\", no picture.txt");
    std::fs::write(&file, "hello")?;
    let mut files = samples();
    files.push(file);
    let chosen: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    page.find("#file")
        .await?
        .send_keys(&chosen.join("\n"))
        .await?;
    page.until_text("#count", "11 of 11 done").await;
    page.until_text("#message", "All 11 pictures are done.")
        .await;
    let answers = page
        .value("[...document.querySelectorAll('#rows tr td:nth-child(2)')].map((cell) => cell.textContent)")
        .await?;
    ensure!(
        answers[5] == "Sandal" && answers[9] == "Ankle boot",
        "{answers}"
    );
    page.picture("table").await?;
    page.click("#rows tr:nth-child(6) .link").await?;
    page.until_text("#answer .best", "Sandal").await;

    page.click("#csv").await?;
    page.click("#json").await?;
    let read = |name: &'static str| {
        let file = downloads.join(name);
        async move {
            let whole = || {
                let file = file.clone();
                async move {
                    std::fs::read_to_string(file)
                        .ok()
                        .filter(|text| !text.is_empty())
                }
            };
            eventually(
                "the download ends",
                std::time::Duration::from_secs(30),
                whole,
            )
            .await
        }
    };
    let csv = read("selvage.csv").await;
    let lines: Vec<&str> = csv.trim_end().split("\r\n").collect();
    ensure!(lines.len() == 12, "{csv}");
    ensure!(
        lines[0].starts_with("name,status,label,score,cached,model,image_hash"),
        "{csv}"
    );
    ensure!(
        lines[10].starts_with("9-ankle-boot.png,succeeded,Ankle boot,0.9"),
        "{csv}"
    );
    ensure!(
        lines[11].starts_with("\"'=a \"\"note\"\", no picture.txt\",failed,,"),
        "{csv}"
    );
    let entries: serde_json::Value = serde_json::from_str(&read("selvage.json").await)?;
    ensure!(entries[9]["job"]["output"]["index"] == 9, "{entries}");

    page.click("#clear").await?;
    page.until(
        "the table is gone",
        "document.querySelector('#many').hidden && document.querySelector('#answer').hidden",
    )
    .await;
    page.close(&[415]).await
}

pub(super) async fn errors_are_sentences(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    let folder = tempfile::tempdir()?;
    let boot = pictures::boot();
    for (name, content, sentence) in [
        (
            "note.txt",
            b"hello".to_vec(),
            "This kind of file is not taken",
        ),
        (
            "cut.png",
            boot[..boot.len() / 2].to_vec(),
            "This is not a picture that can be read",
        ),
        ("empty.png", Vec::new(), "This file is empty"),
        (
            "wide.png",
            pictures::lying_png(60_000, 60_000),
            "This picture has too many pixels",
        ),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, content)?;
        page.find("#file")
            .await?
            .send_keys(&file.display().to_string())
            .await?;
        page.until_text("figcaption", name).await;
        page.until_text("#answer .error", sentence).await;
        page.until_text("#message.error", sentence).await;
        page.picture(&format!("error-{name}")).await?;
    }
    on.with_gateways(Vec::clear);
    let file = &samples()[0];
    page.find("#file")
        .await?
        .send_keys(&file.display().to_string())
        .await?;
    page.until_text("#answer .error", "The gateway cannot be reached.")
        .await;
    page.close(&[400, 415, 422, 0]).await
}

pub(super) async fn the_keyboard_is_enough(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    let mut passed = Vec::new();
    while page.value("document.activeElement.title").await? != "Trouser" {
        page.press(Key::Tab).await?;
        let focused = page.value("document.activeElement.id || document.activeElement.title || document.activeElement.textContent").await?;
        ensure!(
            passed.len() < 20,
            "the samples are out of reach: {passed:?}"
        );
        passed.push(focused.to_string());
    }
    page.press(Key::Enter).await?;
    page.until_text("#answer .best", "Trouser").await;
    page.value("document.querySelector('#tab-curl').focus()")
        .await?;
    page.until_text("#snippet", "curl --data-binary").await;
    for (language, text) in [("Python", "urllib.request"), ("JavaScript", "await fetch(")] {
        page.press(Key::Right).await?;
        page.until_text("#snippet", text).await;
        let focused = page.value("document.activeElement.textContent").await?;
        ensure!(focused == language, "{focused}");
    }
    page.devtools(
        "Browser.grantPermissions",
        json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}),
    )
    .await?;
    page.click("#copy").await?;
    page.until_text("#message", "Copied.").await;
    let read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)));";
    let copied = page.run(read, Vec::new()).await?;
    let shown = page
        .value("document.querySelector('#snippet').textContent")
        .await?;
    ensure!(copied == shown, "{copied}");
    page.close(&[]).await
}

pub(super) async fn a_key_is_asked_for_where_one_is_needed(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    page.until_text("#message", "This gateway wants an API key")
        .await;
    page.click(".sample[title='Bag']").await?;
    page.until_text("#answer .error", "This gateway wants an API key")
        .await;
    page.picture("locked").await?;
    page.find("#key")
        .await?
        .send_keys(&format!("{}\u{e007}", keys::ANN))
        .await?;
    page.until_text("#answer .best", "Bag").await;
    page.until_text("#snippet", "authorization: Bearer $SELVAGE_KEY")
        .await;
    let html = page.value("document.documentElement.outerHTML").await?;
    ensure!(!html.to_string().contains(keys::ANN), "the key is shown");
    page.close(&[401]).await
}
