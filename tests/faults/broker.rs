//! RabbitMQ killed, stopped, paused, alarmed, robbed of a queue.

use std::sync::Arc;
use std::time::Duration;

use selvage_tests::private::Service;
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
