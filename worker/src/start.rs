//! From settings to a running worker, and what can be wrong on the way. Only for the program; an embedded gateway has its
//! own start.

use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry;
use selvage_core::backends;
use selvage_core::catalog::Catalog;
use selvage_core::program::config::or_none;
use selvage_core::program::{Port, StartError, trace};
use selvage_core::queue::rabbit::Role;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::consume::{Worker, blocking, load_runtime};
use crate::ops::{self, Ops};

/// Runs a worker until `shutdown` fires and it has drained. A start ends early too, but not while a session is being opened.
///
/// # Errors
/// See [`StartError`].
pub async fn run(config: &Config, shutdown: CancellationToken) -> Result<(), StartError> {
    let urls = config
        .urls()
        .map_err(|error| StartError::Usage(error.into()))?;
    let catalog = catalog(config)?;
    let engine = config.engine.clone();
    // Before anything is connected to: without it nothing else matters.
    let (_, device) = blocking(move || load_runtime(&engine)).await?;
    let mut settings = config.worker();
    settings.engine.device = device;
    let port = Port::of_ops(config.ops_listen)?;
    let registry = Registry::new();
    announce(config, &catalog);
    let opening = backends::open(&config.shared, urls, Role::Worker, &catalog, &registry);
    let Some(backends) = shutdown.run_until_cancelled(opening).await else {
        return Ok(());
    };
    let (backends, ..) = backends?;
    let queue = Arc::clone(&backends.queue);
    let worker = Worker::prepare(catalog, settings, backends, &registry, &shutdown).await?;
    trace::register(&registry)
        .context("the metrics of traces")
        .map_err(StartError::Internal)?;
    let mut serving = JoinSet::new();
    if let Some(port) = port {
        let address = port.address();
        let listener = port.listen()?;
        tracing::info!(addr = %address, "health and metrics on http://{address}");
        let ops = Ops {
            registry,
            consuming: worker.ready(),
            queue: Arc::clone(&queue),
        };
        serving.spawn(ops::serve(ops, listener));
    }
    let ended = worker.run(shutdown).await;
    queue.close().await;
    serving.shutdown().await;
    ended
}

fn catalog(config: &Config) -> Result<Catalog, StartError> {
    let catalog = Catalog::read(&config.shared.models)
        .map_err(|error| StartError::usage("--models / SELVAGE_MODELS", error))?;
    if config.serve.is_empty() {
        return Ok(catalog);
    }
    catalog.only(&config.serve).map_err(|name| {
        StartError::Usage(anyhow::anyhow!(
            "--serve / SELVAGE_SERVE: the models folder has no `{name}`"
        ))
    })
}

/// One line with the settings as they are in effect; addresses show neither user nor password.
fn announce(config: &Config, catalog: &Catalog) {
    let shared = &config.shared;
    tracing::info!(
        amqp_url = or_none(shared.amqp_url.as_ref()),
        redis_url = or_none(shared.redis_url.as_ref()),
        cache_url = or_none(shared.cache_url.as_ref()),
        otlp_url = or_none(shared.trace.otlp_url.as_ref()),
        prefix = shared.prefix.as_str(),
        models = catalog.names(),
        max_pixels = shared.max_pixels,
        drain_timeout_s = config.drain_timeout,
        "selvage-worker {}",
        env!("CARGO_PKG_VERSION"),
    );
}
