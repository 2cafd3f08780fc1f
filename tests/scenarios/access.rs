//! API keys: who passes, and whose a job is.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use selvage_tests::keys::{ANN, BOB, OPS};
use selvage_tests::{Client, Deployment, eventually, pictures};

/// Longest wait for a signal to be followed.
const REREAD_LIMIT: Duration = Duration::from_secs(30);

/// A client that shows nothing but what a request is given.
fn stranger(on: &Deployment) -> Client {
    Client::new(on.gateways[0])
}

pub(super) async fn only_known_keys_pass(on: Arc<Deployment>) -> anyhow::Result<()> {
    let stranger = stranger(&on);
    for open in ["/", "/fleet", "/docs", "/openapi.json", "/livez", "/readyz"] {
        stranger.get(open).await?.expect(200);
    }
    for guarded in ["/models", "/stats", "/metrics", "/jobs/1"] {
        let refused = stranger.get(guarded).await?;
        let refused = refused.expect_problem(401, "unauthenticated");
        assert_eq!(
            refused.header("www-authenticate"),
            "Bearer realm=\"selvage\""
        );
    }
    // Large enough that the client still writes while it is refused.
    let large = pictures::noise(1200, 1200, 7);
    let refused = stranger.post_image("/predict", large).await?;
    refused.expect_problem(401, "unauthenticated");

    let long = "x".repeat(32 * 1024);
    let values = [
        "Bearer wrong",
        "Bearer",
        "Basic YW5uOmFubg==",
        ANN,
        &format!("Bearer {ANN}, Bearer {BOB}"),
        &format!("Bearer {long}"),
        "Bearer é",
    ];
    for value in values {
        let request = stranger
            .request(Method::GET, "/models")
            .header("authorization", value.as_bytes());
        let refused = stranger.send(request).await?;
        let refused = refused.expect_problem(401, "unauthenticated");
        let challenge = refused.header("www-authenticate");
        assert!(challenge.contains("invalid_token"), "{challenge}");
    }
    for name in ["api_key", "token", "access_token", "key"] {
        let path = format!("/models?{name}={ANN}");
        stranger
            .get(&path)
            .await?
            .expect_problem(401, "unauthenticated");
        let known = stranger.with_key(ANN);
        known
            .get(&path)
            .await?
            .expect_problem(401, "unauthenticated");
    }
    for key in [ANN, BOB, OPS] {
        let known = stranger.with_key(key);
        known.get("/models").await?.expect(200);
        let answer = known.post_image("/predict", pictures::boot()).await?;
        assert_eq!(answer.expect(200).label(), "Ankle boot");
    }
    no_key_is_written(&on);
    Ok(())
}

pub(super) async fn jobs_belong_to_their_key(on: Arc<Deployment>) -> anyhow::Result<()> {
    let [ann, bob, ops] = [ANN, BOB, OPS].map(|key| stranger(&on).with_key(key));
    let job = ann.post_image("/jobs", pictures::unique()).await?;
    let url = format!("/jobs/{}", job.expect(202).id());
    let ended = ann.get(&format!("{url}?wait=60")).await?.expect(200);
    assert_eq!(ended.json["status"], "succeeded", "{}", ended.json);

    // Another's job and one that never was get the same answer, but for their ids.
    let never = format!("/jobs/{}", uuid::Uuid::now_v7());
    for other in [&bob, &ops] {
        let refused = other.get(&url).await?.expect_problem(404, "job_not_found");
        let unknown = other
            .get(&never)
            .await?
            .expect_problem(404, "job_not_found");
        assert_eq!(refused.json["detail"], unknown.json["detail"]);
        let cancel = other.post(&format!("{url}/cancel")).await?;
        cancel.expect_problem(404, "job_not_found");
    }
    let cancel = ann.post(&format!("{url}/cancel")).await?;
    cancel.expect_problem(409, "job_finished");
    no_key_is_written(&on);
    Ok(())
}

pub(super) async fn a_key_does_not_see_what_others_have_asked(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let [ann, bob] = [ANN, BOB].map(|key| stranger(&on).with_key(key));
    let image = pictures::unique();
    let first = ann.post_image("/predict", image.clone()).await?.expect(200);
    let again = ann.post_image("/predict", image.clone()).await?.expect(200);
    assert_eq!(again.json["cached"], true, "{}", again.json);
    let other = bob.post_image("/predict", image).await?.expect(200);
    assert_eq!(other.json["cached"], false, "{}", other.json);
    assert_eq!(other.json["image_hash"], first.json["image_hash"]);
    Ok(())
}

pub(super) async fn a_key_beyond_its_rate_gets_a_retry_after(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let [ann, bob, ops] = [ANN, BOB, OPS].map(|key| stranger(&on).with_key(key));
    for left in (0..10).rev() {
        let answer = ann.post_image("/predict", pictures::boot()).await?;
        let answer = answer.expect(200);
        assert_eq!(answer.header("ratelimit-policy"), "\"key\";q=10;w=3600");
        let reported = answer.header("ratelimit");
        assert!(
            reported.starts_with(&format!("\"key\";r={left};t=")),
            "{reported}"
        );
    }
    let limited = async || {
        let refused = ann.post_image("/predict", pictures::boot()).await?;
        let refused = refused.expect_problem(429, "rate_limited");
        assert!(refused.header("ratelimit").starts_with("\"key\";r=0;t="));
        anyhow::Ok(())
    };
    limited().await?;
    // Neither another key nor what needs none is touched, and reading the file again gives nobody a new rate.
    bob.post_image("/predict", pictures::boot())
        .await?
        .expect(200);
    ann.get("/livez").await?.expect(200);
    on.with_gateways(|programs| programs[0].signal("HUP"));
    let reread = || async {
        let logged = on.with_gateways(|programs| programs[0].log());
        logged
            .contains("SIGHUP: the API keys were read")
            .then_some(())
    };
    eventually("the keys are read again", REREAD_LIMIT, reread).await;
    limited().await?;
    let refused = ops
        .metric("selvage_gateway_refused_total", "rate_limited")
        .await?;
    assert_eq!(refused, 2.0);
    no_key_is_written(&on);
    Ok(())
}

pub(super) async fn without_keys_an_address_has_its_rate(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = stranger(&on);
    for _ in 0..3 {
        let answer = client.post_image("/predict", pictures::boot()).await?;
        let answer = answer.expect(200);
        assert_eq!(answer.header("ratelimit-policy"), "\"address\";q=3;w=3600");
    }
    // Whatever else the connection is.
    let other = stranger(&on).with_key(ANN);
    let refused = other.post_image("/predict", pictures::boot()).await?;
    refused.expect_problem(429, "rate_limited");
    client.get("/readyz").await?.expect(200);
    Ok(())
}

fn no_key_is_written(on: &Deployment) {
    let mut logs = String::new();
    on.with_gateways(|programs| programs.iter().for_each(|program| logs += &program.log()));
    on.with_workers(|programs| programs.iter().for_each(|program| logs += &program.log()));
    for key in [ANN, BOB, OPS] {
        assert!(!logs.contains(key), "{key} stands in a log");
    }
}
