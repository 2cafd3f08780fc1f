//! From settings to a running gateway, and what can be wrong on the way.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry;
use selvage_core::catalog::follow::Follow;
use selvage_core::config::{EXIT_UNAVAILABLE, EXIT_USAGE, OpsListen};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::config::{Mode, Settings};
use crate::models::Models;
use crate::server::serve_ops;
use crate::{App, Backends, changes, descriptors, fleet, serve};

/// What the kernel keeps of an answer that its client does not read, in bytes (it allows itself twice as much). Left to
/// itself it grows to megabytes, and thousands of such clients would take gigabytes. Almost every answer is smaller.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;
/// Connections that wait in the kernel to be accepted; what `TcpListener::bind` takes.
const BACKLOG: u32 = 1024;
const OPS_SETTING: &str = "--ops-listen / SELVAGE_OPS_LISTEN";
const LISTEN_SETTING: &str = "--listen / SELVAGE_LISTEN";

/// Why a start failed; each ends with another exit code.
#[derive(Debug)]
pub enum StartError {
    /// A setting, or a file a setting points to, is wrong.
    Usage(anyhow::Error),
    /// A dependency refused us for good.
    Refused(anyhow::Error),
    /// Something else; trying again may help.
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

/// What is read from files before anything is opened: their mistakes end the start at once.
pub struct Prepared {
    access: Access,
    /// Which model a request means.
    pub(crate) models: Models,
}

/// Runs a gateway until `shutdown` fires and it has drained.
///
/// # Errors
/// See [`StartError`].
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), StartError> {
    let mode = settings
        .mode()
        .map_err(|error| StartError::Usage(error.into()))?;
    let models = Models::of(&settings)?;
    let access = access(&settings)?;
    descriptors::make_room(settings.max_connections);
    let ports = Ports::bind(&settings)?;
    announce(&settings, &models);
    let prepared = Prepared { access, models };
    match mode {
        Mode::Fleet => run_fleet(&settings, prepared, ports, shutdown).await,
        Mode::Embedded => run_embedded(&settings, prepared, ports, shutdown).await,
    }
}

/// The addresses this gateway takes. Connections are refused until they are opened: a port that is open and silent while
/// models are warmed looks like a gateway that hangs.
pub struct Ports {
    main: TcpSocket,
    ops: Option<TcpSocket>,
}

impl Ports {
    /// Takes the addresses, so that one that is taken ends the start at once.
    fn bind(settings: &Settings) -> Result<Self, StartError> {
        let main = bind(settings.listen)
            .and_then(|socket| {
                // Connections inherit it.
                socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
                Ok(socket)
            })
            .map_err(|error| unusable(LISTEN_SETTING, settings.listen, error))?;
        let ops = match settings.ops_listen {
            OpsListen::Off => None,
            OpsListen::At(address) => {
                Some(bind(address).map_err(|error| unusable(OPS_SETTING, address, error))?)
            }
        };
        Ok(Self { main, ops })
    }

    /// Opens the ports, and logs the addresses as they are: a port may have been 0. The operator's is served from now on.
    pub(crate) fn listen(self, settings: &Settings, app: &App) -> Result<TcpListener, StartError> {
        if let Some(socket) = self.ops {
            let address = socket
                .local_addr()
                .map_err(|error| StartError::Internal(error.into()))?;
            let listener = socket.listen(BACKLOG);
            let listener = listener.map_err(|error| unusable(OPS_SETTING, address, error))?;
            tracing::info!(ops_addr = %address, "health and metrics on http://{address}");
            app.life.tasks.spawn(serve_ops(app.clone(), listener));
        }
        let listener = self.main.listen(BACKLOG);
        let listener =
            listener.map_err(|error| unusable(LISTEN_SETTING, settings.listen, error))?;
        if let Ok(addr) = listener.local_addr() {
            tracing::info!(%addr, "listening on http://{addr}");
        }
        Ok(listener)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn unusable(setting: &str, address: SocketAddr, error: io::Error) -> StartError {
    let context = format!("{setting}: cannot listen on {address}");
    StartError::Usage(anyhow::Error::new(error).context(context))
}

/// One line with the settings as they are in effect; addresses show neither user nor password.
fn announce(settings: &Settings, models: &Models) {
    let shared = &settings.shared;
    let shown = |url: Option<String>| url.unwrap_or_else(|| "none".to_owned());
    let catalog = models.catalog();
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
        default_model = models.default_name(),
        max_in_flight = settings.max_in_flight,
        max_body = settings.max_body,
        max_pixels = shared.max_pixels,
        default_wait_s = settings.default_wait,
        max_wait_s = settings.max_wait,
        job_deadline_s = settings.job_deadline,
        job_ttl_s = shared.job_ttl,
        cache_ttl_s = shared.cache_ttl,
        drain_timeout_s = settings.drain_timeout,
        max_connections = settings.max_connections,
        max_connections_per_address = settings.limits().max_connections_per_address,
        rate_per_address = shown(settings.rate_per_address.map(|rate| rate.to_string())),
        api_keys = shown(
            settings
                .api_keys
                .as_ref()
                .map(|file| file.display().to_string())
        ),
        "selvage-gateway {}",
        env!("CARGO_PKG_VERSION"),
    );
}

async fn run_fleet(
    settings: &Settings,
    prepared: Prepared,
    ports: Ports,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let registry = Registry::new();
    let (Some(amqp), Some(redis)) = (&settings.shared.amqp_url, &settings.shared.redis_url) else {
        return Err(StartError::Usage(anyhow::anyhow!(
            "a fleet needs a broker and a store"
        )));
    };
    let opening = async {
        // Not held for longer: a model that somebody holds counts as one that requests ask for.
        let catalog = prepared.models.catalog();
        fleet::open(settings, (amqp, redis), &catalog, &registry).await
    };
    let Some(backends) = shutdown.run_until_cancelled(opening).await else {
        return Ok(());
    };
    let backends = backends?;
    let (queue, clock) = (Arc::clone(&backends.queue), backends.clock.clone());
    let workers = Arc::clone(&backends.fleet);
    let app = start(settings, prepared, backends, &registry)?;
    let time = fleet::keep_time(clock, workers, app.life.stop.clone());
    app.life.tasks.spawn(time);
    let listener = ports.listen(settings, &app)?;
    let served = serve(app, listener, shutdown).await;
    queue.close().await;
    served.map_err(|error| StartError::Internal(error.into()))
}

/// Puts the gateway together.
pub(crate) fn start(
    settings: &Settings,
    prepared: Prepared,
    backends: Backends,
    registry: &Registry,
) -> Result<App, StartError> {
    let Prepared { access, models } = prepared;
    let follow = Follow::new(
        settings.shared.models_source(),
        &models.catalog().unshared(),
    );
    let app = App::start(settings.limits(), access, models, backends, registry)
        .context("the gateway's metrics")
        .map_err(StartError::Internal)?;
    selvage_core::trace::register(registry)
        .context("the metrics of traces")
        .map_err(StartError::Internal)?;
    let life = &app.life;
    life.tasks
        .spawn(changes::run(app.clone(), follow, life.stop.clone()));
    Ok(app)
}

fn access(settings: &Settings) -> Result<Access, StartError> {
    let Some(file) = &settings.api_keys else {
        return Ok(Access::open(settings.rate_per_address));
    };
    let read = Access::from_file(file).context("--api-keys / SELVAGE_API_KEYS");
    read.map_err(StartError::Usage)
}

#[cfg(feature = "embedded")]
use crate::embedded::run as run_embedded;

#[cfg(not(feature = "embedded"))]
#[expect(
    clippy::unused_async,
    reason = "the same signature as with the feature"
)]
async fn run_embedded(
    _settings: &Settings,
    _prepared: Prepared,
    _ports: Ports,
    _shutdown: CancellationToken,
) -> Result<(), StartError> {
    Err(StartError::Usage(anyhow::anyhow!(
        "--amqp-url / SELVAGE_AMQP_URL and --redis-url / SELVAGE_REDIS_URL are not set, and this program was built \
         without embedded mode"
    )))
}
