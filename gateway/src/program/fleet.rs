//! Opens what a gateway of a fleet stands on: RabbitMQ and Redis. Not used in embedded mode.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus::Registry;
use selvage_core::cache::{Cache, Layered, MemoryCache};
use selvage_core::catalog::Catalog;
use selvage_core::clock::Clock;
use selvage_core::config::{AmqpUrls, RedisUrl};
use selvage_core::dead_letters::Bounds;
use selvage_core::fleet::Fleet;
use selvage_core::queue::QueueError;
use selvage_core::queue::rabbit::{QueueCounters, RabbitQueue, RabbitSettings, Role};
use selvage_core::redis::{RedisCache, RedisDeadLetters, RedisFleet, RedisStore};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::program::config::Settings;
use crate::program::start_error::StartError;
use crate::service::gateway::Backends;

/// How long the start waits for a broker that is away; then the gateway says that it is not ready and goes on.
const BROKER_WAIT: Duration = Duration::from_secs(3);
/// How often the clock is set by the shared one. Crystals drift by less than a millisecond in that time.
const ANCHOR_EVERY: Duration = Duration::from_secs(10);
/// Longest time one reading of the shared clock may take, since a slower one says little about now; and the question at the
/// start whether Redis keeps records.
const ANCHOR_LIMIT: Duration = Duration::from_secs(1);

/// Opens the backends at these addresses. Redis need not be up, nor need RabbitMQ.
///
/// # Errors
/// [`StartError::Usage`] for an address that cannot be used, [`StartError::Refused`] where the broker refuses us for good or Redis evicts records.
pub async fn open(
    settings: &Settings,
    (amqp, redis): (&AmqpUrls, &RedisUrl),
    catalog: &Catalog,
    registry: &Registry,
) -> Result<Backends, StartError> {
    let shared = &settings.shared;
    let cache_url = shared.cache_url.as_ref().unwrap_or(redis);
    let ttl = Duration::from_secs(shared.cache_ttl);
    let retention = Duration::from_secs(shared.job_ttl);
    let shared_cache = RedisCache::new(cache_url, &shared.prefix, ttl)
        .context("--cache-url / SELVAGE_CACHE_URL")
        .map_err(StartError::Usage)?;
    let redis_url = "--redis-url / SELVAGE_REDIS_URL";
    let store = RedisStore::new(redis, &shared.prefix, retention)
        .context(redis_url)
        .map_err(StartError::Usage)?;
    let dead_letters = RedisDeadLetters::new(redis, &shared.prefix, Bounds::default())
        .context(redis_url)
        .map_err(StartError::Usage)?;
    let fleet = RedisFleet::new(redis, &shared.prefix).context(redis_url);
    let fleet: Arc<dyn Fleet> = Arc::new(fleet.map_err(StartError::Usage)?);
    let clock = Clock::default();
    anchor_once(&clock, fleet.as_ref()).await;
    let fit = store.fit(ANCHOR_LIMIT).await.context(redis_url);
    fit.map_err(StartError::Refused)?;
    let names = catalog.models().iter().map(|model| model.name.clone());
    let mut rabbit = RabbitSettings::new(
        amqp.clone(),
        shared.prefix.clone(),
        names.collect(),
        Role::Gateway,
    );
    rabbit.start_up = BROKER_WAIT;
    rabbit.counters = QueueCounters::register(registry)
        .context("the queue's metrics")
        .map_err(StartError::Internal)?;
    let (queue, reports) = RabbitQueue::connect(rabbit).await.map_err(refused)?;
    let local_cache = MemoryCache::new(settings.local_cache, ttl);
    let cache: Arc<dyn Cache> = Arc::new(Layered::new(local_cache.clone(), Arc::new(shared_cache)));
    Ok(Backends {
        dead_letter_queue: queue.dead_letters(),
        dead_letters: Arc::new(dead_letters),
        queue,
        reports,
        cache,
        local_cache: Some(local_cache),
        store: Arc::new(store),
        fleet,
        clock,
        durable: true,
    })
}

fn refused(error: QueueError) -> StartError {
    let setting = "--amqp-url / SELVAGE_AMQP_URL";
    match error {
        QueueError::Refused(_) => StartError::Refused(anyhow::Error::new(error).context(setting)),
        QueueError::Unavailable(_) => {
            StartError::Internal(anyhow::Error::new(error).context(setting))
        }
    }
}

/// Sets the clock by the shared one, again and again, until `stop` fires.
pub async fn keep_time(clock: Clock, fleet: Arc<dyn Fleet>, stop: CancellationToken) {
    let mut ticks = interval(ANCHOR_EVERY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        anchor_once(&clock, fleet.as_ref()).await;
    }
}

/// Where the shared clock cannot be read, the last anchor stays: the process's own clock runs on from there.
async fn anchor_once(clock: &Clock, fleet: &dyn Fleet) {
    if let Ok(Ok(now)) = timeout(ANCHOR_LIMIT, fleet.time()).await {
        clock.anchor(now);
    }
}
