//! Jobs of the home page that take their time: followed, found again, canceled, refused for a while.

use std::sync::Arc;

use anyhow::ensure;
use selvage_tests::driver::Driver;
use selvage_tests::page::Page;
use selvage_tests::{Deployment, pictures};

use super::home::samples;

async fn choose(page: &Page, count: usize) -> anyhow::Result<()> {
    let files = samples();
    let chosen: Vec<String> = files[..count]
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    page.find("#file")
        .await?
        .send_keys(&chosen.join("\n"))
        .await?;
    Ok(())
}

pub(super) async fn a_job_survives_a_reload(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    page.click("#background").await?;
    choose(&page, 3).await?;
    page.until(
        "three jobs are kept",
        "JSON.parse(sessionStorage.getItem('selvage.jobs') ?? '[]').length === 3",
    )
    .await;
    page.until_text("#answer", "Queued").await;
    page.until_text("#snippet", "/jobs?").await;
    page.picture("queued").await?;
    page.reload().await?;
    page.until_text("#count", "0 of 3 done").await;
    page.until_text("#rows", "Queued").await;
    on.add_workers(1);
    page.until_text("#count", "3 of 3 done").await;
    for answer in ["T-shirt/top", "Trouser", "Pullover"] {
        page.until_text("#rows td", answer).await;
    }
    page.picture("resumed").await?;
    // An ended job is found again as well, until it is taken off the page.
    page.reload().await?;
    page.until_text("#count", "3 of 3 done").await;
    page.click("#clear").await?;
    page.reload().await?;
    page.until_text("#message", "No picture yet.").await;
    page.close(&[]).await
}

pub(super) async fn what_waits_can_be_canceled(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    // A request that is waited for ends with its client.
    choose(&page, 1).await?;
    page.until_text("#answer", "Asking").await;
    page.click("#answer button").await?;
    page.until_text("#answer", "Canceled.").await;
    // A job is canceled at the gateway, also one whose stream waits for its turn.
    page.click("#background").await?;
    choose(&page, 4).await?;
    page.until(
        "four jobs are kept",
        "JSON.parse(sessionStorage.getItem('selvage.jobs') ?? '[]').length === 4",
    )
    .await;
    page.picture("before-cancel").await?;
    page.click("#cancel-all").await?;
    page.until_text("#count", "5 of 5 done").await;
    page.picture("canceled").await?;
    let kept = page
        .value("JSON.parse(sessionStorage.getItem('selvage.jobs')).map(({ url }) => url)")
        .await?;
    for url in kept.as_array().into_iter().flatten() {
        let job = on
            .client()
            .get(url.as_str().unwrap_or_default())
            .await?
            .expect(200);
        ensure!(job.json["status"] == "canceled", "{}", job.json);
    }
    page.close(&[]).await
}

pub(super) async fn a_full_queue_is_waited_out(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let client = on.client();
    let holder = client.post_image("/predict?wait=60", pictures::unique());
    let seen = async {
        let page = driver.open(on.gateways[0], "/").await?;
        loop {
            let stats = client.get("/stats").await?.json.to_string();
            if stats.contains("\"in_flight\":1") {
                break;
            }
        }
        page.click(".sample[title='Coat']").await?;
        page.until_text("#answer", "The queue is full").await;
        page.until_text("#answer", "Retrying in 1 s.").await;
        page.picture("full").await?;
        on.add_workers(1);
        page.until_text("#answer .best", "Coat").await;
        page.close(&[429]).await
    };
    let (held, seen) = futures_util::join!(holder, seen);
    held?.expect(200);
    seen
}
