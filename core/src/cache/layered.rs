//! A local cache before a far one. Knows neither's insides.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Cache, CacheError, Cached, MemoryCache};
use crate::key::PredictionKey;
use crate::outcome::Scores;

/// This process's memory first, then the cache all processes share.
///
/// What the local cache has is given out whatever becomes of the far one: a far error is an error only where near had
/// nothing at all, and otherwise the keys near lacks are misses.
#[derive(Clone, Debug)]
pub struct Layered {
    local: MemoryCache,
    shared: Arc<dyn Cache>,
}

impl Layered {
    /// Puts `local` before `shared`.
    #[must_use]
    pub fn new(local: MemoryCache, shared: Arc<dyn Cache>) -> Self {
        Self { local, shared }
    }
}

#[async_trait]
impl Cache for Layered {
    async fn get(&self, keys: &[PredictionKey]) -> Result<Vec<Option<Cached>>, CacheError> {
        let mut found: Vec<Option<Cached>> = keys.iter().map(|key| self.local.find(key)).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|&at| found[at].is_none()).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let wanted: Vec<PredictionKey> = missing.iter().map(|&at| keys[at]).collect();
        let fetched = match self.shared.get(&wanted).await {
            Ok(fetched) => fetched,
            Err(error) if missing.len() == keys.len() => return Err(error),
            Err(error) => {
                tracing::debug!(error = %error.0, "the shared cache failed, near answers are given alone");
                return Ok(found);
            }
        };
        for (at, cached) in missing.into_iter().zip(fetched) {
            if let Some(cached) = &cached {
                let scores = cached.scores.clone();
                self.local.keep_made(keys[at], scores, cached.made_at);
            }
            found[at] = cached;
        }
        Ok(found)
    }

    fn at_hand(&self, key: &PredictionKey) -> Option<Cached> {
        self.local.find(key)
    }

    async fn put(&self, entries: &[(PredictionKey, Scores)]) -> Result<(), CacheError> {
        self.local.put(entries).await?;
        self.shared.put(entries).await
    }

    async fn ping(&self) -> bool {
        self.shared.ping().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::suite::{key, scores};
    use crate::clock::UnixMillis;

    const TTL: Duration = Duration::from_secs(3600);

    /// A cache that is away.
    #[derive(Debug)]
    struct Away;

    #[async_trait]
    impl Cache for Away {
        async fn get(&self, _: &[PredictionKey]) -> Result<Vec<Option<Cached>>, CacheError> {
            Err(CacheError("away".into()))
        }

        async fn put(&self, _: &[(PredictionKey, Scores)]) -> Result<(), CacheError> {
            Err(CacheError("away".into()))
        }

        async fn ping(&self) -> bool {
            false
        }
    }

    fn memory() -> MemoryCache {
        MemoryCache::new(1 << 20, TTL)
    }

    fn two_memories() -> std::future::Ready<Layered> {
        std::future::ready(Layered::new(memory(), Arc::new(memory())))
    }

    crate::cache_suite!(two_memories);

    #[tokio::test]
    async fn what_only_far_has_is_found_and_comes_near() {
        let (local, shared) = (memory(), memory());
        shared.keep(key(1), scores(1));
        let layered = Layered::new(local.clone(), Arc::new(shared));
        let found = layered.get(&[key(1), key(2)]).await.unwrap();
        assert_eq!(
            found[0].as_ref().map(|cached| &cached.scores),
            Some(&scores(1))
        );
        assert_eq!(found[1], None);
        assert_eq!(local.find(&key(1)).unwrap().scores, scores(1));
    }

    #[tokio::test]
    async fn what_comes_near_is_no_younger_for_it() {
        let (local, shared) = (memory(), memory());
        shared.keep_made(key(1), scores(1), UnixMillis(5));
        let layered = Layered::new(local.clone(), Arc::new(shared));
        for _ in 0..2 {
            let found = layered.get(&[key(1)]).await.unwrap().remove(0);
            assert_eq!(found.unwrap().made_at, UnixMillis(5));
        }
        assert_eq!(local.find(&key(1)).unwrap().made_at, UnixMillis(5));
    }

    #[tokio::test]
    async fn put_reaches_both() {
        let (local, shared) = (memory(), memory());
        let layered = Layered::new(local.clone(), Arc::new(shared.clone()));
        assert_eq!(layered.at_hand(&key(1)), None);
        layered.put(&[(key(1), scores(1))]).await.unwrap();
        assert!(layered.at_hand(&key(1)).is_some());
        assert!(local.find(&key(1)).is_some() && shared.find(&key(1)).is_some());
    }

    #[tokio::test]
    async fn near_answers_are_given_while_far_is_away() {
        let local = memory();
        local.keep(key(1), scores(1));
        let layered = Layered::new(local.clone(), Arc::new(Away));
        let found = layered.get(&[key(2), key(1)]).await.unwrap();
        assert_eq!((found[0].is_none(), found[1].is_some()), (true, true));
        layered.get(&[key(2)]).await.unwrap_err();
        layered.put(&[(key(2), scores(2))]).await.unwrap_err();
        assert!(!layered.ping().await);
        assert!(
            local.find(&key(2)).is_some(),
            "a far error kept near from the entry"
        );
    }
}
