//! The result cache: the same image is computed once, and never answered with another's result.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use selvage_tests::{Deployment, eventually, pictures};
use serde_json::json;

pub(super) async fn a_repeat_is_answered_without_a_job(on: Arc<Deployment>) -> anyhow::Result<()> {
    let (client, picture) = (on.client(), pictures::unique());
    let first = client
        .post_image("/predict", picture.clone())
        .await?
        .expect(200);
    assert_eq!(first.json["cached"], false);
    assert_eq!(
        first.header("cache-status"),
        "selvage; fwd=uri-miss; stored"
    );
    let again = client.post_image("/predict", picture).await?.expect(200);
    assert_eq!(again.json["cached"], true);
    let status = again.header("cache-status");
    let ttl: u64 = status
        .strip_prefix("selvage; hit; ttl=")
        .unwrap_or(status)
        .parse()?;
    assert!(
        (1..=3960).contains(&ttl),
        "one hour, at most a tenth more: {ttl}"
    );
    assert!(again.header("age").parse::<u64>()? <= 3960);
    assert_eq!(again.json["output"], first.json["output"]);
    assert_ne!(again.id(), first.id(), "each answer has an id of its own");
    assert_eq!(again.json["image_hash"], first.json["image_hash"]);
    Ok(())
}

pub(super) async fn identical_images_in_flight_share_one_computation(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (client, picture) = (on.client(), pictures::noise(1800, 1800, rand_seed()));
    let answers =
        try_join_all((0..24).map(|_| client.post_image("/predict", picture.clone()))).await?;
    let mut computed = 0;
    for answer in answers {
        let answer = answer.expect(200);
        let status = answer.header("cache-status").to_owned();
        let known = status.starts_with("selvage; hit") || status.ends_with("; collapsed");
        computed += usize::from(!known);
        assert!(
            known || status == "selvage; fwd=uri-miss; stored",
            "{status}"
        );
    }
    assert_eq!(
        computed, 1,
        "24 identical requests at one gateway are one computation"
    );
    Ok(())
}

fn rand_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

pub(super) async fn cache_control_is_obeyed(on: Arc<Deployment>) -> anyhow::Result<()> {
    let (client, picture) = (on.client(), pictures::unique());
    let ask = |directive: &'static str| {
        let (client, picture) = (client.clone(), picture.clone());
        async move {
            anyhow::Ok(
                client
                    .post_image_with("/predict", picture, &[("cache-control", directive)])
                    .await?
                    .expect(200),
            )
        }
    };
    for _ in 0..2 {
        let unstored = ask("no-store").await?;
        assert_eq!(
            unstored.json["cached"], false,
            "no-store neither reads nor writes"
        );
        assert!(
            !unstored.header("cache-status").contains("stored"),
            "{}",
            unstored.header("cache-status")
        );
    }
    let plain = client
        .post_image("/predict", picture.clone())
        .await?
        .expect(200);
    assert_eq!(plain.json["cached"], false, "no-store wrote nothing");
    let no_cache = ask("no-cache").await?;
    assert_eq!(no_cache.json["cached"], false, "no-cache computes again");
    assert!(
        no_cache
            .header("cache-status")
            .starts_with("selvage; fwd=request"),
        "{}",
        no_cache.header("cache-status")
    );
    let hit = client
        .post_image("/predict", picture.clone())
        .await?
        .expect(200);
    assert_eq!(hit.json["cached"], true, "no-cache refreshed the entry");
    Ok(())
}

pub(super) async fn a_result_is_shared_between_gateways(on: Arc<Deployment>) -> anyhow::Result<()> {
    let picture = pictures::unique();
    on.client()
        .post_image("/predict", picture.clone())
        .await?
        .expect(200);
    let elsewhere = on
        .other_client()
        .post_image("/predict", picture)
        .await?
        .expect(200);
    assert_eq!(elsewhere.json["cached"], true);
    Ok(())
}

pub(super) async fn another_model_never_answers(on: Arc<Deployment>) -> anyhow::Result<()> {
    let (client, picture) = (on.client(), pictures::unique());
    let gray = client
        .post_image("/predict?model=fashion-mnist", picture.clone())
        .await?
        .expect(200);
    let color = client
        .post_image("/predict?model=rgb-tiny", picture.clone())
        .await?
        .expect(200);
    assert_eq!(
        color.json["cached"], false,
        "the same image, but another model"
    );
    assert_ne!(gray.json["model"]["digest"], color.json["model"]["digest"]);
    let job = client
        .post_image("/jobs?model=rgb-tiny", picture)
        .await?
        .expect(200);
    assert_eq!(
        job.json["output"], color.json["output"],
        "an answer that is there is given at once"
    );
    assert_eq!(job.json["metadata"], json!({}));
    eventually("hits are counted", Duration::from_secs(5), || async {
        (client
            .metric("selvage_gateway_cache_hits_total", "")
            .await
            .ok()?
            >= 1.0)
            .then_some(())
    })
    .await;
    Ok(())
}
