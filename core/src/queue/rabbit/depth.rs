//! How many messages wait in a queue, asked of the broker at most a few times a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::RabbitError;
use super::replies::SharedChannel;
use super::topology::{Topology, waiting};
use crate::job::{ModelName, Priority};

/// How old an answer may be.
const FRESH: Duration = Duration::from_millis(250);

type Answers = HashMap<(ModelName, Priority), (Instant, u64)>;

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

    pub(super) async fn get(
        &self,
        model: &ModelName,
        priority: Priority,
    ) -> Result<u64, RabbitError> {
        let name = (model.clone(), priority);
        if let Some(depth) = self.remembered(&name) {
            return Ok(depth);
        }
        let _turn = self.asking.lock().await;
        if let Some(depth) = self.remembered(&name) {
            return Ok(depth);
        }
        let depth = self.ask(model, priority).await?;
        self.answers().insert(name, (Instant::now(), depth));
        Ok(depth)
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, name: &(ModelName, Priority)) -> Option<u64> {
        let answers = self.answers();
        let (asked_at, depth) = answers.get(name)?;
        (asked_at.elapsed() < FRESH).then_some(*depth)
    }

    async fn ask(&self, model: &ModelName, priority: Priority) -> Result<u64, RabbitError> {
        let channel = self.channel.get().await?;
        let waiting = waiting(&channel, self.topology.queue(model, priority)).await;
        if waiting.is_err() {
            self.channel.discard().await;
        }
        waiting
    }
}
