//! From settings to a running worker, and what can be wrong on the way. Only for the program; an embedded gateway has its
//! own start.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus::Registry;
use selvage_core::catalog::Catalog;
use selvage_core::clock::Clock;
use selvage_core::config::{AmqpUrls, EXIT_UNAVAILABLE, EXIT_USAGE, OpsListen, RedisUrl};
use selvage_core::fleet::Fleet;
use selvage_core::queue::QueueError;
use selvage_core::queue::rabbit::{QueueCounters, RabbitQueue, RabbitSettings, Role};
use selvage_core::redis::{RedisCache, RedisFleet, RedisStore};
use selvage_core::trace;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::consume::Backends;
use crate::consume::RunError;
use crate::consume::{PrepareError, Worker, load_runtime};
use crate::onnx::ModelError;
use crate::ops::{self, Ops};

/// How long the start waits for a broker that is away; then the worker says that it is not ready and goes on.
const BROKER_WAIT: Duration = Duration::from_secs(3);
/// Longest time each of the first questions to Redis may take: the shared clock, and whether it keeps records.
const CLOCK_WAIT: Duration = Duration::from_secs(1);

/// Connections that wait in the kernel to be accepted; what `TcpListener::bind` takes.
const BACKLOG: u32 = 1024;

/// Why a worker ended in failure; each kind ends with another exit code.
#[derive(Debug)]
pub enum StartError {
    /// A setting, or a file a setting points to, is wrong.
    Usage(anyhow::Error),
    /// A dependency refused us for good.
    Refused(anyhow::Error),
    /// Something else; retrying may help.
    Internal(anyhow::Error),
}

impl StartError {
    /// Logs it, and gives the code to end with.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Usage(error) => (error, ExitCode::from(EXIT_USAGE)),
            Self::Refused(error) => (error, ExitCode::from(EXIT_UNAVAILABLE)),
            Self::Internal(error) => (error, ExitCode::FAILURE),
        };
        tracing::error!("{error:#}");
        code
    }
}

impl From<PrepareError> for StartError {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Settings(_) | PrepareError::Model(ModelError::Unfit { .. }) => {
                Self::Usage(error.into())
            }
            PrepareError::Model(_) => Self::Refused(error.into()),
            PrepareError::Metrics(_) | PrepareError::Interrupted(_) => Self::Internal(error.into()),
        }
    }
}

/// Runs a worker until `shutdown` fires and it has drained. A start ends early too, but not while a session is being opened.
///
/// # Errors
/// See [`StartError`].
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), StartError> {
    let urls = config
        .urls()
        .map_err(|error| StartError::Usage(error.into()))?;
    let catalog = catalog(&config)?;
    let engine = config.engine.clone();
    // Before anything is connected to: without it nothing else matters.
    spawn_blocking(move || load_runtime(&engine))
        .await
        .map_err(PrepareError::from)?
        .map_err(PrepareError::from)?;
    let ops = bind(config.ops_listen)?;
    let registry = Registry::new();
    announce(&config, &catalog);
    let opening = open_backends(&config, urls, &catalog, &registry);
    let Some(backends) = shutdown.run_until_cancelled(opening).await else {
        return Ok(());
    };
    let backends = backends?;
    let queue = Arc::clone(&backends.queue);
    let worker = Worker::prepare(catalog, config.worker(), backends, &registry, &shutdown).await?;
    trace::register(&registry).map_err(PrepareError::from)?;
    let mut serving = JoinSet::new();
    if let Some(socket) = ops {
        let listener = listen(socket)?;
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
    ended.map_err(|error| match error {
        RunError::Refused(QueueError::Refused(_)) => StartError::Refused(error.into()),
        RunError::Refused(QueueError::Unavailable(_)) | RunError::ConsumerEnded => {
            StartError::Internal(error.into())
        }
    })
}

fn catalog(config: &Config) -> Result<Catalog, StartError> {
    let catalog = Catalog::read(&config.shared.models)
        .context("--models / SELVAGE_MODELS")
        .map_err(StartError::Usage)?;
    if config.serve.is_empty() {
        return Ok(catalog);
    }
    catalog.only(&config.serve).map_err(|name| {
        StartError::Usage(anyhow::anyhow!(
            "--serve / SELVAGE_SERVE: the models folder has no `{name}`"
        ))
    })
}

/// Takes the address, so that one that is taken makes the program exit at once. Connections are refused until [`listen`].
fn bind(listen: OpsListen) -> Result<Option<TcpSocket>, StartError> {
    let OpsListen::At(address) = listen else {
        return Ok(None);
    };
    let bound = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Some(socket))
    };
    bound().map_err(|error| unusable(address, error))
}

/// Opens the port, and logs the address as it is: the port may have been 0.
fn listen(socket: TcpSocket) -> Result<TcpListener, StartError> {
    let internal = |error: io::Error| StartError::Internal(error.into());
    let address = socket.local_addr().map_err(internal)?;
    let listener = socket.listen(BACKLOG);
    let listener = listener.map_err(|error| unusable(address, error))?;
    tracing::info!(addr = %address, "health and metrics on http://{address}");
    Ok(listener)
}

fn unusable(address: SocketAddr, error: io::Error) -> StartError {
    let setting = format!("--ops-listen / SELVAGE_OPS_LISTEN: cannot listen on {address}");
    StartError::Usage(anyhow::Error::new(error).context(setting))
}

/// One line with the settings as they are in effect; addresses show neither user nor password.
fn announce(config: &Config, catalog: &Catalog) {
    let shared = &config.shared;
    let shown = |url: Option<String>| url.unwrap_or_else(|| "none".to_owned());
    let names: Vec<&str> = catalog
        .models()
        .iter()
        .map(|model| model.name.as_str())
        .collect();
    tracing::info!(
        amqp_url = shown(shared.amqp_url.as_ref().map(ToString::to_string)),
        redis_url = shown(shared.redis_url.as_ref().map(ToString::to_string)),
        cache_url = shown(shared.cache_url.as_ref().map(ToString::to_string)),
        otlp_url = shown(shared.trace.otlp_url.as_ref().map(ToString::to_string)),
        prefix = shared.prefix.as_str(),
        models = names.join(", "),
        max_pixels = shared.max_pixels,
        drain_timeout_s = config.drain_timeout,
        "selvage-worker {}",
        env!("CARGO_PKG_VERSION"),
    );
}

/// Opens RabbitMQ and Redis at these addresses. Neither need be up.
async fn open_backends(
    config: &Config,
    (amqp, redis): (&AmqpUrls, &RedisUrl),
    catalog: &Catalog,
    registry: &Registry,
) -> Result<Backends, StartError> {
    let shared = &config.shared;
    let cache_url = shared.cache_url.as_ref().unwrap_or(redis);
    let cache_ttl = Duration::from_secs(shared.cache_ttl);
    let retention = Duration::from_secs(shared.job_ttl);
    let cache = RedisCache::new(cache_url, &shared.prefix, cache_ttl)
        .context("--cache-url / SELVAGE_CACHE_URL")
        .map_err(StartError::Usage)?;
    let redis_url = "--redis-url / SELVAGE_REDIS_URL";
    let store = RedisStore::new(redis, &shared.prefix, retention)
        .context(redis_url)
        .map_err(StartError::Usage)?;
    let fleet = RedisFleet::new(redis, &shared.prefix)
        .context(redis_url)
        .map_err(StartError::Usage)?;
    let clock = Clock::default();
    if let Ok(Ok(now)) = timeout(CLOCK_WAIT, fleet.time()).await {
        clock.anchor(now);
    }
    let fit = store.fit(CLOCK_WAIT).await.context(redis_url);
    fit.map_err(StartError::Refused)?;
    let names = catalog.models().iter().map(|model| model.name.clone());
    let mut rabbit = RabbitSettings::new(
        amqp.clone(),
        shared.prefix.clone(),
        names.collect(),
        Role::Worker,
    );
    rabbit.start_up = BROKER_WAIT;
    rabbit.counters = QueueCounters::register(registry)
        .context("the queue's metrics")
        .map_err(StartError::Internal)?;
    let (queue, _reports) = RabbitQueue::connect(rabbit).await.map_err(|error| {
        let failure = match error {
            QueueError::Refused(_) => StartError::Refused,
            QueueError::Unavailable(_) => StartError::Internal,
        };
        failure(anyhow::Error::new(error).context("--amqp-url / SELVAGE_AMQP_URL"))
    })?;
    Ok(Backends {
        queue,
        cache: Arc::new(cache),
        store: Arc::new(store),
        fleet: Arc::new(fleet),
        clock,
    })
}
