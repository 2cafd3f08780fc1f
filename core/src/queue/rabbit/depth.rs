//! How many messages wait in a lane, asked of the broker at most a few times a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::replies::SharedChannel;
use super::topology::{Topology, waiting};
use super::trouble::Trouble;
use crate::job::{Lane, ModelName};

/// How old an answer may be.
const FRESH: Duration = Duration::from_millis(250);

type Answers = HashMap<(ModelName, Lane), (Instant, u64)>;

/// Asks for depths and remembers the answers for a moment.
#[derive(Debug)]
pub(super) struct Depths {
    channel: SharedChannel,
    topology: Arc<Topology>,
    answers: Mutex<Answers>,
    /// One question at a time; those who waited for it find its answer.
    asking: tokio::sync::Mutex<()>,
}

impl Depths {
    pub(super) fn new(channel: SharedChannel, topology: Arc<Topology>) -> Self {
        Self {
            channel,
            topology,
            answers: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    pub(super) async fn get(&self, model: &ModelName, lane: Lane) -> Result<u64, Trouble> {
        let name = (model.clone(), lane);
        if let Some(depth) = self.remembered(&name) {
            return Ok(depth);
        }
        let _turn = self.asking.lock().await;
        if let Some(depth) = self.remembered(&name) {
            return Ok(depth);
        }
        let depth = self.ask(model, lane).await?;
        self.answers().insert(name, (Instant::now(), depth));
        Ok(depth)
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, name: &(ModelName, Lane)) -> Option<u64> {
        let answers = self.answers();
        let (asked_at, depth) = answers.get(name)?;
        (asked_at.elapsed() < FRESH).then_some(*depth)
    }

    async fn ask(&self, model: &ModelName, lane: Lane) -> Result<u64, Trouble> {
        let channel = self.channel.get().await?;
        let waiting = waiting(&channel, self.topology.lane(model, lane)).await;
        if waiting.is_err() {
            self.channel.discard().await;
        }
        waiting
    }
}
