//! The OpenAPI document is true: a stock tester makes requests of it and holds the answers against it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use image::ImageFormat;
use selvage_tests::{Deployment, Settings, Shape, keys, pictures, stock};

/// Longest time the tester may take; alone on two cores it takes about a minute and a half.
const TESTER_LIMIT: Duration = Duration::from_secs(600);
/// What is checked: each status, header, kind of content and body is described, nothing is a 5xx, and keys are asked for. What a
/// request may hold beyond its schema (the depth of its JSON, the content of an image, options told twice) is said in words,
/// and tested case by case in `gateway/tests/router`; the tester's checks of that would have to know it too.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,ignored_auth,unsupported_method,use_after_free";
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
        .args(["--checks", CHECKS, "--no-color"])
        .env("SCHEMATHESIS_HOOKS", "described")
        .env("PYTHONPATH", "tests/clients")
        .env("SELVAGE_PICTURES", folder.path());
    if on.shape == Shape::Fleet {
        tester.args(["--header", &format!("Authorization: Bearer {}", keys::ANN)]);
    }
    let said = stock::run(tester, TESTER_LIMIT).await?;
    println!("{said}");
    // That it ended well says that it found nothing; that it asked anything it says in words.
    ensure!(said.contains("Tested: "), "{said}");
    Ok(())
}
