//! Ends steps of the engine that do not end by themselves: a model that loops on one input, a decoder that never returns.
//!
//! A step that is older than the limit is asked to break off, which ONNX Runtime does between two nodes of a graph; its
//! images are then tried alone, as after any failed inference. One that is still there after twice the limit cannot be ended
//! from outside its thread: the step is abandoned. Another thread takes its place and its jobs, the image that hangs ends as
//! `poison`, and the stuck thread ends if it ever comes back. Until then it keeps a core busy and its memory, so the process
//! aborts where too many are stuck.

use std::time::Duration;

use selvage_core::program::ticks;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// How many times within the limit the threads are looked at.
const LOOKS: u32 = 10;
/// Most threads of a model that may be stuck at the same time.
const MAX_STUCK: usize = 8;

/// Watches the pools until `stop` fires. `limit` is the longest time of one step: decoding what a thread took, or one
/// inference.
pub(crate) async fn watch(engine: Engine, limit: Duration, stop: CancellationToken) {
    let mut looks = ticks(limit / LOOKS);
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        for pool in engine.pools() {
            let oldest = pool.oldest_step();
            if oldest > 2 * limit {
                let stuck = pool.abandon_steps(2 * limit);
                tracing::error!(
                    model.name = pool.name(),
                    ?oldest,
                    stuck,
                    "step of the engine abandoned: it does not end"
                );
                if stuck > MAX_STUCK {
                    tracing::error!(stuck, "too many stuck threads; aborting the process");
                    std::process::abort();
                }
            } else if oldest > limit && pool.break_off(limit) > 0 {
                tracing::warn!(
                    model.name = pool.name(),
                    ?oldest,
                    "an inference takes too long and was asked to break off"
                );
            }
        }
    }
}
