//! The fleet's page: what it shows, and what it says when something is not there.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use selvage_tests::driver::Driver;
use selvage_tests::private::{Private, Service};
use selvage_tests::{Deployment, Settings, pictures};
use serde_json::json;

const WORKERS: &str = "document.querySelectorAll('#workers tr').length";

pub(super) async fn workers_come_and_go_before_ones_eyes(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/fleet").await?;
    page.until_text("#standing", "all is well").await;
    page.until_text("#standing", "2 gateways, 2 workers").await;
    // A worker shows a row per model, and there are three models.
    page.until("two workers are shown", &format!("{WORKERS} === 6"))
        .await;
    for _ in 0..20 {
        on.client()
            .post_image("/predict", pictures::unique())
            .await?
            .expect(200);
    }
    page.until("jobs are counted", "[...document.querySelectorAll('#workers tr td:nth-child(6)')].reduce((sum, cell) => sum + Number(cell.textContent), 0) >= 20")
        .await;
    page.until(
        "a line is drawn",
        "document.querySelector('.line.infer').getAttribute('d').includes('L')",
    )
    .await;
    page.picture("fleet").await?;
    // The limit of two seconds is a test in simulated time (router: stats); here it is seen, however busy
    // the machine is, and how long it took is printed.
    for signal in ["TERM", "KILL"] {
        let begun = Instant::now();
        on.add_workers(1);
        page.until("the third appears", &format!("{WORKERS} === 9"))
            .await;
        let appeared = begun.elapsed();
        let begun = Instant::now();
        on.with_workers(|workers| workers[2].signal(signal));
        page.until("it vanishes", &format!("{WORKERS} === 6")).await;
        let vanished = begun.elapsed();
        println!(
            "shown {appeared:?} after its start, models loaded; off the page {vanished:?} after {signal}"
        );
        on.with_workers(|workers| drop(workers.pop()));
    }
    page.until_text("#standing", "is lost").await;
    page.until_text("#events", "has left").await;
    page.picture("fleet-worker-lost").await?;
    on.add_workers(1);
    page.until_text("#standing", "all is well").await;
    on.with_workers(|workers| {
        workers[2].signal("TERM");
        drop(workers.pop());
    });
    // What the gateway has kept is there for the next visit.
    page.reload().await?;
    page.until_text("#events", "is lost").await;
    page.close(&[]).await
}

pub(super) async fn one_process_is_shown_too(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/fleet").await?;
    page.until_text("#standing", "One process").await;
    page.until("one worker is shown", &format!("{WORKERS} === 3"))
        .await;
    let rows = page
        .value(
            "[...document.querySelectorAll('#queues tr')].map((row) => row.children[1].textContent)",
        )
        .await?;
    ensure!(rows == json!(["interactive", "batch"].repeat(3)), "{rows}");
    page.close(&[]).await
}

/// On services of its own: nobody else's broker is to be killed.
pub(super) async fn a_killed_broker_is_said_plainly(
    _: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let private = Arc::new(tokio::task::spawn_blocking(Private::start).await?);
    let control = async |action: &'static str| {
        let private = Arc::clone(&private);
        tokio::task::spawn_blocking(move || private.control(Service::Broker, action)).await
    };
    let settings = Settings::default().workers(1);
    let on = Deployment::start_on(Some(private.services()), settings).await;
    let page = driver.open(on.gateways[0], "/fleet").await?;
    page.until_text("#standing", "all is well").await;
    control("kill").await?;
    page.until_text("#standing", "The broker is down").await;
    page.until_text("#dependencies .badge.down", "down").await;
    page.picture("fleet-broker-down").await?;
    control("start").await?;
    page.until_text("#standing", "all is well").await;
    page.close(&[]).await
}

pub(super) async fn a_gateway_that_is_gone_is_said_plainly(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/fleet").await?;
    page.until_text("#standing", "all is well").await;
    on.with_gateways(|gateways| gateways[0].signal("KILL"));
    page.until_text("#standing", "Disconnected.").await;
    page.until_text("#standing", "What is shown is from").await;
    page.picture("fleet-disconnected").await?;
    let ended =
        on.with_gateways(|gateways| gateways[0].wait_for_end(std::time::Duration::from_secs(10)));
    ensure!(!ended.success(), "{ended}");
    on.revive_gateways();
    page.until_text("#standing", "all is well").await;
    page.close(&[0]).await
}
