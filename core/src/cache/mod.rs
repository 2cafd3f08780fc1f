//! The result cache: scores by [`PredictionKey`]. Its contract; backends live beside it and pass one suite.
//!
//! A cache may forget and may be away; it never answers with another key's scores. Callers treat an error as a miss.

mod layered;
mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::BoxError;
use crate::clock::UnixMillis;
use crate::key::PredictionKey;
use crate::outcome::Scores;
pub use layered::Layered;
pub use memory::MemoryCache;

/// Scores by key, with a lifetime.
#[async_trait]
pub trait Cache: Debug + Send + Sync {
    /// The scores under each key, in the keys' order, and renews their lifetime. Garbage under a key is `None`.
    ///
    /// # Errors
    /// [`CacheError`] when the cache is away or slower than its budget; callers go on as after a miss.
    async fn get(&self, keys: &[PredictionKey]) -> Result<Vec<Option<Cached>>, CacheError>;

    /// The scores under a key where this process has them itself: never waits, and sees at once what [`Self::put`] has put.
    fn at_hand(&self, _key: &PredictionKey) -> Option<Cached> {
        None
    }

    /// Keeps scores under their keys for the cache's lifetime; what is there already is replaced by the same.
    ///
    /// # Errors
    /// [`CacheError`] when the cache is away or slower than its budget; callers go on.
    async fn put(&self, entries: &[(PredictionKey, Scores)]) -> Result<(), CacheError>;

    /// Whether the cache answers; for people, who want to know it before anything is slow.
    async fn ping(&self) -> bool;
}

/// An entry that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Cached {
    /// The scores.
    pub scores: Scores,
    /// How long it will stay if nobody asks for it again.
    pub ttl: Duration,
    /// When the scores were put there first, by the wall clock of who did.
    pub made_at: UnixMillis,
}

/// The cache could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the cache cannot be reached")]
pub struct CacheError(#[source] pub BoxError);
