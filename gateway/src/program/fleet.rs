//! Opens what a gateway of a fleet stands on: RabbitMQ and Redis. Not used in embedded mode.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use selvage_core::backends::{self, REDIS_SETTING};
use selvage_core::cache::{Layered, MemoryCache};
use selvage_core::catalog::Catalog;
use selvage_core::dead_letters::Bounds;
use selvage_core::program::StartError;
use selvage_core::program::config::{AmqpUrls, RedisUrl};
use selvage_core::queue::rabbit::Role;
use selvage_core::redis::RedisDeadLetters;

use crate::program::config::Settings;
use crate::service::gateway::Backends;

/// Opens the backends at these addresses. Redis need not be up, nor need RabbitMQ.
///
/// # Errors
/// As [`backends::open`].
pub async fn open(
    settings: &Settings,
    urls: (&AmqpUrls, &RedisUrl),
    catalog: &Catalog,
    registry: &Registry,
) -> Result<Backends, StartError> {
    let shared = &settings.shared;
    let dead_letters = RedisDeadLetters::new(urls.1, &shared.prefix, Bounds::default())
        .map_err(|error| StartError::usage(REDIS_SETTING, error))?;
    let opening = backends::open(shared, urls, Role::Gateway, catalog, registry);
    let (backends, store, queue, reports) = opening.await?;
    let ttl = Duration::from_secs(shared.cache_ttl);
    let local_cache = MemoryCache::new(settings.local_cache, ttl);
    Ok(Backends {
        dead_letter_queue: queue.dead_letters(),
        dead_letters: Arc::new(dead_letters),
        queue,
        reports,
        cache: Arc::new(Layered::new(local_cache.clone(), backends.cache)),
        local_cache: Some(local_cache),
        store,
        fleet: backends.fleet,
        clock: backends.clock,
        durable: true,
    })
}
