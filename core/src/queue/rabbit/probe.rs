//! Finds out that an idle connection is blocked.
//!
//! RabbitMQ tells a client of a resource alarm only once that client publishes. A gateway without traffic would call itself
//! ready under an alarm, and its first request would be the one that finds out. So a message is published now and then that
//! goes nowhere: no queue has its name, and nobody asked to have it returned.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::replies::SharedChannel;
use super::topology::in_time;

/// How often; a message of no bytes costs the broker some microseconds.
const EVERY: Duration = Duration::from_secs(2);

/// Publishes to nobody until `stop` fires. What comes of it the connection's supervisor sees.
pub(super) async fn probe(channel: SharedChannel, nowhere: String, stop: CancellationToken) {
    let mut turns = interval(EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(turns.tick()).await.is_some() {
        let Ok(open) = channel.get().await else {
            continue;
        };
        let publishing = open.basic_publish(
            "".into(),
            nowhere.as_str().into(),
            BasicPublishOptions::default(),
            b"",
            BasicProperties::default(),
        );
        if in_time(publishing).await.is_err() {
            channel.discard().await;
        }
    }
}
