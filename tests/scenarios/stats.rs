//! The fleet in numbers, over real connections.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use reqwest::Method;
use selvage_tests::{Client, Deployment, Shape, eventually, pictures};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Requests each gateway answers.
const ANSWERS: u64 = 12;

/// Events of a stream until one satisfies the condition.
async fn until(client: &Client, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let opened = client.request(Method::GET, "/stats/events").send().await?;
    anyhow::ensure!(opened.status() == 200, "{}", opened.status());
    let (mut stream, mut text) = (opened, String::new());
    while let Some(chunk) = stream.chunk().await? {
        text.push_str(std::str::from_utf8(&chunk)?);
        while let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            let stats: Value = serde_json::from_str(data.unwrap_or_default())?;
            if wanted(&stats) {
                return Ok(stats);
            }
            text = rest.to_owned();
        }
    }
    anyhow::bail!("the stream ended")
}

/// Whichever gateway is asked, it tells of all.
pub(super) async fn numbers_are_those_of_the_whole_fleet(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (one, other) = (on.client(), on.other_client());
    for client in [&one, &other] {
        let asked = (0..ANSWERS).map(|_| client.post_image("/predict", pictures::unique()));
        for answer in try_join_all(asked).await? {
            answer.expect(200);
        }
    }
    let gateways = on.gateways.len();
    let workers = match on.shape {
        Shape::Embedded => 1,
        Shape::Fleet => 2,
    };
    let count = |stats: &Value, path: &str| stats.pointer(path).and_then(Value::as_u64);
    let complete = |stats: &Value| {
        let listed = |path: &str| stats[path].as_array().map_or(0, Vec::len);
        listed("gateways") == gateways
            && listed("workers") == workers
            && count(stats, "/jobs/succeeded") >= Some(2 * ANSWERS)
            && count(stats, "/latency_ms/count") >= Some(2 * ANSWERS)
    };
    for client in [&one, &other] {
        let reported = tokio::time::timeout(LIMIT, until(client, complete)).await;
        let reported = reported.context("the numbers never became those of the whole fleet")??;
        // On a busy machine a process may have fallen silent since.
        let asked = || async {
            let shown = client.get("/stats").await.ok()?.json;
            complete(&shown).then_some(shown)
        };
        let shown = eventually("the numbers are those of the whole fleet", LIMIT, asked).await;
        for stats in [reported, shown] {
            assert!(complete(&stats), "{stats}");
            let answering = stats["gateways"].as_array().into_iter().flatten();
            assert_eq!(
                answering
                    .filter(|gateway| gateway["answering"] == true)
                    .count(),
                1
            );
            let ok = serde_json::json!({"broker": "ok", "store": "ok", "cache": "ok"});
            assert_eq!(stats["dependencies"], ok);
            let held = stats.pointer("/workers/0/models/0").context("a model")?;
            assert!(held["mean_batch"].is_null() || held["mean_batch"].as_f64() >= Some(1.0));
        }
    }
    Ok(())
}

/// A gateway that was asked to stop is off the list before its silence would show; one that was killed soon after.
pub(super) async fn gateways_that_end_leave_the_list(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let listed = |count: usize| {
        let client = client.clone();
        move || {
            let client = client.clone();
            async move {
                let stats = client.get("/stats").await.ok()?.json;
                (stats["gateways"].as_array()?.len() == count).then_some(())
            }
        }
    };
    eventually("both gateways are listed", LIMIT, listed(2)).await;
    on.with_gateways(|gateways| gateways[1].signal("TERM"));
    eventually("the drained gateway is gone", LIMIT, listed(1)).await;
    Ok(())
}
