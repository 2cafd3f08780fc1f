//! The OpenAPI document is true: a stock tester makes requests of it and holds the answers against it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use image::ImageFormat;
use selvage_core::job::ModelName;
use selvage_core::queue::rabbit::testing::Broker;
use selvage_core::queue::suite;
use selvage_core::queue::wire;
use selvage_tests::services::Services;
use selvage_tests::{Deployment, Settings, Shape, keys, pictures, stock};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// Longest time the tester may take; alone on two cores it takes about a minute and a half.
const TESTER_LIMIT: Duration = Duration::from_secs(600);
/// How often a message is dead-lettered while the tester runs: it throws all of them away now and then.
const EACH_LETTER: Duration = Duration::from_millis(500);
const FORMATS: [(&str, ImageFormat); 5] = [
    ("png", ImageFormat::Png),
    ("jpeg", ImageFormat::Jpeg),
    ("webp", ImageFormat::WebP),
    ("gif", ImageFormat::Gif),
    ("bmp", ImageFormat::Bmp),
];

/// Jobs may have webhooks, which nobody takes.
fn telling(settings: Settings) -> Settings {
    settings
        .with("SELVAGE_WEBHOOK_SECRET", keys::WEBHOOK_SECRET)
        .with("SELVAGE_WEBHOOK_ALLOW_PRIVATE", true)
}

/// Everybody may ask.
pub(super) fn open() -> Settings {
    telling(Settings::default())
}

/// Only who has a key may ask.
pub(super) fn guarded() -> Settings {
    telling(keys::guarded())
}

pub(super) async fn every_answer_is_as_described(on: Arc<Deployment>) -> anyhow::Result<()> {
    match on.shape {
        Shape::Embedded => tested(&on, None).await,
        Shape::Fleet => {
            let stop = CancellationToken::new();
            let testing = async {
                let _until_tested = stop.clone().drop_guard();
                tested(&on, None).await
            };
            let dead_letters = dead_letters(on.prefix(), stop.clone());
            let (tested, dead_letter) = tokio::join!(testing, dead_letters);
            tested.and(dead_letter)
        }
    }
}

/// What admins ask, in one process that has no dead letters.
pub(super) async fn what_admins_are_answered_is_as_described(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    tested(&on, Some("^/admin/")).await
}

/// Dead-letters messages until `stop` fires, some with a job and some without, so that admins always have dead letters.
async fn dead_letters(prefix: String, stop: CancellationToken) -> anyhow::Result<()> {
    let url = Services::from_environment().amqp_url.parse();
    let url = url.map_err(anyhow::Error::msg)?;
    let prefix = prefix.parse().map_err(anyhow::Error::msg)?;
    let model: ModelName = "fashion-mnist".parse()?;
    let broker = Broker::connect(&url, prefix, vec![model.clone()]).await;
    let broker = broker.map_err(anyhow::Error::from_boxed)?;
    let mut pace = interval(EACH_LETTER);
    while stop.run_until_cancelled(pace.tick()).await.is_some() {
        let mut job = suite::submitted(suite::job(&model, 0));
        job.image = pictures::unique().into();
        for message in [&wire::encode_jobs(&[job])?[..], b"junk"] {
            let published = broker.publish(&broker.dead(), message).await;
            published.map_err(anyhow::Error::from_boxed)?;
        }
    }
    Ok(())
}

/// Runs the tester, on some paths or on all.
async fn tested(on: &Deployment, only: Option<&str>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // Not every format has grey pictures.
    let boot = image::DynamicImage::from(pictures::boot_pixels()).to_rgb8();
    for (name, format) in FORMATS {
        let picture = pictures::encode(&boot.clone().into(), format);
        std::fs::write(folder.path().join(format!("boot.{name}")), picture)?;
    }
    let mut tester = stock::program("st")?;
    tester
        .args(["--config-file", "tests/clients/schemathesis.toml", "run"])
        .arg(format!("http://{}/openapi.json", on.gateways[0]))
        .arg("--no-color")
        .args(only.iter().flat_map(|path| ["--include-path-regex", path]))
        .env("SELVAGE_KEY", keys::OPS)
        .env("SCHEMATHESIS_HOOKS", "described")
        .env("PYTHONPATH", "tests/clients")
        .env("SELVAGE_PICTURES", folder.path());
    let said = stock::run(tester, TESTER_LIMIT).await?;
    println!("{said}");
    // That it ended well says that it found nothing; that it asked anything it says in words.
    ensure!(said.contains("Tested: "), "{said}");
    Ok(())
}
