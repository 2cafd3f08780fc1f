//! Models side by side: in one worker, and each in workers of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use selvage_tests::program::project;
use selvage_tests::{Answer, Client, Deployment, Settings, eventually, pictures};

/// Longest wait for anything; only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(30);
/// Answers of the fast model while the slow one is busy.
const ANSWERS: u8 = 40;

/// One worker for the model variants of the fixtures. One of them never ends on a bright picture, and is left to it for
/// longer than the test takes.
pub(super) fn one_worker() -> Settings {
    let models = project().join("tests/fixtures/variants");
    Settings::default()
        .workers(1)
        .with("SELVAGE_MODELS", models.display())
        .with("SELVAGE_INFERENCE_TIMEOUT", 600)
}

pub(super) async fn a_model_that_is_stuck_delays_no_other(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let bright = pictures::plain_rgb([255; 3], 3);
    let stuck = client.post_image("/jobs?model=endless", bright).await?;
    let path = format!("/jobs/{}", stuck.expect(202).id());
    let running = || async { is_running(&client.get(&path).await.ok()?).then_some(()) };
    eventually("the slow model's only session is busy", LIMIT, running).await;
    for odd in 1..=ANSWERS {
        let green = pictures::plain_rgb([10, 200, 10], odd);
        let answer = client
            .post_image("/predict?model=free-sides", green)
            .await?
            .expect(200);
        assert_eq!(answer.label(), "green", "{}", answer.json);
    }
    let still = client.get(&path).await?.expect(200);
    assert!(is_running(&still), "{}", still.json);
    Ok(())
}

fn is_running(job: &Answer) -> bool {
    job.json["status"] == "running"
}

pub(super) async fn each_model_can_have_workers_of_its_own(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    on.add_workers_with(1, &[("SELVAGE_SERVE", "fashion-mnist")]);
    on.add_workers_with(2, &[("SELVAGE_SERVE", "clothing,rgb-tiny")]);
    let client = on.client();
    let slow = each_serves_its_own_model(&client, 1, 2).await?;
    assert_eq!(workers_of(&client, "rgb-tiny", 2).await, slow);
    Ok(())
}

/// Both models compute an answer, each by so many workers that hold it alone; the ids of `clothing`'s.
pub(crate) async fn each_serves_its_own_model(
    client: &Client,
    fast: usize,
    slow: usize,
) -> anyhow::Result<HashSet<String>> {
    let fast = workers_of(client, "fashion-mnist", fast).await;
    let slow = workers_of(client, "clothing", slow).await;
    assert!(fast.is_disjoint(&slow), "{fast:?} and {slow:?}");
    for (path, picture, label) in [
        ("/predict", pictures::boot(), "Ankle boot"),
        (
            "/predict?model=clothing",
            pictures::photograph("hat"),
            "hat",
        ),
    ] {
        let headers = [("cache-control", "no-cache")];
        let answer = client.post_image_with(path, picture, &headers).await?;
        assert_eq!(answer.expect(200).label(), label);
    }
    Ok(slow)
}

/// The ids of a model's workers, once there are so many.
async fn workers_of(client: &Client, model: &str, count: usize) -> HashSet<String> {
    let path = format!("/models/{model}");
    let known = || async {
        let answer = client.get(&path).await.ok()?;
        let ids = ids(&answer).ok()?;
        (ids.len() == count).then_some(ids)
    };
    eventually("a model's workers announce themselves", LIMIT, known).await
}

fn ids(model: &Answer) -> anyhow::Result<HashSet<String>> {
    let workers = model.json["workers"].as_array().context("workers")?;
    let id = |worker: &serde_json::Value| worker["id"].as_str().map(str::to_owned);
    workers.iter().map(|w| id(w).context("an id")).collect()
}
