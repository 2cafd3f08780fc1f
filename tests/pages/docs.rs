//! The viewer of the API's document: what it shows, and that a request can be made from it.

use std::sync::Arc;

use anyhow::{Context, ensure};
use selvage_tests::Deployment;
use selvage_tests::driver::Driver;

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

pub(super) async fn every_operation_is_shown_and_can_be_tried(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let document = on.client().get("/openapi.json").await?.expect(200).json;
    let paths = document["paths"].as_object().context("paths")?;
    let mut described = Vec::new();
    for (path, item) in paths {
        let methods = item.as_object().context("a path's operations")?.keys();
        let methods = methods.filter(|method| METHODS.contains(&method.as_str()));
        described.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    described.sort();
    let page = driver.open(on.gateways[0], "/docs").await?;
    let shown = page
        .value(
            "[...document.querySelectorAll('.opblock')].map((block) => \
             `${block.querySelector('.opblock-summary-method').textContent} \
              ${block.querySelector('.opblock-summary-path').dataset.path}`.replace(/\\s+/g, ' '))",
        )
        .await?;
    let mut shown: Vec<String> = serde_json::from_value(shown)?;
    shown.sort();
    ensure!(shown == described, "{shown:#?}, not {described:#?}");

    let models = "[...document.querySelectorAll('.opblock')].find((block) => \
                  block.querySelector('.opblock-summary-path').dataset.path === '/models')";
    page.value(&format!(
        "{models}.querySelector('.opblock-summary-control').click()"
    ))
    .await?;
    page.until_text(".opblock.is-open", "Responses").await;
    page.click(".opblock.is-open .try-out__btn").await?;
    page.until(
        "it can be asked",
        "document.querySelector('.opblock.is-open .execute') !== null",
    )
    .await;
    page.click(".opblock.is-open .execute").await?;
    page.until_text(
        ".opblock.is-open .live-responses-table .response-col_status",
        "200",
    )
    .await;
    page.until_text(".opblock.is-open .live-responses-table", "fashion-mnist")
        .await;
    page.picture("docs").await?;
    page.close(&[]).await
}
