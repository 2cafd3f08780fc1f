//! Workers that die, stop and restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Stage;

/// Kills a worker every one to three seconds and starts another.
pub(super) async fn kill(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    let mut turn = 0;
    while Instant::now() < end {
        stage
            .fleet
            .with_workers(|workers| workers[turn % 2].signal("KILL"));
        sleep(Duration::from_millis(1000 + 700 * (turn as u64 % 3))).await;
        stage.fleet.revive_workers();
        turn += 1;
    }
}

pub(super) async fn crash_after_claim(stage: Arc<Stage>, duration: Duration) {
    keep_reviving(stage, duration).await;
}

pub(super) async fn crash_after_inference(stage: Arc<Stage>, duration: Duration) {
    keep_reviving(stage, duration).await;
}

pub(super) async fn crash_after_store(stage: Arc<Stage>, duration: Duration) {
    keep_reviving(stage, duration).await;
}

pub(super) async fn crash_before_ack(stage: Arc<Stage>, duration: Duration) {
    keep_reviving(stage, duration).await;
}

/// The programs crash by themselves, at their failpoint; others take their place, at last ones without it.
async fn keep_reviving(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    let mut crashes = 0;
    while Instant::now() < end {
        crashes += stage.fleet.revive_workers();
        sleep(Duration::from_millis(200)).await;
    }
    assert!(
        crashes > 0,
        "no worker crashed at its failpoint: this run proved nothing"
    );
    stage.fleet.forget("SELVAGE_FAILPOINT");
    stage
        .fleet
        .with_workers(|workers| workers.iter().for_each(|worker| worker.signal("KILL")));
    sleep(Duration::from_millis(100)).await;
    stage.fleet.revive_workers();
}

/// Stops a worker's clock, long enough for the broker to give up on it, then lets it go on.
pub(super) async fn pause(stage: Arc<Stage>, duration: Duration) {
    stage
        .fleet
        .with_workers(|workers| workers[0].signal("STOP"));
    sleep(duration.max(Duration::from_secs(35))).await;
    stage
        .fleet
        .with_workers(|workers| workers[0].signal("CONT"));
}

/// Asks one worker after the other to stop, and starts another in its place.
pub(super) async fn rolling_restart(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    let mut turn = 0;
    while Instant::now() < end || turn < 2 {
        tokio::task::block_in_place(|| {
            stage.fleet.with_workers(|workers| {
                let worker = &mut workers[turn % 2];
                worker.signal("TERM");
                let status = worker.wait_for_end(Duration::from_secs(40));
                assert!(
                    status.success(),
                    "a worker that is asked to stop ends with 0: {status}"
                );
            });
        });
        stage.fleet.revive_workers();
        stage.fleet.wait_for_workers(2).await;
        turn += 1;
    }
}
