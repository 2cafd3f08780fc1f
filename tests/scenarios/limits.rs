//! Bounds and missing dependencies: refused early and clearly, nothing lost.

use std::sync::Arc;

use futures_util::future::try_join_all;
use selvage_tests::{Deployment, Settings, pictures};

pub(super) async fn work_beyond_the_bound_is_refused_early(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let (mut refused, mut answered) = (0, 0);
    let pictures = (0..32).map(|n| pictures::noise(1500, 1500, 1000 + n));
    let posts = pictures.map(|picture| client.post_image("/predict?wait=60", picture));
    for answer in try_join_all(posts).await? {
        if answer.status == 200 {
            answered += 1;
        } else {
            answer.expect_problem(429, "queue_full");
            refused += 1;
        }
    }
    assert!(
        answered >= 1 && refused >= 1,
        "{answered} answered, {refused} refused with one place in flight"
    );
    client
        .post_image("/predict", pictures::unique())
        .await?
        .expect(200);
    Ok(())
}

/// A fleet whose Redis does not exist: the port is one nobody listens on.
pub(super) fn redis_away() -> Settings {
    Settings::default()
        .workers(0)
        .with("SELVAGE_REDIS_URL", "redis://127.0.0.1:1/")
}

pub(super) async fn without_a_store_waiting_still_works(on: Arc<Deployment>) -> anyhow::Result<()> {
    on.add_workers(1);
    let client = on.client();
    let answer = client
        .post_image("/predict?wait=30", pictures::boot())
        .await?
        .expect(200);
    assert_eq!(answer.label(), "Ankle boot");
    client
        .post_image("/jobs", pictures::unique())
        .await?
        .expect_problem(503, "store_unavailable");
    client
        .get(&format!("/jobs/{}", uuid::Uuid::now_v7()))
        .await?
        .expect_problem(503, "store_unavailable");
    let ready = client.get("/readyz").await?.expect(200);
    assert_eq!(ready.json["status"], "degraded", "{}", ready.json);
    Ok(())
}
