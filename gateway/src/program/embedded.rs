//! Embedded mode: the same gateway and the same worker in one process, over backends in memory. Nothing here answers a
//! request; it only puts the two together and ends them in the right order.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use selvage_core::cache::MemoryCache;
use selvage_core::clock::Clock;
use selvage_core::dead_letters::{Bounds, MemoryDeadLetters};
use selvage_core::program::StartError;
use selvage_core::queue::Queue as _;
use selvage_core::queue::memory::MemoryQueue;
use selvage_core::registry::MemoryFleet;
use selvage_core::store::MemoryStore;
use selvage_worker::Worker;
use selvage_worker::config::WorkerSettings;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::http::app::App;
use crate::http::server::serve;
use crate::program::config::Settings;
use crate::program::start::{Ports, Prepared, start};
use crate::service::gateway::Backends;

/// Records kept in memory, finished and unfinished; about a kilobyte each.
const MAX_RECORDS: usize = 50_000;
/// Longest time from a warm worker to one that consumes; nothing but task switches lies between.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How often the end of asynchronous jobs is looked for during a drain.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs gateway and worker until `shutdown` fires and both have drained.
///
/// # Errors
/// See [`StartError`]; a worker that ends by itself takes the gateway along.
pub async fn run(
    settings: &Settings,
    prepared: Prepared,
    ports: Ports,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    tracing::info!(
        "embedded: no broker URL set (SELVAGE_AMQP_URL); jobs and results live in this process and end with it"
    );
    let registry = Registry::new();
    let seconds = Duration::from_secs;
    let (queue, reports) = MemoryQueue::new(settings.queue_capacity);
    let (cache_ttl, retention) = (settings.shared.cache_ttl, settings.shared.job_ttl);
    let clock = Clock::default();
    let store = MemoryStore::new(MAX_RECORDS, seconds(retention), clock.clone());
    let store = Arc::new(store);
    let shared = selvage_worker::Backends {
        queue: queue.clone(),
        cache: Arc::new(MemoryCache::new(settings.local_cache, seconds(cache_ttl))),
        store: store.clone(),
        fleet: Arc::new(MemoryFleet::new(clock.clone())),
        clock,
    };
    let backends = Backends {
        queue: shared.queue.clone(),
        dead_letter_queue: queue.dead_letters(),
        dead_letters: Arc::new(MemoryDeadLetters::new(Bounds::default())),
        reports,
        cache: shared.cache.clone(),
        // The worker writes into this very cache.
        local_cache: None,
        store: store.clone(),
        fleet: shared.fleet.clone(),
        clock: shared.clock.clone(),
        durable: false,
    };
    let worker = Worker::prepare(
        // A model in the worker's hands is not in a request's.
        prepared.models.catalog().unshared(),
        worker_settings(settings),
        shared,
        &registry,
        &shutdown,
    );
    let worker = worker.await?;
    if shutdown.is_cancelled() {
        // It consumes nothing; it only ends its sessions, without which the process could crash at its end.
        return worker.run(shutdown).await;
    }
    let app = start(settings, prepared, backends, &registry)?;
    let (ready, stop) = (worker.ready(), CancellationToken::new());
    let mut working = JoinSet::new();
    working.spawn(worker.run(stop.clone()));
    until_ready(ready).await?;
    let listener = ports.listen(&app)?;
    let ended = together(&app, listener, &shutdown, &mut working).await;
    let end = app.life.ends_at();
    if ended.is_ok() {
        until_finished(&store, end).await;
    }
    stop.cancel();
    let worker_end = end.max(Instant::now() + Duration::from_secs(1));
    if timeout_at(worker_end, working.join_next()).await.is_err() {
        tracing::warn!("the worker did not end in time");
    }
    queue.close().await;
    ended
}

/// Serves until `shutdown`; a worker that ends before is a reason to shut down.
async fn together(
    app: &App,
    listener: TcpListener,
    shutdown: &CancellationToken,
    working: &mut JoinSet<Result<(), StartError>>,
) -> Result<(), StartError> {
    let serving = serve(app.clone(), listener, shutdown.clone());
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => served.map_err(|error| StartError::Internal(error.into())),
        worker = working.join_next() => {
            shutdown.cancel();
            serving.await.map_err(|error| StartError::Internal(error.into()))?;
            Err(match worker {
                Some(Ok(Err(error))) => error,
                _ => StartError::Internal(anyhow::anyhow!("the worker ended by itself")),
            })
        }
    }
}

async fn until_ready(mut ready: watch::Receiver<bool>) -> Result<(), StartError> {
    match timeout(READY_LIMIT, ready.wait_for(|ready| *ready)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(StartError::Internal(anyhow::anyhow!(
            "the worker does not consume"
        ))),
    }
}

/// Waits for the asynchronous jobs, which nobody could take over.
async fn until_finished(store: &MemoryStore, end: Instant) {
    let mut looks = interval(LOOK_EVERY);
    let finished = async {
        while store.unfinished() > 0 {
            looks.tick().await;
        }
    };
    if timeout_at(end, finished).await.is_err() {
        let left = store.unfinished();
        tracing::warn!(
            left,
            "the drain time is over: {left} jobs end unfinished with this process"
        );
    }
}

fn worker_settings(settings: &Settings) -> WorkerSettings {
    WorkerSettings {
        models: settings.shared.models_source(),
        engine: settings.engine.clone(),
        max_pixels: settings.shared.max_pixels,
        prefetch: None,
        drain_timeout: Duration::from_secs(settings.drain_timeout),
    }
}
