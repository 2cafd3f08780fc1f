//! Everything that needs a secret, at the most talkative level of the log: whatever stands in it is read by
//! [`selvage_tests::program`], as in every other run.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use selvage_tests::keys::{ANN, BOB, OPS, STRAY};
use selvage_tests::load::Mix;
use selvage_tests::receiver::{Receiver, Reply};
use selvage_tests::{Client, Settings, eventually, keys, pictures};
use serde_json::json;
use tokio::time::timeout;

use super::{Stage, broker};

/// Longest time until a webhook is delivered while connections are closed: some attempts.
const WEBHOOK_LIMIT: Duration = Duration::from_secs(60);

/// Keys and a secret for webhooks, with logs of every library.
pub(super) fn talkative() -> Settings {
    keys::guarded()
        .with("SELVAGE_LOG", "trace")
        .with("SELVAGE_WEBHOOK_SECRET", keys::WEBHOOK_SECRET)
        .with("SELVAGE_WEBHOOK_ALLOW_PRIVATE", true)
        .with("SELVAGE_WEBHOOK_RETRY", 1)
}

/// The load of a client with a key.
pub(super) fn with_a_key() -> Mix {
    Mix {
        key: Some(ANN),
        ..Mix::default()
    }
}

/// Shows every key, right and wrong, in every place; has a webhook delivered, with a failure between; has the keys read again; and
/// has the connections to the broker made again and again.
pub(super) async fn used(stage: Arc<Stage>, duration: Duration) {
    let receiver = Receiver::start(&[Reply::Status(500)]).await;
    for gateway in stage.gateways() {
        let stranger = Client::new(*gateway);
        for key in [ANN, BOB, OPS, STRAY] {
            let shown = stranger.with_key(key).get("/models").await;
            shown
                .expect("a gateway answers")
                .expect(if key == STRAY { 401 } else { 200 });
            for path in ["/models?token=", "/jobs/", "/nowhere/"] {
                let misplaced = stranger.get(&format!("{path}{key}")).await;
                assert!(misplaced.expect("a gateway answers").status >= 400);
            }
            let request = stranger.request(Method::GET, "/models");
            let other = request.header("authorization", format!("Basic {key}"));
            let refused = stranger.send(other).await;
            refused.expect("a gateway answers").expect(401);
        }
    }
    let body = json!({
        "image": BASE64_STANDARD.encode(pictures::unique()),
        "webhook": {"url": receiver.url()},
    });
    let submitted = stage.fleet.client().post_json("/jobs", &body).await;
    submitted.expect("a gateway answers").expect(202);
    stage
        .fleet
        .with_gateways(|programs| programs.iter().for_each(|program| program.signal("HUP")));
    broker::connections_closed(Arc::clone(&stage), duration).await;
    let delivered = || async { (receiver.received().len() >= 2).then_some(()) };
    let delivered = timeout(
        WEBHOOK_LIMIT,
        eventually("it is delivered again", WEBHOOK_LIMIT * 2, delivered),
    )
    .await;
    assert!(delivered.is_ok(), "the webhook was not delivered twice");
    let talked = stage.fleet.with_gateways(|programs| {
        let mut logs = programs.iter().map(|program| program.log());
        logs.all(|log| log.contains("\"level\":\"DEBUG\"") && log.contains("lapin::"))
    });
    assert!(talked, "the gateways' libraries wrote what they may");
}
