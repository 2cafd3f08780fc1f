//! RabbitMQ killed, stopped, paused, alarmed, full, robbed of queues, and strict about time.

use std::sync::Arc;
use std::time::Duration;

use selvage_tests::private::Service;
use selvage_tests::{Client, eventually, pictures};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Stage;

/// Longest time until a fault has its effect.
const EFFECT_LIMIT: Duration = Duration::from_secs(40);

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
    // One that nobody asks anything learns of it all the same.
    let idle = stage.idle_gateway().await;
    ctl(&stage, &["set_vm_memory_high_watermark", "0.00001"]);
    let client = idle.client();
    eventually("an idle gateway is not ready", EFFECT_LIMIT, || async {
        let answer = client.get("/readyz").await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await;
    drop(idle);
    sleep(duration).await;
    ctl(&stage, &["set_vm_memory_high_watermark", "0.6"]);
}

pub(super) async fn disk_alarm(stage: Arc<Stage>, duration: Duration) {
    ctl(&stage, &["set_disk_free_limit", "100000GB"]);
    sleep(duration).await;
    ctl(&stage, &["set_disk_free_limit", "50MB"]);
}

/// Leaves the queues room for two messages, and nobody to empty them.
pub(super) async fn queue_full(stage: Arc<Stage>, duration: Duration) {
    let policy = [
        "set_policy",
        "--apply-to",
        "queues",
        "tiny",
        r"\.(interactive|batch)$",
        r#"{"max-length":2}"#,
    ];
    ctl(&stage, &policy);
    stage
        .fleet
        .with_workers(|workers| workers.iter().for_each(|worker| worker.signal("KILL")));
    let client = stage.fleet.client();
    let refused = || async {
        let answer = client.post_image("/jobs", pictures::unique()).await.ok()?;
        (answer.status == 429).then_some(answer)
    };
    let answer = eventually("a full queue refuses", EFFECT_LIMIT, refused).await;
    answer.expect_problem(429, "queue_full");
    sleep(duration).await;
    ctl(&stage, &["clear_policy", "tiny"]);
    stage.fleet.revive_workers();
}

/// Deletes the queues while they are in use, again and again.
pub(super) async fn queue_deleted(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        for queue in queues(&stage) {
            ctl(&stage, &["delete_queue", &queue]);
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// Deletes the exchange that dead letters go through, again and again.
pub(super) async fn exchange_deleted(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    let exchange = format!("{}.dlx", stage.fleet.prefix());
    let delete = format!(
        r#"rabbit_exchange:delete(rabbit_misc:r(<<"/">>, exchange, <<"{exchange}">>), false, <<"test">>)."#
    );
    let mut deleted = 0;
    while Instant::now() < end || deleted == 0 {
        deleted += usize::from(ctl(&stage, &["eval", &delete]).trim() == "ok");
        ctl(&stage, &["close_all_connections", "maintenance"]);
        sleep(Duration::from_secs(2)).await;
    }
}

/// Takes away the queues that replies come through while clients wait; each gets its answer long before its wait is over.
pub(super) async fn replies_lost(stage: Arc<Stage>, duration: Duration) {
    let stop = |signal: &'static str| {
        stage
            .fleet
            .with_workers(|workers| workers.iter().for_each(|worker| worker.signal(signal)));
    };
    stop("STOP");
    let mut asked = JoinSet::new();
    for _ in 0..16 {
        let client = Client::new(stage.gateways()[0]);
        asked.spawn(async move {
            client
                .post_image("/predict?wait=60", pictures::unique())
                .await
        });
    }
    sleep(duration.min(Duration::from_secs(5))).await;
    ctl(&stage, &["close_all_connections", "maintenance"]);
    stop("CONT");
    while let Some(answer) = timeout(EFFECT_LIMIT, asked.join_next())
        .await
        .expect("answers come before the wait is over")
    {
        answer
            .expect("no client panics")
            .expect("an answer")
            .expect(200);
    }
}

/// Has the broker take jobs from workers that hold them too long: their clocks stand still for a while.
pub(super) async fn consumer_timeout(stage: Arc<Stage>, duration: Duration) {
    let set = |name: &str, ms: u32| {
        let set = format!("application:set_env(rabbit, {name}, {ms}).");
        ctl(&stage, &["eval", &set]);
    };
    let channels = || {
        ctl(
            &stage,
            &["--quiet", "list_channels", "--no-table-headers", "pid"],
        )
    };
    let signal = |signal: &'static str| {
        stage
            .fleet
            .with_workers(|workers| workers.iter().for_each(|worker| worker.signal(signal)));
    };
    set("consumer_timeout", 2_000);
    set("channel_tick_interval", 500);
    // Channels read both when they are opened.
    ctl(&stage, &["close_all_connections", "maintenance"]);
    stage.wait_until_served().await;
    signal("STOP");
    let before = channels();
    let taken = || async {
        let now = channels();
        let gone = |channel: &str| !now.contains(channel);
        before.lines().any(gone).then_some(())
    };
    eventually("the broker closes a channel", EFFECT_LIMIT, taken).await;
    sleep(duration.min(Duration::from_secs(5))).await;
    signal("CONT");
    set("consumer_timeout", 1_800_000);
    set("channel_tick_interval", 60_000);
    stage.wait_until_served().await;
    ctl(&stage, &["close_all_connections", "maintenance"]);
}

/// Closes every client's connection from the broker's side, again and again.
pub(super) async fn connections_closed(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        ctl(&stage, &["close_all_connections", "maintenance"]);
        sleep(Duration::from_secs(2)).await;
    }
}

fn queues(stage: &Stage) -> Vec<String> {
    let list = ctl(
        stage,
        &["--quiet", "list_queues", "--no-table-headers", "name"],
    );
    let is_priority_queue =
        |name: &&str| name.ends_with(".interactive") || name.ends_with(".batch");
    list.lines()
        .map(str::trim)
        .filter(is_priority_queue)
        .map(str::to_owned)
        .collect()
}

pub(super) fn ctl(stage: &Stage, arguments: &[&str]) -> String {
    tokio::task::block_in_place(|| stage.private.rabbitmqctl(arguments))
}
