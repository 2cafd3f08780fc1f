//! Gateways that die and restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Stage;

/// Kills one gateway after the other, each with requests in its hands.
pub(super) async fn kill(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    let mut turn = 0;
    while Instant::now() < end {
        stage
            .fleet
            .with_gateways(|gateways| gateways[turn % 2].signal("KILL"));
        sleep(Duration::from_millis(1500)).await;
        stage.fleet.revive_gateways();
        turn += 1;
    }
}

pub(super) async fn crash_after_record(stage: Arc<Stage>, duration: Duration) {
    keep_reviving(stage, duration).await;
}

pub(super) async fn crash_after_publish(stage: Arc<Stage>, duration: Duration) {
    keep_reviving(stage, duration).await;
}

pub(super) async fn crash_after_confirm(stage: Arc<Stage>, duration: Duration) {
    keep_reviving(stage, duration).await;
}

async fn keep_reviving(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    let mut crashes = 0;
    while Instant::now() < end {
        crashes += stage.fleet.revive_gateways();
        sleep(Duration::from_millis(200)).await;
    }
    assert!(
        crashes > 0,
        "no gateway crashed at its failpoint: this run proved nothing"
    );
    stage.fleet.forget("SELVAGE_FAILPOINT");
    stage
        .fleet
        .with_gateways(|gateways| gateways.iter().for_each(|gateway| gateway.signal("KILL")));
    sleep(Duration::from_millis(100)).await;
    stage.fleet.revive_gateways();
}

/// Asks one gateway after the other to stop, and starts another in its place.
pub(super) async fn rolling_restart(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    let mut turn = 0;
    while Instant::now() < end || turn < 2 {
        tokio::task::block_in_place(|| {
            stage.fleet.with_gateways(|gateways| {
                let gateway = &mut gateways[turn % 2];
                gateway.signal("TERM");
                let status = gateway.wait_for_end(Duration::from_secs(40));
                assert!(
                    status.success(),
                    "a gateway that is asked to stop ends with 0: {status}"
                );
            });
        });
        stage.fleet.revive_gateways();
        stage.fleet.wait_until_ready(turn % 2).await;
        turn += 1;
    }
}
