//! Runs a gateway in the mode its settings ask for.

use std::sync::Arc;

use prometheus::Registry;
use selvage_core::catalog::Catalog;
use selvage_core::job::ModelName;
use selvage_core::program::StartError;
use selvage_core::program::config::or_none;
use tokio_util::sync::CancellationToken;

use crate::http::access::Access;
use crate::http::server::serve;
use crate::program::config::{Mode, Settings};
use crate::program::start::{Ports, Prepared, start};
use crate::program::{descriptors, fleet};
use crate::service::models::Models;

/// Runs a gateway until `shutdown` fires and it has drained.
///
/// # Errors
/// See [`StartError`].
pub async fn run(settings: &Settings, shutdown: CancellationToken) -> Result<(), StartError> {
    let mode = settings
        .mode()
        .map_err(|error| StartError::Usage(error.into()))?;
    let models = open_models(settings)?;
    let access = access(settings)?;
    descriptors::make_room(settings.max_connections);
    let ports = Ports::bind(settings)?;
    announce(settings, &models);
    let prepared = Prepared { access, models };
    match mode {
        Mode::Fleet => run_fleet(settings, prepared, ports, shutdown).await,
        Mode::Embedded => run_embedded(settings, prepared, ports, shutdown).await,
    }
}

/// One line with the settings as they are in effect; addresses show neither user nor password.
fn announce(settings: &Settings, models: &Models) {
    let shared = &settings.shared;
    tracing::info!(
        amqp_url = or_none(shared.amqp_url.as_ref()),
        redis_url = or_none(shared.redis_url.as_ref()),
        cache_url = or_none(shared.cache_url.as_ref()),
        otlp_url = or_none(shared.trace.otlp_url.as_ref()),
        prefix = shared.prefix.as_str(),
        models = models.catalog().names(),
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
        rate_per_address = or_none(settings.rate_per_address.as_ref()),
        api_keys = or_none(
            settings
                .api_keys
                .as_ref()
                .map(|file| file.display())
                .as_ref()
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
    let queue = Arc::clone(&backends.queue);
    let app = start(settings, prepared, backends, &registry)?;
    let listener = ports.listen(&app)?;
    let served = serve(app, listener, shutdown).await;
    queue.close().await;
    served.map_err(|error| StartError::Internal(error.into()))
}

fn access(settings: &Settings) -> Result<Access, StartError> {
    let Some(file) = &settings.api_keys else {
        return Ok(Access::open(settings.rate_per_address));
    };
    Access::from_file(file)
        .map_err(|error| StartError::usage("--api-keys / SELVAGE_API_KEYS", error))
}

/// The models of these settings.
///
/// # Errors
/// [`StartError::Usage`] where the folder, a model in it or the default model is wrong.
pub(crate) fn open_models(settings: &Settings) -> Result<Models, StartError> {
    let catalog = Catalog::read(&settings.shared.models)
        .map_err(|error| StartError::usage("--models / SELVAGE_MODELS", error))?;
    let models = Models::new(Arc::new(catalog), settings.default_model.as_ref());
    models.map_err(|name| StartError::Usage(no_such_model(name.as_ref())))
}

fn no_such_model(name: Option<&ModelName>) -> anyhow::Error {
    match name {
        Some(name) => anyhow::anyhow!(
            "--default-model / SELVAGE_DEFAULT_MODEL: the models folder has no `{name}`"
        ),
        None => anyhow::anyhow!("--models / SELVAGE_MODELS: the folder has no model"),
    }
}

#[cfg(feature = "embedded")]
use crate::program::embedded::run as run_embedded;

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
