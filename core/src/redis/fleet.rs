//! The list of workers in Redis: one key per worker that lapses with its silence, and an index of their ids.

use std::time::Duration;

use async_trait::async_trait;
use redis::Script;

use super::breaker::Rule;
use super::error::{LinkError, OpenError};
use super::link::Link;
use super::scripts;
use crate::clock::UnixMillis;
use crate::config::{Prefix, RedisUrl};
use crate::fleet::{Fleet, FleetError, GONE_AFTER, WorkerStatus};

/// Longest time for one call.
const BUDGET: Duration = Duration::from_secs(2);
/// As for the store.
const RULE: Rule = Rule {
    failures: 2,
    rest: Duration::from_secs(1),
};

/// Workers of all processes with the same prefix; its time is Redis's.
#[derive(Debug)]
pub struct RedisFleet {
    link: Link,
    announce: Script,
    index: String,
    worker_prefix: String,
}

impl RedisFleet {
    /// The registry of that prefix. Redis need not be up yet.
    ///
    /// # Errors
    /// An address that cannot be used.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(url: &RedisUrl, prefix: &Prefix) -> Result<Self, OpenError> {
        let prefix = prefix.as_str();
        Ok(Self {
            link: Link::open(url, BUDGET, RULE)?,
            announce: scripts::announce(),
            index: format!("{prefix}:workers"),
            worker_prefix: format!("{prefix}:worker:"),
        })
    }

    fn name(&self, id: &str) -> String {
        format!("{}{id}", self.worker_prefix)
    }
}

#[async_trait]
impl Fleet for RedisFleet {
    async fn announce(&self, worker: &WorkerStatus) -> Result<UnixMillis, FleetError> {
        let status = serde_json::to_string(worker).map_err(|error| FleetError(error.into()))?;
        let stay = u64::try_from(GONE_AFTER.as_millis()).unwrap_or(u64::MAX);
        let mut call = self.announce.prepare_invoke();
        call.key(&self.index).key(self.name(&worker.id));
        call.arg(&worker.id).arg(status).arg(stay);
        Ok(UnixMillis(self.link.script(&call).await?))
    }

    async fn leave(&self, worker_id: &str) -> Result<(), FleetError> {
        let mut commands = redis::pipe();
        commands.cmd("DEL").arg(self.name(worker_id));
        commands.cmd("ZREM").arg(&self.index).arg(worker_id);
        for reply in self.link.pipeline(&commands).await? {
            reply
                .extract_error()
                .map_err(|error| self.link.failed(error))?;
        }
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>, FleetError> {
        let mut index = redis::cmd("ZRANGE");
        index.arg(&self.index).arg(0).arg(-1);
        let mut ids: Vec<String> = self.link.command(&index).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        ids.sort_unstable();
        let mut found = redis::cmd("MGET");
        for id in &ids {
            found.arg(self.name(id));
        }
        let found: Vec<Option<Vec<u8>>> = self.link.command(&found).await?;
        // A status this version cannot read is a worker of another version: better left out than the whole list lost.
        let statuses = found.into_iter().flatten();
        Ok(statuses
            .filter_map(|status| serde_json::from_slice(&status).ok())
            .collect())
    }

    async fn time(&self) -> Result<UnixMillis, FleetError> {
        let (seconds, micros): (u64, u64) = self.link.command(&redis::cmd("TIME")).await?;
        Ok(UnixMillis(seconds * 1000 + micros / 1000))
    }
}

impl From<LinkError> for FleetError {
    fn from(error: LinkError) -> Self {
        Self(error.into())
    }
}
