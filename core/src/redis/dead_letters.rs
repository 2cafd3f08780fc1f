//! Dead letters in Redis: which scripts run for which operation, and what a hash holds. The bounds are kept by
//! `scripts/dead_letters/`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Script, ScriptInvocation};

use super::breaker::Rule;
use super::error::{LinkError, OpenError};
use super::fit;
use super::link::Link;
use super::record::Damage;
use super::scripts::millis;
use crate::dead_letters::{Bounds, Content, DeadLetter, DeadLetterStore, Page, Summary};
use crate::job::{Job, JobId};
use crate::program::config::{Prefix, RedisUrl};
use crate::queue::wire::{decode_jobs, encode_jobs};
use crate::store::StoreError;

/// Longest time for one call.
const BUDGET: Duration = Duration::from_secs(2);

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("scripts/dead_letters/prelude.lua"),
            include_str!(concat!("scripts/dead_letters/", $name, ".lua"))
        ))
    };
}

/// Dead letters of all processes with the same prefix, on the server of the records.
#[derive(Debug)]
pub struct RedisDeadLetters {
    link: Link,
    bounds: Bounds,
    ids: String,
    total: String,
    dead_letter_prefix: String,
    add: Script,
    list: Script,
    remove: Script,
    purge: Script,
}

impl RedisDeadLetters {
    /// The dead letters of that prefix. Redis need not be up yet.
    ///
    /// # Errors
    /// An address that cannot be used.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(url: &RedisUrl, prefix: &Prefix, bounds: Bounds) -> Result<Self, OpenError> {
        let content = fit::Content::records(prefix);
        let prefix = prefix.as_str();
        Ok(Self {
            link: Link::open(url, content, BUDGET, Rule::RECORDS)?,
            bounds,
            ids: format!("{prefix}:dead_letters"),
            total: format!("{prefix}:dead_letters:bytes"),
            dead_letter_prefix: format!("{prefix}:dead_letter:"),
            add: script!("add"),
            list: script!("list"),
            remove: script!("remove"),
            purge: script!("purge"),
        })
    }

    fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(&self.ids)
            .key(&self.total)
            .key(&self.dead_letter_prefix);
        call
    }

    fn damaged(&self, field: &'static str) -> StoreError {
        let error = LinkError::Damaged {
            redis: self.link.redis(),
            source: Arc::new(Damage::of(field)),
        };
        error.into()
    }
}

#[async_trait]
impl DeadLetterStore for RedisDeadLetters {
    async fn add(&self, dead_letter: &DeadLetter) -> Result<(), StoreError> {
        let body = match &dead_letter.content {
            Content::Job(job) => encode_jobs(std::slice::from_ref(job))
                .map_err(|error| StoreError(error.into()))?
                .into(),
            Content::Foreign(bytes) => bytes.clone(),
        };
        let mut call = self.call(&self.add);
        call.arg(dead_letter.id.to_string())
            .arg(millis(dead_letter.died_at));
        call.arg(serde_json::to_string(&dead_letter.summary())?)
            .arg(&body[..]);
        call.arg(self.bounds.dead_letters).arg(self.bounds.bytes);
        // The broker forgets the message after this.
        Ok(self.link.kept_script(&call).await?)
    }

    async fn list(&self, offset: u64, limit: u64) -> Result<Page, StoreError> {
        let mut call = self.call(&self.list);
        // Redis counts in signed numbers, and there are no more.
        let most = self.bounds.dead_letters;
        call.arg(offset.min(most)).arg(limit.min(most));
        let (total, found): (u64, Vec<Vec<u8>>) = self.link.script(&call).await?;
        // What this version cannot read is another's: better left out than the whole list lost.
        let read = |meta: Vec<u8>| serde_json::from_slice(&meta).ok();
        let items = found.into_iter().filter_map(read).collect();
        Ok(Page { items, total })
    }

    async fn get(&self, id: JobId) -> Result<Option<DeadLetter>, StoreError> {
        let mut read = redis::cmd("HMGET");
        read.arg(format!("{}{id}", self.dead_letter_prefix));
        read.arg("meta").arg("body");
        let found: (Option<Vec<u8>>, Option<Vec<u8>>) = self.link.command(&read).await?;
        let (meta, body) = match found {
            (None, _) => return Ok(None),
            (Some(_), None) => return Err(self.damaged("body")),
            (Some(meta), Some(body)) => (meta, Bytes::from(body)),
        };
        let meta: Summary = serde_json::from_slice(&meta).map_err(|_| self.damaged("meta"))?;
        let jobs = decode_jobs(&body).unwrap_or_default();
        Ok(Some(DeadLetter {
            id,
            reason: meta.reason,
            attempts: meta.attempts,
            queue: meta.queue,
            died_at: meta.died_at,
            content: match <[Job; 1]>::try_from(jobs) {
                Ok([job]) => Content::Job(Box::new(job)),
                Err(_) => Content::Foreign(body),
            },
        }))
    }

    async fn remove(&self, id: JobId) -> Result<bool, StoreError> {
        let mut call = self.call(&self.remove);
        call.arg(id.to_string());
        Ok(self.link.script(&call).await?)
    }

    async fn purge(&self) -> Result<u64, StoreError> {
        Ok(self.link.script(&self.call(&self.purge)).await?)
    }

    async fn count(&self) -> Result<u64, StoreError> {
        let mut count = redis::cmd("ZCARD");
        count.arg(&self.ids);
        Ok(self.link.command(&count).await?)
    }
}
