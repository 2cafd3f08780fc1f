//! Webhooks, delivered to a real server.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use selvage_tests::identity::Identity;
use selvage_tests::keys::{self, ANN, BOB, WEBHOOK_SECRET};
use selvage_tests::receiver::{Received, Receiver, Reply};
use selvage_tests::{Answer, Client, Deployment, Settings, eventually, pictures};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// Longest time until a webhook is delivered: longer than a lease and a few attempts.
const LIMIT: Duration = Duration::from_secs(90);

/// Webhooks to this machine, tried again after a second.
pub(super) fn allowed() -> Settings {
    strict()
        .with("SELVAGE_WEBHOOK_ALLOW_PRIVATE", true)
        .with("SELVAGE_WEBHOOK_RETRY", 1)
}

/// The receiver that gateways of [`over_tls`] know the root of; the root's file lives as long as this program.
static KNOWN: LazyLock<(Identity, NamedTempFile)> = LazyLock::new(|| {
    let identity = Identity::new();
    let file = NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), identity.root()).expect("it can be written");
    (identity, file)
});

/// Webhooks to this machine, by gateways that trust one root only.
pub(super) fn over_tls() -> Settings {
    allowed().with("SSL_CERT_FILE", KNOWN.1.path().display())
}

/// Webhooks to this machine, of jobs that belong to API keys.
pub(super) fn of_keys() -> Settings {
    let mut settings = allowed();
    let guarded = keys::guarded();
    settings.environment.extend(guarded.environment);
    settings.key = guarded.key;
    settings
}

/// Webhooks to public addresses only.
pub(super) fn strict() -> Settings {
    Settings::default().with("SELVAGE_WEBHOOK_SECRET", WEBHOOK_SECRET)
}

/// One gateway and no worker.
pub(super) fn alone() -> Settings {
    let mut settings = allowed().workers(0);
    settings.gateways = 1;
    settings
}

async fn submit(client: &Client, image: Vec<u8>, webhook: Value) -> anyhow::Result<Answer> {
    let body = json!({"image": BASE64_STANDARD.encode(image), "webhook": webhook});
    client.post_json("/jobs", &body).await
}

/// The job, once its webhook was delivered or given up.
async fn settled(client: &Client, id: &str) -> Value {
    eventually("the webhook is settled", LIMIT, || async {
        let job = client
            .get(&format!("/jobs/{id}"))
            .await
            .ok()?
            .expect(200)
            .json;
        let webhook = &job["webhook"];
        (webhook["delivered_at"].is_string() || webhook["stopped_at"].is_string())
            .then(|| job.clone())
    })
    .await
}

/// The message's body, if it was signed with that secret.
fn verify_with(secret: &str, message: &Received) -> Option<Value> {
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, message.header(name).parse().expect("a plain header"));
    }
    let receiver = standardwebhooks::Webhook::new(secret).expect("a good secret");
    receiver.verify(&message.body, &headers).ok()?;
    Some(serde_json::from_slice(&message.body).expect("the body is JSON"))
}

fn verify(message: &Received) -> Value {
    verify_with(WEBHOOK_SECRET, message).expect("the signature is right")
}

pub(super) async fn the_end_of_a_job_is_delivered_and_signed(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (client, receiver) = (on.client(), Receiver::start(&[]).await);
    let mut cut = pictures::noise(40, 40, 9);
    cut.truncate(cut.len() / 2);
    for (image, event) in [(pictures::unique(), "succeeded"), (cut, "failed")] {
        let before = receiver.received().len();
        let job = submit(&client, image, json!({"url": receiver.url()}))
            .await?
            .expect(202);
        let reported = settled(&client, job.id()).await;
        assert_eq!(
            (
                &reported["webhook"]["last_status"],
                &reported["webhook"]["attempts"]
            ),
            (&json!(204), &json!(1))
        );
        let messages = receiver.received();
        assert_eq!(messages.len(), before + 1);
        let message = messages.last().expect("one was delivered");
        let body = verify(message);
        assert_eq!(body["type"], format!("job.{event}"));
        assert_eq!(
            (&body["data"]["id"], &body["data"]["status"]),
            (&json!(job.id()), &json!(event))
        );
        assert_eq!(
            message.header("webhook-id"),
            format!("{}.{event}", job.id())
        );
    }
    let only = json!({"url": receiver.url(), "events": ["failed"]});
    let before = receiver.received().len();
    let quiet = submit(&client, pictures::unique(), only).await?.expect(202);
    super::jobs::end_of(&client, quiet.id()).await;
    let heard = submit(&client, pictures::unique(), json!({"url": receiver.url()})).await?;
    settled(&client, heard.expect(202).id()).await;
    assert_eq!(
        receiver.received().len(),
        before + 1,
        "only what was asked for is delivered"
    );
    Ok(())
}

pub(super) async fn each_key_has_a_secret_of_its_own(on: Arc<Deployment>) -> anyhow::Result<()> {
    let secret_of = |name: &str| {
        let shown = on.command(&["webhook-secret", name]);
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8(shown.stdout).map(|secret| secret.trim().to_owned())
    };
    let (anns, bobs) = (secret_of("ann")?, secret_of("bob")?);
    for (key, own, other) in [(ANN, &anns, &bobs), (BOB, &bobs, &anns)] {
        let (client, receiver) = (on.client().with_key(key), Receiver::start(&[]).await);
        let job = submit(&client, pictures::unique(), json!({"url": receiver.url()})).await?;
        settled(&client, job.expect(202).id()).await;
        let messages = receiver.received();
        assert_eq!(messages.len(), 1);
        let body = verify_with(own, &messages[0]).expect("it is signed with the key's secret");
        assert_eq!(body["type"], "job.succeeded");
        for wrong in [other, WEBHOOK_SECRET] {
            assert_eq!(verify_with(wrong, &messages[0]), None);
        }
    }
    Ok(())
}

pub(super) async fn webhooks_are_delivered_over_tls_and_only_with_a_known_root(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let known = Receiver::start_tls(&KNOWN.0).await;
    let job = submit(&client, pictures::unique(), json!({"url": known.url()})).await?;
    let reported = settled(&client, job.expect(202).id()).await;
    assert_eq!(reported["webhook"]["last_status"], 204, "{reported}");
    let messages = known.received();
    assert_eq!(messages.len(), 1);
    assert_eq!(verify(&messages[0])["type"], "job.succeeded");

    let stranger = Receiver::start_tls(&Identity::new()).await;
    let hook = json!({"url": stranger.url()});
    let job = submit(&client, pictures::unique(), hook).await?.expect(202);
    let url = format!("/jobs/{}", job.id());
    let tried = eventually("a second try has failed", LIMIT, || async {
        let job = client.get(&url).await.ok()?.json;
        (job["webhook"]["attempts"].as_u64() >= Some(2)).then_some(job)
    });
    let tried = tried.await;
    assert!(tried["webhook"]["delivered_at"].is_null(), "{tried}");
    assert!(tried["webhook"]["last_status"].is_null(), "{tried}");
    assert_eq!(
        stranger.received().len(),
        0,
        "nothing was said to a stranger"
    );
    Ok(())
}

pub(super) async fn a_receiver_that_misbehaves_is_tried_again(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    for (reply, attempts) in [
        (Reply::Status(500), 2),
        (Reply::Redirect, 2),
        (Reply::Huge, 1),
        (Reply::Hang, 2),
        (Reply::Status(410), 1),
    ] {
        let receiver = Receiver::start(&[reply]).await;
        let job = submit(&client, pictures::unique(), json!({"url": receiver.url()})).await?;
        let reported = settled(&client, job.expect(202).id()).await;
        let messages = receiver.received();
        assert_eq!(
            (messages.len(), &reported["webhook"]["attempts"]),
            (attempts, &json!(attempts)),
            "{reply:?}"
        );
        let given_up = reply == Reply::Status(410);
        assert_eq!(
            reported["webhook"]["stopped_at"].is_string(),
            given_up,
            "{reply:?}: {reported}"
        );
        for message in &messages {
            assert_eq!(message.path, "/hook", "redirects are not followed");
            assert_eq!(
                message.header("webhook-id"),
                messages[0].header("webhook-id")
            );
            verify(message);
        }
    }
    Ok(())
}

pub(super) async fn a_killed_gateways_webhook_is_delivered_by_another(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let receiver = Receiver::start(&[Reply::Hang]).await;
    let webhook = json!({"url": receiver.url()});
    let job = submit(&on.client(), pictures::unique(), webhook)
        .await?
        .expect(202);
    on.add_workers(1);
    eventually("the gateway is telling", LIMIT, || async {
        (receiver.received().len() == 1).then_some(())
    })
    .await;
    on.with_gateways(|gateways| {
        gateways[0].signal("KILL");
        gateways[0].wait_for_end(LIMIT);
    });
    assert_eq!(on.revive_gateways(), 1);
    on.wait_until_ready(0).await;
    let reported = settled(&on.client(), job.id()).await;
    assert!(
        reported["webhook"]["delivered_at"].is_string(),
        "{reported}"
    );
    assert_eq!(receiver.received().len(), 2);
    Ok(())
}

pub(super) async fn addresses_that_are_not_public_get_no_webhook(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let long = format!("https://example.org/{}", "x".repeat(8192));
    for url in [
        "http://127.0.0.1",
        "http://[::1]",
        "https://[::ffff:10.0.0.1]",
        "http://2130706433",
        "https://2130706433",
        "https://0x7f.1",
        "https://169.254.169.254",
        "https://[64:ff9b::a00:1]",
        "file:///etc/passwd",
        "gopher://example.org",
        "https://user:pass@example.org",
        "https://example.org:22",
        &long,
    ] {
        submit(&client, pictures::unique(), json!({"url": url}))
            .await?
            .expect_problem(422, "webhook_forbidden");
    }
    for webhook in [
        json!("x"),
        json!({}),
        json!({"url": "https://example.org", "events": ["running"]}),
    ] {
        submit(&client, pictures::unique(), webhook)
            .await?
            .expect_problem(422, "invalid_option");
    }
    // A name is looked up when the webhook is sent, and may have changed by then.
    let url = "https://localhost:8443/hook";
    let job = submit(&client, pictures::unique(), json!({"url": url}))
        .await?
        .expect(202);
    // Its client cannot tell it from a name that has no address: it is tried again, too.
    let url = format!("/jobs/{}", job.id());
    let tried = eventually("a second try has failed", LIMIT, || async {
        let job = client.get(&url).await.ok()?.json;
        (job["webhook"]["attempts"].as_u64() >= Some(2)).then_some(job)
    });
    let webhook = &tried.await["webhook"];
    assert_eq!(webhook["last_error"], "unreachable", "{webhook}");
    assert!(webhook["delivered_at"].is_null() && webhook["stopped_at"].is_null());
    Ok(())
}
