//! Dead letters: a poisonous job and messages nobody can read, listed, replayed and purged by people.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use selvage_core::job::Priority;
use selvage_core::key::Digest;
use selvage_core::queue::rabbit::testing::Broker;
use selvage_tests::keys::OPS;
use selvage_tests::services::Services;
use selvage_tests::{Answer, Client, Deployment, Settings, eventually, keys, pictures};

const ALL: &str = "/admin/dead-letters";
/// Longest time until a poisonous job has ended: three starts, each with a worker's start before it.
const END_LIMIT: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(30);

/// Keys are needed, and workers die when they have computed one certain picture.
pub(super) fn poisonous() -> Settings {
    let image = Digest::of(&pictures::poison()).to_hex();
    keys::guarded().with("SELVAGE_FAILPOINT", format!("after_inference@{image}"))
}

/// A hand on the broker of this fleet.
async fn broker(on: &Deployment) -> anyhow::Result<Broker> {
    let url = Services::from_environment().amqp_url.parse();
    let url = url.map_err(anyhow::Error::msg)?;
    let prefix = on.prefix().parse().map_err(anyhow::Error::msg)?;
    let models = vec!["fashion-mnist".parse()?, "rgb-tiny".parse()?];
    let broker = Broker::connect(&url, prefix, models).await;
    broker.map_err(anyhow::Error::from_boxed)
}

async fn listed(admin: &Client, total: u64) -> anyhow::Result<Answer> {
    let full = || async {
        let list = admin.get(ALL).await.ok()?;
        (list.json["total"] == total).then_some(list)
    };
    Ok(eventually("so many dead letters are listed", LIMIT, full)
        .await
        .expect(200))
}

async fn delete(admin: &Client) -> anyhow::Result<Answer> {
    admin.send(admin.request(Method::DELETE, ALL)).await
}

/// What the documented command prints.
fn command(on: &Deployment, arguments: &[&str]) -> String {
    let output = on.command(&[&["dead-letters"], arguments].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) async fn a_poisonous_job_is_listed_and_replayed(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (ann, admin) = (on.client(), on.client().with_key(OPS));
    let job = ann
        .post_image("/jobs", pictures::poison())
        .await?
        .expect(202);
    let id = job.id().to_owned();
    let url = format!("/jobs/{id}");
    let ended = eventually("the poisonous job has ended", END_LIMIT, || {
        on.revive_workers();
        let (ann, url) = (ann.clone(), url.clone());
        async move {
            let answer = ann.get(&url).await.ok()?;
            (answer.json["status"] == "failed").then_some(answer)
        }
    })
    .await;
    assert_eq!(ended.json["error"]["code"], "poison", "{}", ended.json);
    let list = listed(&admin, 1).await?;
    let dead_letter = &list.json["items"][0];
    assert_eq!(dead_letter["id"], id.as_str(), "{dead_letter}");
    assert_eq!(
        (&dead_letter["reason"], &dead_letter["attempts"]),
        (&"poison".into(), &3.into())
    );
    assert_eq!(
        (&dead_letter["priority"], &dead_letter["owner"]),
        (&"batch".into(), &"ann".into())
    );
    let table = command(&on, &["list"]);
    assert!(table.contains(&id) && table.contains("poison"), "{table}");
    assert!(table.contains("1 of 1 dead letters"), "{table}");
    let metrics = eventually("both metrics tell of it", LIMIT, || async {
        // Whichever gateway took the dead letter in has counted it.
        let mut metrics = String::new();
        for client in [on.client(), on.other_client()] {
            metrics += &String::from_utf8(client.get("/metrics").await.ok()?.body).ok()?;
        }
        metrics
            .contains("selvage_gateway_dead_letters 1")
            .then_some(metrics)
    });
    assert!(
        metrics
            .await
            .contains("selvage_gateway_dead_letters_total{reason=\"poison\"} 1"),
        "counted by its reason"
    );

    // The cause is mended: the next workers survive the picture.
    on.forget("SELVAGE_FAILPOINT");
    on.with_workers(|workers| {
        for worker in workers {
            worker.signal("KILL");
            worker.wait_for_end(LIMIT);
        }
    });
    on.revive_workers();
    let printed = command(&on, &["replay", &id]);
    let new = printed.trim().rsplit(' ').next().unwrap_or_default();
    assert!(printed.starts_with(&id) && new != id, "{printed}");
    let ended = ann.get(&format!("/jobs/{new}?wait=60")).await?.expect(200);
    assert_eq!(ended.json["status"], "succeeded", "{}", ended.json);
    assert_eq!(ended.json["retry_of"], id);
    let old = ann.get(&url).await?.expect(200);
    assert_eq!(old.json["status"], "failed", "an end never changes");
    listed(&admin, 0).await?;
    let gone = on.command(&["dead-letters", "replay", &id]);
    assert_eq!(gone.status.code(), Some(1));
    let reported = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(reported.contains(&id), "{reported}");
    Ok(())
}

pub(super) async fn foreign_messages_are_dead_lettered_and_harm_nobody(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (ann, admin) = (on.client(), on.client().with_key(OPS));
    let broker = broker(&on).await?;
    let queue = broker.priority(&"fashion-mnist".parse()?, Priority::Batch);
    let large = vec![7; 4 << 20];
    for junk in [&b""[..], b"junk", b"\x63SJ\x01\x00", &large] {
        let published = broker.publish(&queue, junk).await;
        published.map_err(anyhow::Error::from_boxed)?;
    }
    let published = broker.publish_with_strange_headers(&queue, b"junk").await;
    published.map_err(anyhow::Error::from_boxed)?;
    let list = listed(&admin, 5).await?;
    let dead_letters = list.json["items"].as_array().expect("items");
    for dead_letter in dead_letters {
        assert_eq!(dead_letter["reason"], "undecodable", "{dead_letter}");
        assert_eq!(
            (&dead_letter["replayable"], dead_letter["model"].is_null()),
            (&false.into(), true)
        );
        assert_eq!(dead_letter["queue"], queue.as_str());
    }
    let mut sizes: Vec<_> = dead_letters
        .iter()
        .filter_map(|dead_letter| dead_letter["size"].as_u64())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 4, 4, 5, 4 << 20]);
    let id = dead_letters[0]["id"].as_str().unwrap_or_default();
    let refused = admin.post(&format!("{ALL}/{id}/replay")).await?;
    refused.expect_problem(409, "not_replayable");
    let refused = ann.post(&format!("{ALL}/{id}/replay")).await?;
    refused.expect_problem(403, "forbidden");
    let all = command(&on, &["replay", "--all"]);
    assert!(all.contains("0 replayed, 5 cannot be replayed"), "{all}");
    let answer = ann.post_image("/predict", pictures::boot()).await?;
    assert_eq!(answer.expect(200).label(), "Ankle boot");
    on.with_workers(|workers| {
        assert!(
            workers
                .iter_mut()
                .all(selvage_tests::program::Program::is_alive)
        );
    });

    let purged = delete(&admin).await?.expect(200);
    assert_eq!(purged.json["purged"], 5);
    listed(&admin, 0).await?;
    let published = broker.publish(&queue, b"one more").await;
    published.map_err(anyhow::Error::from_boxed)?;
    listed(&admin, 1).await?;
    let thrown = command(&on, &["purge"]);
    assert!(thrown.contains("1 dead letters"), "{thrown}");
    listed(&admin, 0).await?;
    Ok(())
}

pub(super) async fn an_idle_deployment_has_none(on: Arc<Deployment>) -> anyhow::Result<()> {
    let (ann, admin) = (on.client(), on.client().with_key(OPS));
    let list = admin.get(ALL).await?.expect(200);
    assert_eq!(
        (&list.json["total"], &list.json["items"]),
        (&0.into(), &serde_json::json!([]))
    );
    let replayed = admin.post(&format!("{ALL}/replay")).await?.expect(200);
    assert_eq!(replayed.json["replayed"], serde_json::json!([]));
    assert_eq!(delete(&admin).await?.expect(200).json["purged"], 0);
    let unknown = format!("{ALL}/{}/replay", uuid::Uuid::now_v7());
    admin.post(&unknown).await?.expect_problem(404, "not_found");
    ann.get(ALL).await?.expect_problem(403, "forbidden");
    let stranger = Client::new(on.gateways[0]);
    stranger
        .get(ALL)
        .await?
        .expect_problem(401, "unauthenticated");
    Ok(())
}
