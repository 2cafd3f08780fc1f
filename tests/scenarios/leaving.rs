//! Clients that leave before their answer.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use selvage_tests::{Client, Deployment, Shape, eventually, pictures};
use serde_json::json;

/// Longest time until all jobs that were left are heard of.
const LIMIT: Duration = Duration::from_secs(50);
/// The model with small batches: few jobs are in a worker's hands, the others wait for it.
const MODEL: &str = "rgb-tiny";
/// Batches that are sent at once, of 64 pictures each: seconds of work.
const BATCHES: usize = 8;
/// All their jobs.
const JOBS: f64 = 64.0 * BATCHES as f64;

/// Waits until the first gateway's metric says so.
async fn until(client: &Client, what: &str, metric: &str, is_it: fn(f64) -> bool) {
    eventually(what, LIMIT, || async {
        is_it(client.metric(metric, "").await.ok()?).then_some(())
    })
    .await;
}

/// Jobs whose clients leave while they wait for a worker are never run: their answers are not in the cache.
pub(super) async fn what_nobody_waits_for_is_not_run(on: Arc<Deployment>) -> anyhow::Result<()> {
    let client = on.client();
    let black = pictures::laborious();
    let batch = || {
        (0..64)
            .map(|_| pictures::renewed(&black))
            .collect::<Vec<_>>()
    };
    let batches: Vec<Vec<Vec<u8>>> = (0..BATCHES).map(|_| batch()).collect();
    let mut waiting = tokio::task::JoinSet::new();
    for batch in &batches {
        let images: Vec<String> = batch
            .iter()
            .map(|png| BASE64_STANDARD.encode(png))
            .collect();
        let (client, body) = (client.clone(), json!({"images": images, "model": MODEL}));
        waiting.spawn(async move { client.post_json("/predict/batch?wait=60", &body).await });
    }
    // Without a worker all are in flight together; an embedded gateway may have run the first before the last came.
    let came = match on.shape {
        Shape::Fleet => "selvage_gateway_in_flight",
        Shape::Embedded => "selvage_gateway_cache_misses_total",
    };
    until(&client, "all came", came, |jobs| jobs == JOBS).await;
    waiting.shutdown().await;
    let abandoned = "selvage_gateway_jobs_abandoned_total";
    until(&client, "jobs are abandoned", abandoned, |jobs| jobs >= 1.0).await;
    if on.shape == Shape::Fleet {
        on.add_workers(1);
    }
    let in_flight = "selvage_gateway_in_flight";
    until(&client, "all are heard of", in_flight, |jobs| jobs == 0.0).await;
    let mut misses = 0;
    for batch in &batches {
        let ask = format!("/predict?wait=60&model={MODEL}");
        let answer = client
            .post_image(&ask, batch[63].clone())
            .await?
            .expect(200);
        misses += usize::from(answer.header("cache-status").contains("fwd=uri-miss"));
    }
    let abandoned = client.metric(abandoned, "").await?;
    println!("{abandoned} of {JOBS} jobs were abandoned");
    match on.shape {
        Shape::Fleet => assert_eq!((misses, abandoned), (BATCHES, JOBS)),
        Shape::Embedded => assert!(misses >= 1, "all were run for nobody"),
    }
    Ok(())
}
