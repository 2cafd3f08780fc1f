//! The lines between programs and services: cut, slow, silent.

use std::sync::Arc;
use std::time::Duration;

use selvage_tests::proxy::{Fault, Proxy};
use tokio::time::{Instant, sleep};

use super::Stage;

/// Cuts connections to the broker within a frame, again and again.
pub(super) async fn broker_cut_in_mid_frame(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    let mut budget = 1_000;
    while Instant::now() < end {
        stage.broker_line.set(Fault::CutAfter(budget));
        sleep(Duration::from_millis(1500)).await;
        stage.broker_line.set(Fault::None);
        sleep(Duration::from_millis(1000)).await;
        budget = budget * 3 + 7;
    }
}

pub(super) async fn broker_latency(stage: Arc<Stage>, duration: Duration) {
    hold(
        &stage.broker_line,
        Fault::Latency(Duration::from_millis(100)),
        duration,
    )
    .await;
}

pub(super) async fn broker_blackhole(stage: Arc<Stage>, duration: Duration) {
    hold(&stage.broker_line, Fault::Blackhole, duration).await;
}

/// What is published, acked or answered does not arrive; what the broker says does.
pub(super) async fn broker_deaf(stage: Arc<Stage>, duration: Duration) {
    hold(&stage.broker_line, Fault::Deaf, duration).await;
}

/// What is published arrives, and no confirm comes back.
pub(super) async fn broker_mute(stage: Arc<Stage>, duration: Duration) {
    hold(&stage.broker_line, Fault::Mute, duration).await;
}

pub(super) async fn redis_latency(stage: Arc<Stage>, duration: Duration) {
    hold(
        &stage.redis_line,
        Fault::Latency(Duration::from_millis(200)),
        duration,
    )
    .await;
}

pub(super) async fn redis_blackhole(stage: Arc<Stage>, duration: Duration) {
    hold(&stage.redis_line, Fault::Blackhole, duration).await;
}

async fn hold(line: &Proxy, fault: Fault, duration: Duration) {
    line.set(fault);
    sleep(duration).await;
    // What was swallowed leaves both ends of a connection in disagreement, as a real cut would: end them.
    line.set(Fault::Refuse);
    sleep(Duration::from_millis(50)).await;
    line.set(Fault::None);
}
