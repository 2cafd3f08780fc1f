//! How the pages look: on a phone, in the dark, to people who do not see them.

use std::sync::Arc;

use anyhow::ensure;
use selvage_tests::Deployment;
use selvage_tests::driver::Driver;
use selvage_tests::page::Page;

use super::home::samples;

/// A narrow phone.
const PHONE: (u32, u32) = (360, 740);

async fn fits(page: &Page, what: &str) -> anyhow::Result<()> {
    let widths = page
        .value("[document.documentElement.scrollWidth, innerWidth]")
        .await?;
    ensure!(
        widths[0] == widths[1],
        "{what} is wider than its window: {widths}"
    );
    Ok(())
}

/// How light the page's ground is, 0 to 255.
async fn lightness(page: &Page) -> anyhow::Result<f64> {
    let light = page
        .value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3")
        .await?;
    Ok(light.as_f64().unwrap_or(f64::NAN))
}

async fn send(page: &Page, count: usize) -> anyhow::Result<()> {
    let files = samples();
    let chosen: Vec<String> = files[..count]
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    page.find("#file")
        .await?
        .send_keys(&chosen.join("\n"))
        .await?;
    page.until_text("#count", &format!("{count} of {count} done"))
        .await;
    page.until(
        "the model's picture is there",
        "document.querySelector('#seen')?.naturalWidth === 28",
    )
    .await;
    Ok(())
}

pub(super) async fn phones_and_darkness(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    ensure!(lightness(&page).await? > 200.0, "the system is light");
    page.scheme("dark").await?;
    ensure!(lightness(&page).await? < 60.0, "the system is dark");
    page.click("#theme").await?;
    page.until_text("#theme", "Theme: light").await;
    ensure!(lightness(&page).await? > 200.0, "its user wants it light");
    page.reload().await?;
    ensure!(lightness(&page).await? > 200.0, "a choice lasts");
    page.click("#theme").await?;
    ensure!(lightness(&page).await? < 60.0, "its user wants it dark");
    page.size(PHONE.0, PHONE.1).await?;
    page.until_text(".photograph", "Take a photo").await;
    fits(&page, "the empty page").await?;
    send(&page, 4).await?;
    fits(&page, "the page with answers").await?;
    page.picture("phone-dark").await?;
    page.goto("/fleet").await?;
    page.until_text("#standing", "all is well").await;
    fits(&page, "the fleet").await?;
    page.picture("phone-fleet").await?;
    page.close(&[]).await
}

pub(super) async fn nothing_bars_people(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    let check = async |what: String| {
        let found = page.barriers().await?;
        ensure!(found.is_empty(), "{what}: {found:#?}");
        Ok(())
    };
    for scheme in ["light", "dark"] {
        page.scheme(scheme).await?;
        page.goto("/").await?;
        check(format!("empty, {scheme}")).await?;
        send(&page, 3).await?;
        check(format!("answers, {scheme}")).await?;
        let cut = tempfile::NamedTempFile::with_suffix(".txt")?;
        std::fs::write(cut.path(), "hello")?;
        page.find("#file")
            .await?
            .send_keys(&cut.path().display().to_string())
            .await?;
        page.until_text("#answer .error", "This kind of file").await;
        check(format!("error, {scheme}")).await?;
        page.goto("/fleet").await?;
        page.until_text("#standing", "all is well").await;
        check(format!("fleet, {scheme}")).await?;
    }
    on.with_gateways(|gateways| gateways[0].signal("KILL"));
    page.until_text("#standing", "Disconnected.").await;
    check("disconnected".to_owned()).await?;
    page.close(&[0, 415]).await
}
