//! The list of processes in Redis: one key for each, which expires with its silence, and an index of ids for each role.

use std::time::Duration;

use async_trait::async_trait;
use redis::Script;
use serde::de::DeserializeOwned;

use super::breaker::Rule;
use super::error::{LinkError, OpenError};
use super::fit::Content;
use super::link::Link;
use super::scripts;
use crate::clock::UnixMillis;
use crate::program::config::{Prefix, RedisUrl};
use crate::registry::{Fleet, FleetError, GONE_AFTER, Member, Members};

/// Longest time for one call.
const BUDGET: Duration = Duration::from_secs(2);

/// Members of all processes with the same prefix; its time is Redis's.
#[derive(Debug)]
pub struct RedisFleet {
    link: Link,
    announce: Script,
    workers: Names,
    gateways: Names,
}

/// The keys of one role.
#[derive(Debug)]
struct Names {
    index: String,
    member_prefix: String,
}

impl Names {
    fn new(prefix: &Prefix, role: &str) -> Self {
        let prefix = prefix.as_str();
        Self {
            index: format!("{prefix}:{role}s"),
            member_prefix: format!("{prefix}:{role}:"),
        }
    }

    fn member(&self, id: &str) -> String {
        format!("{}{id}", self.member_prefix)
    }
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
        Ok(Self {
            link: Link::open(url, Content::Members, BUDGET, Rule::RECORDS)?,
            announce: scripts::announce(),
            workers: Names::new(prefix, "worker"),
            gateways: Names::new(prefix, "gateway"),
        })
    }

    /// All of one role, by id, with the moment each is gone.
    async fn list<S: DeserializeOwned>(
        &self,
        names: &Names,
    ) -> Result<Vec<(String, UnixMillis, S)>, FleetError> {
        let mut index = redis::cmd("ZRANGE");
        index.arg(&names.index).arg(0).arg(-1).arg("WITHSCORES");
        let mut ids: Vec<(String, u64)> = self.link.command(&index).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        ids.sort_unstable();
        let mut found = redis::cmd("MGET");
        for (id, _) in &ids {
            found.arg(names.member(id));
        }
        let found: Vec<Option<Vec<u8>>> = self.link.command(&found).await?;
        // A status this version cannot read is of another version: better left out than the whole list lost.
        let status = |((id, gone_at), found): ((String, u64), Option<Vec<u8>>)| {
            let status = serde_json::from_slice(&found?).ok()?;
            Some((id, UnixMillis(gone_at), status))
        };
        Ok(ids.into_iter().zip(found).filter_map(status).collect())
    }
}

#[async_trait]
impl Fleet for RedisFleet {
    async fn announce(&self, member: &Member) -> Result<UnixMillis, FleetError> {
        let (names, status) = match member {
            Member::Worker(worker) => (&self.workers, serde_json::to_string(worker)),
            Member::Gateway(gateway) => (&self.gateways, serde_json::to_string(gateway)),
        };
        let status = status.map_err(|error| FleetError(error.into()))?;
        let stay = u64::try_from(GONE_AFTER.as_millis()).unwrap_or(u64::MAX);
        let mut call = self.announce.prepare_invoke();
        call.key(&names.index).key(names.member(member.id()));
        call.arg(member.id()).arg(status).arg(stay);
        Ok(UnixMillis(self.link.script(&call).await?))
    }

    async fn leave(&self, id: &str) -> Result<(), FleetError> {
        let mut commands = redis::pipe();
        for names in [&self.workers, &self.gateways] {
            commands.cmd("DEL").arg(names.member(id));
            commands.cmd("ZREM").arg(&names.index).arg(id);
        }
        for reply in self.link.pipeline(&commands).await? {
            reply
                .extract_error()
                .map_err(|error| self.link.failed(error))?;
        }
        Ok(())
    }

    async fn members(&self) -> Result<Members, FleetError> {
        let (now, workers, gateways) = tokio::try_join!(
            self.time(),
            self.list(&self.workers),
            self.list(&self.gateways)
        )?;
        let mut members = Members::default();
        let quiet = |gone_at: UnixMillis| GONE_AFTER.saturating_sub(gone_at.since(now));
        for (id, gone_at, worker) in workers {
            members.quiet.insert(id, quiet(gone_at));
            members.workers.push(worker);
        }
        for (id, gone_at, gateway) in gateways {
            members.quiet.insert(id, quiet(gone_at));
            members.gateways.push(gateway);
        }
        Ok(members)
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
