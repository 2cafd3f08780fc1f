//! Opens what every process of a fleet needs: RabbitMQ and Redis.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error};
use prometheus::Registry;
use tokio::time::timeout;

use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::program::StartError;
use crate::program::config::{AmqpUrls, RedisUrl, SharedSettings};
use crate::queue::rabbit::{QueueCounters, RabbitQueue, RabbitSettings, Role};
use crate::queue::{Queue, QueueError, Reports};
use crate::redis::{RedisCache, RedisFleet, RedisStore};
use crate::registry::Fleet;
use crate::store::WorkerStore;

/// How the setting of the records' Redis is named in errors.
pub const REDIS_SETTING: &str = "--redis-url / SELVAGE_REDIS_URL";
/// How long the start waits for a broker that is away; then the process is not ready and goes on.
const BROKER_WAIT: Duration = Duration::from_secs(3);
/// Longest time for each of the first questions to Redis: the shared time, and whether it keeps records.
const REDIS_WAIT: Duration = Duration::from_secs(1);

/// What gateways and workers need of the outside; cheap to clone.
#[derive(Clone, Debug)]
pub struct Backends {
    /// Where jobs go and reports come from.
    pub queue: Arc<dyn Queue>,
    /// Results by key.
    pub cache: Arc<dyn Cache>,
    /// Records of asynchronous jobs.
    pub store: Arc<dyn WorkerStore>,
    /// Which processes there are.
    pub fleet: Arc<dyn Fleet>,
    /// The shared time, by which deadlines are measured.
    pub clock: Clock,
}

/// Opens RabbitMQ and Redis at these addresses. Neither need be up.
///
/// # Errors
/// [`StartError::Usage`] for an address that cannot be used, [`StartError::Refused`] where the broker refuses this process
/// or Redis evicts records.
pub async fn open(
    settings: &SharedSettings,
    (amqp, redis): (&AmqpUrls, &RedisUrl),
    role: Role,
    catalog: &Catalog,
    registry: &Registry,
) -> Result<(Backends, Arc<RedisStore>, Arc<RabbitQueue>, Reports), StartError> {
    let cache_url = settings.cache_url.as_ref().unwrap_or(redis);
    let cache_ttl = Duration::from_secs(settings.cache_ttl);
    let retention = Duration::from_secs(settings.job_ttl);
    let cache = RedisCache::new(cache_url, &settings.prefix, cache_ttl)
        .map_err(|error| StartError::usage("--cache-url / SELVAGE_CACHE_URL", error))?;
    let unusable = |error| StartError::usage(REDIS_SETTING, error);
    let store = RedisStore::new(redis, &settings.prefix, retention).map_err(unusable)?;
    let fleet = RedisFleet::new(redis, &settings.prefix).map_err(unusable)?;
    let clock = Clock::default();
    if let Ok(Ok(now)) = timeout(REDIS_WAIT, fleet.time()).await {
        clock.anchor(now);
    }
    let fit = store.fit(REDIS_WAIT).await.context(REDIS_SETTING);
    fit.map_err(StartError::Refused)?;
    let names = catalog.models().iter().map(|model| model.name.clone());
    let prefix = settings.prefix.clone();
    let mut rabbit = RabbitSettings::new(amqp.clone(), prefix, names.collect(), role);
    rabbit.start_up = BROKER_WAIT;
    rabbit.counters = QueueCounters::register(registry)
        .context("the queue's metrics")
        .map_err(StartError::Internal)?;
    let (queue, reports) = RabbitQueue::connect(rabbit).await.map_err(refused)?;
    let store = Arc::new(store);
    let backends = Backends {
        queue: queue.clone(),
        cache: Arc::new(cache),
        store: store.clone(),
        fleet: Arc::new(fleet),
        clock,
    };
    Ok((backends, store, queue, reports))
}

fn refused(error: QueueError) -> StartError {
    let kind = match error {
        QueueError::Refused(_) => StartError::Refused,
        QueueError::Unavailable(_) => StartError::Internal,
    };
    kind(Error::new(error).context("--amqp-url / SELVAGE_AMQP_URL"))
}
