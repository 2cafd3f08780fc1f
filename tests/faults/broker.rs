//! RabbitMQ killed, stopped, paused, alarmed, robbed of a queue.

use std::sync::Arc;
use std::time::Duration;

use selvage_tests::private::Service;
use selvage_tests::{Settings, eventually};
use tokio::time::sleep;

use super::Stage;

pub(super) async fn kill(stage: Arc<Stage>, duration: Duration) {
    stage.control(Service::Broker, "kill");
    sleep(duration).await;
    stage.control(Service::Broker, "start");
}

pub(super) async fn stop(stage: Arc<Stage>, duration: Duration) {
    stage.control(Service::Broker, "stop");
    sleep(duration).await;
    stage.control(Service::Broker, "start");
}

pub(super) async fn pause(stage: Arc<Stage>, duration: Duration) {
    stage.control(Service::Broker, "pause");
    sleep(duration).await;
    stage.control(Service::Broker, "resume");
}

pub(super) async fn memory_alarm(stage: Arc<Stage>, duration: Duration) {
    ctl(&stage, &["set_vm_memory_high_watermark", "0.00001"]);
    sleep(duration).await;
    ctl(&stage, &["set_vm_memory_high_watermark", "0.6"]);
}

pub(super) async fn disk_alarm(stage: Arc<Stage>, duration: Duration) {
    ctl(&stage, &["set_disk_free_limit", "100TB"]);
    sleep(duration).await;
    ctl(&stage, &["set_disk_free_limit", "50MB"]);
}

/// Deletes the lanes while they are in use, again and again.
pub(super) async fn queue_deleted(stage: Arc<Stage>, duration: Duration) {
    let end = tokio::time::Instant::now() + duration;
    while tokio::time::Instant::now() < end {
        for queue in lanes(&stage) {
            ctl(&stage, &["delete_queue", &queue]);
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// Lanes of a few messages.
pub(super) fn tiny_lanes() -> Settings {
    Settings::default().with("SELVAGE_LANE_MESSAGES", 8)
}

/// Takes the workers away until the lanes are full, then brings them back.
pub(super) async fn queue_full(stage: Arc<Stage>, duration: Duration) {
    stage
        .fleet
        .with_workers(|workers| workers.iter().for_each(|worker| worker.signal("STOP")));
    sleep(duration).await;
    let client = stage.fleet.client();
    let refused = || async {
        let answer = client
            .post_image("/jobs", selvage_tests::pictures::unique())
            .await
            .ok()?;
        (answer.status == 429).then(|| answer.expect_problem(429, "queue_full"))
    };
    eventually("a full lane refuses", Duration::from_secs(30), refused).await;
    stage
        .fleet
        .with_workers(|workers| workers.iter().for_each(|worker| worker.signal("CONT")));
}

/// Closes every client's connection from the broker's side, again and again.
pub(super) async fn connections_closed(stage: Arc<Stage>, duration: Duration) {
    let end = tokio::time::Instant::now() + duration;
    while tokio::time::Instant::now() < end {
        ctl(&stage, &["close_all_connections", "maintenance"]);
        sleep(Duration::from_secs(2)).await;
    }
}

fn lanes(stage: &Stage) -> Vec<String> {
    let list = ctl(
        stage,
        &["--quiet", "list_queues", "--no-table-headers", "name"],
    );
    let is_lane = |name: &&str| name.ends_with(".interactive") || name.ends_with(".batch");
    list.lines()
        .map(str::trim)
        .filter(is_lane)
        .map(str::to_owned)
        .collect()
}

fn ctl(stage: &Stage, arguments: &[&str]) -> String {
    tokio::task::block_in_place(|| stage.private.rabbitmqctl(arguments))
}
