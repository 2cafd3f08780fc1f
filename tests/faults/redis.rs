//! Redis killed, paused, wiped, full, read-only.

use std::sync::Arc;
use std::time::Duration;

use selvage_tests::private::Service;
use selvage_tests::{eventually, pictures};
use tokio::time::{Instant, sleep};

use super::Stage;

/// Longest time until a wiped job has ended.
const END_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn kill(stage: Arc<Stage>, duration: Duration) {
    stage.control(Service::Redis, "kill");
    sleep(duration).await;
    stage.control(Service::Redis, "start");
}

pub(super) async fn pause(stage: Arc<Stage>, duration: Duration) {
    stage.control(Service::Redis, "pause");
    sleep(duration).await;
    stage.control(Service::Redis, "resume");
}

/// Wipes the store while jobs are queued: each still runs, and its record is written again from its message. Jobs that had
/// ended may be forgotten by a wipe, so the load around this one asks for none.
pub(super) async fn flush(stage: Arc<Stage>, _: Duration) {
    let (client, other) = (stage.fleet.client(), stage.fleet.other_client());
    stage
        .fleet
        .with_workers(|workers| workers.iter().for_each(|worker| worker.signal("STOP")));
    let mut ids = Vec::new();
    for n in 0..40 {
        let job = client
            .post_image("/jobs", pictures::tagged("9-ankle-boot", n))
            .await
            .expect("an answer")
            .expect(202);
        ids.push(job.id().to_owned());
    }
    redis(&stage, &["FLUSHALL"]);
    stage
        .fleet
        .with_workers(|workers| workers.iter().for_each(|worker| worker.signal("CONT")));
    for id in ids {
        let url = format!("/jobs/{id}?wait=5");
        let ended = || async {
            let answer = other.get(&url).await.ok()?;
            (answer.json["status"] == "succeeded").then_some(answer)
        };
        let answer = eventually(
            "a queued job ends although its record was wiped",
            END_LIMIT,
            ended,
        )
        .await;
        assert_eq!(answer.label(), "Ankle boot");
    }
}

/// Forgets the scripts, again and again.
pub(super) async fn script_flush(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        redis(&stage, &["SCRIPT", "FLUSH"]);
        sleep(Duration::from_millis(100)).await;
    }
}

/// Leaves no memory for anything new.
pub(super) async fn full(stage: Arc<Stage>, duration: Duration) {
    redis(&stage, &["CONFIG", "SET", "maxmemory", "1mb"]);
    sleep(duration).await;
    redis(&stage, &["CONFIG", "SET", "maxmemory", "0"]);
}

/// Makes it a replica of nothing: it answers reads and refuses writes.
pub(super) async fn read_only(stage: Arc<Stage>, duration: Duration) {
    redis(&stage, &["REPLICAOF", "127.0.0.1", "1"]);
    sleep(duration).await;
    redis(&stage, &["REPLICAOF", "NO", "ONE"]);
}

fn redis(stage: &Stage, command: &[&str]) {
    let answer = tokio::task::block_in_place(|| stage.private.redis(command));
    assert_eq!(answer, "OK", "{command:?}");
}
