//! Scores in Redis: best effort, within 50 ms, never at the cost of an answer.

use std::time::Duration;

use async_trait::async_trait;
use redis::{Pipeline, Value};

use super::breaker::Rule;
use super::error::{LinkError, OpenError};
use super::fit::Content;
use super::link::Link;
use super::record::WRONG_TYPE;
use crate::cache::{Cache, CacheError, Cached};
use crate::clock::UnixMillis;
use crate::key::PredictionKey;
use crate::outcome::{Scores, checksum};
use crate::program::config::{Prefix, RedisUrl};

/// What one call may add to a request that it cannot answer. A request makes two, the gateway's look and the worker's
/// write, and is not to lose more than 60 ms by a cache that has fallen silent. A healthy Redis answers in under a millisecond.
const BUDGET: Duration = Duration::from_millis(25);
/// Longest time to say whether the cache is there; nobody's answer waits for it.
const PING_BUDGET: Duration = Duration::from_millis(500);
/// Larger values are not kept: 16 thousand labels are no classifier this cache is made for.
const LARGEST_VALUE: usize = 64 * 1024;
/// How far a lifetime may be off, so that entries of one moment do not end in one moment.
const JITTER: std::ops::RangeInclusive<f64> = 0.9..=1.1;

/// Scores in Redis, shared by all processes with the same prefix.
#[derive(Debug)]
pub struct RedisCache {
    link: Link,
    key_prefix: String,
    ttl: Duration,
}

impl RedisCache {
    /// A cache whose entries live for `ttl`, give or take a tenth, after they were last asked for. Redis need not be up yet.
    ///
    /// # Errors
    /// An address that cannot be used.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(url: &RedisUrl, prefix: &Prefix, ttl: Duration) -> Result<Self, OpenError> {
        Self::with_budget(url, prefix, ttl, BUDGET)
    }

    /// The same with another time for each call, for machines on which 50 ms are no sign of trouble.
    ///
    /// # Errors
    /// An address that cannot be used.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn with_budget(
        url: &RedisUrl,
        prefix: &Prefix,
        ttl: Duration,
        budget: Duration,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            link: Link::open(url, Content::results(prefix), budget, Rule::RESULTS)?,
            key_prefix: format!("{}:p:", prefix.as_str()),
            ttl,
        })
    }

    fn name(&self, key: &PredictionKey) -> String {
        format!("{}{key}", self.key_prefix)
    }

    /// A lifetime for one entry, in whole milliseconds.
    fn lifetime_ms(&self) -> u64 {
        let span = self.ttl.mul_f64(rand::random_range(JITTER));
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// The entry in one reply; garbage and other types are none.
    fn entry(&self, reply: Value, ttl_ms: u64) -> Result<Option<Cached>, CacheError> {
        let bytes = match reply {
            Value::BulkString(bytes) => bytes,
            Value::ServerError(error) if error.code() != WRONG_TYPE => {
                return Err(self.link.failed(error).into());
            }
            _ => return Ok(None),
        };
        let ttl = Duration::from_millis(ttl_ms);
        Ok(read(&bytes).map(|(scores, made_at)| Cached {
            scores,
            ttl,
            made_at,
        }))
    }
}

/// A value: the scores, when they were made, and a checksum of that.
fn write(scores: &Scores, made_at: UnixMillis) -> Vec<u8> {
    let mut value = scores.to_bytes();
    let made_at = made_at.0.to_le_bytes();
    value.extend_from_slice(&made_at);
    value.extend_from_slice(&checksum(&made_at).to_le_bytes());
    value
}

/// What [`write()`] wrote; anything else, cut or altered, is `None`.
fn read(value: &[u8]) -> Option<(Scores, UnixMillis)> {
    let (value, sum) = value.split_last_chunk::<4>()?;
    let (scores, made_at) = value.split_last_chunk::<8>()?;
    let intact = u32::from_le_bytes(*sum) == checksum(made_at);
    let scores = Scores::from_bytes(scores).filter(|_| intact)?;
    Some((scores, UnixMillis(u64::from_le_bytes(*made_at))))
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, keys: &[PredictionKey]) -> Result<Vec<Option<Cached>>, CacheError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let lifetimes: Vec<u64> = keys.iter().map(|_| self.lifetime_ms()).collect();
        let mut commands = Pipeline::with_capacity(keys.len());
        for (key, ttl_ms) in keys.iter().zip(&lifetimes) {
            let command = commands.cmd("GETEX");
            command.arg(self.name(key)).arg("PX").arg(*ttl_ms);
        }
        let replies = self.link.pipeline(&commands).await?;
        let entries = replies.into_iter().zip(lifetimes);
        entries
            .map(|(reply, ttl_ms)| self.entry(reply, ttl_ms))
            .collect()
    }

    async fn put(&self, entries: &[(PredictionKey, Scores)]) -> Result<(), CacheError> {
        let mut commands = Pipeline::with_capacity(entries.len());
        let now = UnixMillis::wall();
        for (key, scores) in entries {
            let value = write(scores, now);
            if value.len() > LARGEST_VALUE {
                continue;
            }
            let command = commands.cmd("SET").arg(self.name(key)).arg(value);
            command.arg("PX").arg(self.lifetime_ms());
        }
        if commands.is_empty() {
            return Ok(());
        }
        for reply in self.link.pipeline(&commands).await? {
            reply
                .extract_error()
                .map_err(|error| self.link.failed(error))?;
        }
        Ok(())
    }

    async fn ping(&self) -> bool {
        self.link.ping(PING_BUDGET).await
    }
}

impl From<LinkError> for CacheError {
    fn from(error: LinkError) -> Self {
        Self(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_were_cut_or_altered_are_none() {
        let scores = Scores::new(vec![0.25_f32, 0.75]);
        let good = write(&scores, UnixMillis(7));
        assert_eq!(read(&good), Some((scores, UnixMillis(7))));
        for at in 0..good.len() {
            assert_eq!(read(&good[..at]), None, "cut at {at}");
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(read(&bad), None, "altered at {at}");
        }
    }
}
