//! Ends steps of the engine that do not end by themselves: a model that loops on one input, a decoder that never returns.
//!
//! A step that is older than the limit is asked to break off, which ONNX Runtime does between two nodes of a graph; its
//! images are then tried alone, as after any failed inference. One that is still there after twice the limit cannot be ended
//! from outside its thread: the process aborts. Its jobs go back to the broker with a start counted, and the one that hangs
//! a worker each time ends as `poison`.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// How many times within the limit the threads are looked at.
const LOOKS: u32 = 10;

/// Watches the pools until `stop` fires. `limit` is the longest time of one step: decoding what a thread took, or one
/// inference.
pub(crate) async fn watch(engine: Engine, limit: Duration, stop: CancellationToken) {
    let mut looks = interval(limit / LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        for pool in engine.pools() {
            let oldest = pool.oldest_step();
            if oldest > 2 * limit {
                tracing::error!(
                    model.name = pool.name(),
                    ?oldest,
                    "a step of the engine does not end; the process is aborted, its jobs go back to the broker"
                );
                std::process::abort();
            }
            if oldest > limit && pool.break_off(limit) > 0 {
                tracing::warn!(
                    model.name = pool.name(),
                    ?oldest,
                    "an inference takes too long and was asked to break off"
                );
            }
        }
    }
}
