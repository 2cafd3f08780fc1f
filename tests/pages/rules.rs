//! That the rules every page is held to can be broken, and that this is seen.

use std::sync::Arc;

use anyhow::ensure;
use selvage_tests::Deployment;
use selvage_tests::driver::Driver;

pub(super) async fn a_page_that_breaks_the_rules_is_caught(
    on: Arc<Deployment>,
    driver: Arc<Driver>,
) -> anyhow::Result<()> {
    let page = driver.open(on.gateways[0], "/").await?;
    ensure!(
        page.offences(&[]).await?.is_empty(),
        "nothing has been done"
    );
    for (what, script) in [
        (
            "console: ",
            "setTimeout(() => { throw new Error('a mistake'); })",
        ),
        (
            "Content Security Policy",
            "document.head.append(Object.assign(document.createElement('style'), { textContent: 'p {}' }))",
        ),
        (
            "Content Security Policy",
            "fetch('http://elsewhere.invalid/').catch(() => {})",
        ),
        (
            "request: http://elsewhere.invalid/",
            "location.assign('http://elsewhere.invalid/')",
        ),
    ] {
        page.value(&format!("void ({script})")).await?;
        let seen = async || {
            let offences = page.offences(&[]).await.ok()?;
            offences
                .iter()
                .any(|offence| offence.contains(what))
                .then_some(())
        };
        selvage_tests::eventually(what, std::time::Duration::from_secs(30), seen).await;
    }
    let barrier = driver.open(on.gateways[0], "/").await?;
    barrier
        .value("document.querySelector('#model').labels[0].remove()")
        .await?;
    let found = barrier.barriers().await?;
    ensure!(
        found.iter().any(|line| line.starts_with("select-name")),
        "{found:#?}"
    );
    barrier.close(&[]).await
}
