//! Finds out that an idle connection is blocked.
//!
//! RabbitMQ tells a client of a resource alarm only once that client publishes. A gateway without traffic would call itself
//! ready under an alarm, and its first request would be the one that finds out. So a message is published now and then that
//! goes nowhere: no queue has its name, and nobody asked to have it returned.

use std::time::Duration;

use lapin::Channel;
use tokio_util::sync::CancellationToken;

use super::replies::{SharedChannel, publish_transient};
use super::topology::in_time;
use crate::program::ticks;

/// How often; a message of no bytes costs the broker some microseconds.
const EVERY: Duration = Duration::from_secs(2);

/// Publishes to nobody until `stop` fires. What comes of it the connection's supervisor sees.
pub(super) async fn probe(channel: SharedChannel, nowhere: String, stop: CancellationToken) {
    let mut turns = ticks(EVERY);
    while stop.run_until_cancelled(turns.tick()).await.is_some() {
        let publish = async |channel: &Channel| {
            in_time(publish_transient(channel, nowhere.as_str().into(), b"")).await
        };
        channel.run(publish).await.ok();
    }
}
