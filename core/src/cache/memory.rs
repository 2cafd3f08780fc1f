//! The cache inside this process, bounded in bytes. No network here.

use std::time::Duration;

use async_trait::async_trait;

use super::{Cache, CacheError, Cached};
use crate::clock::UnixMillis;
use crate::key::PredictionKey;
use crate::outcome::Scores;

/// What one entry costs besides its scores, in bytes: the key, the map's slot and its places in the eviction queues.
const ENTRY_BYTES: usize = 256;

/// Scores in this process's memory; cheap to clone, clones share the entries.
#[derive(Clone, Debug)]
pub struct MemoryCache {
    entries: moka::sync::Cache<PredictionKey, (Scores, UnixMillis)>,
    ttl: Duration,
}

impl MemoryCache {
    /// A cache of about `capacity_bytes`, whose entries live for `ttl` after they were last asked for.
    ///
    /// When it is full, what is asked for seldom goes first, and that may be the newcomer.
    #[must_use]
    pub fn new(capacity_bytes: u64, ttl: Duration) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(capacity_bytes)
            .weigher(|_, (scores, _): &(Scores, UnixMillis)| {
                let bytes = ENTRY_BYTES + size_of_val(scores.as_slice());
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .time_to_idle(ttl)
            .build();
        Self { entries, ttl }
    }

    /// The entry under one key, and renews its lifetime.
    #[must_use]
    pub fn find(&self, key: &PredictionKey) -> Option<Cached> {
        let (scores, made_at) = self.entries.get(key)?;
        Some(Cached {
            scores,
            ttl: self.ttl,
            made_at,
        })
    }

    /// Keeps scores under one key that were made just now.
    pub fn keep(&self, key: PredictionKey, scores: Scores) {
        self.keep_made(key, scores, UnixMillis::wall());
    }

    /// Keeps scores under one key.
    pub fn keep_made(&self, key: PredictionKey, scores: Scores, made_at: UnixMillis) {
        self.entries.insert(key, (scores, made_at));
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, keys: &[PredictionKey]) -> Result<Vec<Option<Cached>>, CacheError> {
        Ok(keys.iter().map(|key| self.find(key)).collect())
    }

    fn at_hand(&self, key: &PredictionKey) -> Option<Cached> {
        self.find(key)
    }

    async fn put(&self, entries: &[(PredictionKey, Scores)]) -> Result<(), CacheError> {
        for (key, scores) in entries {
            self.keep(*key, scores.clone());
        }
        Ok(())
    }

    async fn ping(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::suite::{key, scores};

    fn roomy() -> std::future::Ready<MemoryCache> {
        std::future::ready(MemoryCache::new(1 << 20, Duration::from_secs(3600)))
    }

    crate::cache_suite!(roomy);

    #[test]
    fn a_full_cache_stays_within_its_bytes() {
        let cache = MemoryCache::new(100 * 1024, Duration::from_secs(3600));
        for n in 0..2_000 {
            cache.keep(key(n), scores(n));
        }
        cache.entries.run_pending_tasks();
        let bytes = cache.entries.weighted_size();
        assert!(bytes > 0 && bytes <= 100 * 1024, "{bytes}");
    }

    #[test]
    fn an_entry_nobody_asks_for_goes_away() {
        let cache = MemoryCache::new(1 << 20, Duration::from_millis(20));
        cache.keep(key(1), scores(1));
        let patience = std::time::Instant::now() + Duration::from_secs(10);
        // `contains_key` does not count as asking, so it does not renew what it looks at.
        while cache.entries.contains_key(&key(1)) {
            assert!(std::time::Instant::now() < patience, "the entry stayed");
            std::thread::yield_now();
        }
        assert_eq!(cache.find(&key(1)), None);
    }
}
