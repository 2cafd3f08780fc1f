//! Jobs that take their worker down, and jobs that wait beside one that is killed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use selvage_core::dead_letters::{Bounds, DeadLetterStore as _};
use selvage_core::job::Priority;
use selvage_core::key::Digest;
use selvage_core::program::config::Prefix;
use selvage_core::queue::rabbit::testing::Broker;
use selvage_core::redis::RedisDeadLetters;
use selvage_tests::load::Mix;
use selvage_tests::{Answer, Settings, eventually, pictures};

use tokio::time::{Instant, sleep};

use super::Stage;
use super::programs::Kind::Worker;
use super::programs::kill_every;

/// Longest time until a poisonous job is dead-lettered: three starts, each with a worker's start before it.
const END_LIMIT: Duration = Duration::from_secs(90);

/// More than the workers can begin at once.
const SLOW_PICTURES: usize = 149;

/// Shortest time for which workers are killed: some kills for each.
const KILLS: Duration = Duration::from_secs(12);

/// Longest time until what was dead-lettered is stored.
const STORED_LIMIT: Duration = Duration::from_secs(30);

/// Workers that die when they have computed one certain picture.
pub(super) fn poisonous() -> Settings {
    failing_at("after_inference")
}

/// Workers whose inference of one certain picture never ends, and which do not wait for it long.
pub(super) fn endless() -> Settings {
    failing_at("inference").with("SELVAGE_INFERENCE_TIMEOUT", 2)
}

fn failing_at(point: &str) -> Settings {
    let image = Digest::of(&pictures::poison());
    Settings::default().with("SELVAGE_FAILPOINT", format!("{point}@{}", image.to_hex()))
}

/// One job takes down every worker that starts it; it ends as poison after three starts, and all others finish.
pub(super) async fn poison(stage: Arc<Stage>, _: Duration) {
    let (attempts, crashes) = submit_poison(&stage).await;
    assert_eq!(attempts, 3);
    assert!(crashes >= 3, "three starts are three crashes: {crashes}");
}

/// One job hangs every thread that runs it; the watchdog abandons those, no worker ends, and all others finish.
pub(super) async fn hang(stage: Arc<Stage>, _: Duration) {
    let (_, crashes) = submit_poison(&stage).await;
    assert_eq!(crashes, 0);
}

/// Submits the picture and waits for its end as poison. Its attempts, and how many workers ended meanwhile.
async fn submit_poison(stage: &Stage) -> (u64, usize) {
    let client = stage.fleet.client();
    let job = client
        .post_image("/jobs", pictures::poison())
        .await
        .expect("an answer")
        .expect(202);
    let url = format!("/jobs/{}", job.id());
    let mut crashes = 0;
    let ended = eventually("the poisonous job is dead-lettered", END_LIMIT, || {
        crashes += stage.fleet.revive_workers();
        let client = client.clone();
        let url = &url;
        async move {
            let answer = client.get(url).await.ok()?;
            (answer.json["status"] == "failed").then_some(answer)
        }
    })
    .await;
    assert_eq!(ended.json["error"]["code"], "poison", "{}", ended.json);
    crashes += stage.fleet.revive_workers();
    (ended.json["attempts"].as_u64().unwrap_or(0), crashes)
}

/// Three workers, and pictures that take long enough to wait for each other.
pub(super) fn slow_pictures() -> Settings {
    Settings::default()
        .workers(3)
        .with("SELVAGE_INFERENCE_WAIT_US", 100_000)
}

/// A few requests beside the slow pictures.
pub(super) fn few() -> Mix {
    Mix {
        per_second: 4.0,
        ..Mix::default()
    }
}

/// Workers are killed while many slow pictures wait in them; no picture is taken for the cause. One that was being computed
/// at three kills would be, which is rare, but too often for the short set.
pub(super) async fn kills(stage: Arc<Stage>, duration: Duration) {
    let client = stage.fleet.client();
    let submit = || client.post_image("/jobs", pictures::unique());
    let submitted = join_all((0..SLOW_PICTURES).map(|_| submit())).await;
    let id = |job: Result<Answer, _>| job.expect("an answer").expect(202).id().to_owned();
    let jobs: Vec<String> = submitted.into_iter().map(id).collect();
    kill_every(&stage, duration.max(KILLS), Worker, 400..1600).await;
    let mut poisoned = Vec::new();
    for job in &jobs {
        let url = format!("/jobs/{job}");
        let ended = eventually("a slow picture ends", END_LIMIT, || async {
            let answer = client.get(&url).await.ok()?;
            (!answer.json["finished_at"].is_null()).then_some(answer.json)
        });
        let ended = ended.await;
        if ended["status"] != "succeeded" {
            poisoned.push(format!("{}: {}", ended["id"], ended["error"]["code"]));
        }
    }
    let (some, all) = (poisoned.len(), jobs.len());
    assert!(
        poisoned.is_empty(),
        "{some} of {all} pictures did not succeed: {}",
        poisoned.join(", ")
    );
}

/// Puts foreign messages into the queues; all of them end among the dead letters.
pub(super) async fn foreign_messages(stage: Arc<Stage>, duration: Duration) {
    let url = stage.private.services().amqp_url.parse();
    let url = url.expect("the broker's address");
    let redis = stage.private.services().redis_url.parse();
    let prefix: Prefix = stage.fleet.prefix().parse().expect("the fleet's prefix");
    let dead_letters = RedisDeadLetters::new(
        &redis.expect("the address of Redis"),
        &prefix,
        Bounds::default(),
    );
    let dead_letters = dead_letters.expect("the address of Redis");
    let model = "fashion-mnist".parse().expect("a good name");
    let broker = Broker::connect(&url, prefix, vec![model]);
    let broker = broker.await.expect("the broker answers");
    let model = "fashion-mnist".parse().expect("a good name");
    // More than a frame, and together less than the bytes of dead letters that are kept.
    let large = vec![7; 200_000];
    let kinds = [
        &b""[..],
        b"junk",
        b"\x63SJ\x01\x00",
        b"\x01SJ\xff\xff",
        &large,
    ];
    let end = Instant::now() + duration;
    let mut sent = 0;
    while Instant::now() < end {
        for (priority, junk) in Priority::ALL.iter().cycle().zip(kinds) {
            let queue = broker.priority(&model, *priority);
            broker
                .publish(&queue, junk)
                .await
                .expect("the broker takes it");
            sent += 1;
        }
        // How often, not how long: the faults of the matrix are paced.
        sleep(Duration::from_millis(250)).await;
    }
    let stored = || async {
        let stored = dead_letters.count().await.ok()?;
        (stored >= sent).then_some(stored)
    };
    let stored = eventually("all of them are stored", STORED_LIMIT, stored).await;
    assert_eq!(stored, sent, "each of them once, and nothing else");
}
